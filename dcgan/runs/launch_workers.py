"""Start or join the processes that train one model; agree on flags; end together."""

import contextlib
import functools
import hashlib
import json
import os
import platform
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import tensorflow.compat.v1 as tf

from dcgan.compute.cluster import LocalWorkers, read_cluster, silenced
from dcgan.compute.devices import has_gpu
from dcgan.compute.workers import Workers
from dcgan.data.image_folder import UnusableImages
from dcgan.runs.settings import Settled, make_missing_data, settle_training
from dcgan.training.checkpoints import usable_checkpoint
from dcgan.util.errors import UserError
from dcgan.util.flags import Flags

ROOT = Path(__file__).parents[2]
TOP_FILES = ('main.py', 'model.py', 'ops.py', 'utils.py', 'download.py')


@contextlib.contextmanager
def joined(config, flags: Flags, script: str) -> Iterator[tuple[Workers, Settled]]:
    """The Workers that train together, and what they train; settles config.

    TF_CONFIG or --workers name them; otherwise, this process is alone. Workers that are
    started here run `script`, which is main.py. Only the chief prints. Raises UserError
    on all of them where code, versions or flags differ, or where a worker is lost.
    """
    cluster = read_cluster(os.environ.get('TF_CONFIG', ''))
    if cluster and config.workers > 1:
        raise UserError('--workers and TF_CONFIG exclude each other; leave out one')
    is_chief = not (cluster and cluster.index)
    settled = settle_training(config, flags) if is_chief else None
    if config.workers > 1 and not flags.given('num_workers'):
        config.num_workers = max(1, config.num_workers // config.workers)
    statement = state(config, flags, settled)
    arguments = local_arguments(config, flags)
    local = LocalWorkers(config.workers) if config.workers > 1 else None
    workers = Workers(local.cluster if local else cluster, config.worker_timeout)
    with contextlib.ExitStack() as stack:
        if is_chief:
            workers.split_batch(config.batch_size)
        if local:
            stack.push(lambda kind, error, traceback: local.close(kind is not None))
            local.start(script, arguments)
        workers.connect(local.check if local else lambda: None)
        if not is_chief:
            stack.enter_context(silenced())
        if workers.count > 1:
            workers.require_same(versions())
            values, dims = agree(workers.tasks, workers.exchange(statement))
            if not is_chief:
                vars(config).update(values)
                folder = os.path.join(config.data_dir, config.dataset)
                make_missing_data(folder)
                settled = Settled(None, *dims)
            if config.xla:
                print(
                    ' [!] --xla is ignored: XLA cannot compile training with several '
                    'workers'
                )
        try:
            with workers.errors(functools.partial(resume_advice, config, is_chief)):
                yield workers, settled
        except UnusableImages as error:
            if is_chief:
                raise
            raise UserError(str(error)) from error  # the chief writes their names


def local_arguments(config, flags: Flags) -> list[str]:
    """The arguments of main.py in a worker that is started here."""
    settled = {'data_dir', 'cache', 'num_workers', 'workers'}
    given = flags.given(*(name for name in flags.table if name not in settled))
    arguments = [flags[name].serialize() for name in given]
    arguments += ['--cache'] if config.cache else []
    data_dir, num_workers = config.data_dir, config.num_workers
    return [*arguments, f'--data_dir={data_dir}', f'--num_workers={num_workers}']


def state(config, flags: Flags, settled: Settled | None) -> str:
    """What a worker tells the others: flags as settled, as given, and dimensions."""
    names = flags.names('model', 'data', 'training', without='local')
    values = {name: getattr(config, name) for name in names}
    given = {name: flags[name].value for name in flags.given(*names)}
    dims = settled and (settled.y_dim, settled.c_dim)
    return json.dumps([values, given, dims])


def agree(tasks: list, texts: list[str]) -> tuple[dict, list]:
    """The chief's flags and dimensions, from what each task states, the chief first.

    Raises UserError where a task was given other flags.
    """
    told = [json.loads(text) for text in texts]
    values, chiefs, dims = told[0]
    for task, (_, given, _) in zip(tasks, told):
        for name, value in given.items():
            expected = chiefs.get(name, values[name])
            if value != expected:
                raise UserError(
                    f'{task}: has --{name} {value}, and the chief {expected}; give all '
                    'workers the same flags'
                )
    return values, dims


def versions() -> dict[str, str]:
    """What decides on numbers: a digest of the code, versions, and the device."""
    files = [ROOT / name for name in TOP_FILES]
    files += sorted((ROOT / 'dcgan').rglob('*.py'))
    code = hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()
    return {
        'code': code[:16],
        'Python': '.'.join(platform.python_version_tuple()[:2]),
        'TensorFlow': tf.__version__,
        'NumPy': np.__version__,
        'Pillow': PIL.__version__,
        'device': 'GPU' if has_gpu() else 'CPU',
        'DCGAN_PLAIN_OPS': os.environ.get('DCGAN_PLAIN_OPS', ''),
    }


def resume_advice(config, is_chief: bool) -> str:
    """How to go on after a worker was lost."""
    if not is_chief:
        return "start all workers again, with the --out_name of the chief's run"
    name = shlex.quote(config.out_name)
    with contextlib.suppress(UserError):
        path = usable_checkpoint(config.checkpoint_dir)
        return f'start all workers again, with --out_name {name}: it resumes {path}'
    return 'start all workers again'
