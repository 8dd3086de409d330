"""Start or join the processes that train one model; agree on flags; report errors."""

import contextlib
import hashlib
import os
import platform
import shlex
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import tensorflow.compat.v1 as tf

from dcgan.compute.cluster import LocalWorkers, read_cluster
from dcgan.compute.devices import has_gpu
from dcgan.compute.session import lacks_memory
from dcgan.compute.workers import Workers
from dcgan.data.image_folder import UnusableImages
from dcgan.runs.settings import Settled, make_missing_data, settle_training
from dcgan.training.checkpoints import usable_checkpoint
from dcgan.util.errors import UserError, escape, short_reason
from dcgan.util.files import write_bytes
from dcgan.util.flags import Flags

ROOT = Path(__file__).parents[2]
TOP_FILES = ('main.py', 'model.py', 'ops.py', 'utils.py', 'download.py')
FORESEEN = (UserError, OSError, tf.app.flags.Error)


@contextlib.contextmanager
def joined(config, flags: Flags, script: str) -> Iterator[tuple[Workers, Settled]]:
    """The Workers that train together, and what they train; settles config.

    TF_CONFIG or --workers name them; otherwise, this process is alone. Workers that are
    started here run `script`, which is main.py. Only the chief prints. Raises UserError
    on all of them where code, versions or flags differ, or where a worker is lost.
    """
    cluster, local = read_cluster(os.environ.get('TF_CONFIG', '')), None
    if config.workers > 1:
        if cluster:
            raise UserError('--workers and TF_CONFIG exclude each other; leave out one')
        if not flags.given('num_workers'):
            config.num_workers = max(1, config.num_workers // config.workers)
        local = LocalWorkers(config.workers)
        cluster = local.cluster
    workers = Workers(cluster, config.worker_timeout)
    settled = settle_training(config, flags) if workers.is_chief else None
    with contextlib.ExitStack() as stack:
        if workers.is_chief:
            workers.split_batch(config.batch_size)
        if local:
            stack.push(local)
            # they take other flags from the chief
            names = ('data_dir', 'cache', 'num_workers', 'worker_timeout', 'debug')
            given = [f'--{name}={getattr(config, name)}' for name in names]
            local.start([script, '--train', *given])
        workers.connect(local.check if local else lambda: None)
        if not workers.is_chief:
            # what the chief prints, too
            dropped = stack.enter_context(open(os.devnull, 'w', errors='replace'))
            stack.enter_context(contextlib.redirect_stdout(dropped))
        if workers.count > 1:
            workers.require_same(versions())
            settled = agree(workers, config, flags, settled)
            if config.xla:
                print(' [!] --xla is ignored: XLA cannot compile for several workers')
        try:
            with workers.errors(lambda: resume_advice(config, workers.is_chief)):
                yield workers, settled
        except UnusableImages as error:
            if workers.is_chief:
                raise
            raise UserError(str(error)) from error  # the chief writes their names


def agree(workers: Workers, config, flags: Flags, settled: Settled | None) -> Settled:
    """Take the flags and what is settled from the chief.

    Raises UserError, on all workers, where one was given other flags.
    """
    names, local = flags.names('model', 'data', 'training'), flags.names('local')
    names = [name for name in names if name not in local]
    values = {name: getattr(config, name) for name in names}
    given = {name: flags[name].value for name in flags.given(*names)}
    dims = settled and (settled.y_dim, settled.c_dim)
    told = workers.exchange([values, given, dims])
    values, chiefs, dims = told[0]
    for task, (_, given, _) in zip(workers.tasks, told):
        for name, value in given.items():
            expected = chiefs.get(name, values[name])
            if value != expected:
                problem = f'has --{name} {value}, and the chief {expected}'
                raise UserError(f'{task}: {problem}; give all workers the same flags')
    if workers.is_chief:
        return settled
    is_outside = flags.given('labels') and os.path.isabs(values['labels'])
    vars(config).update({**values, 'labels': config.labels} if is_outside else values)
    make_missing_data(os.path.join(config.data_dir, config.dataset))
    return Settled(None, *dims)


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


@contextlib.contextmanager
def reported(config) -> Iterator[None]:
    """Leave error.txt in the run folder, or in --out_dir, for an error not FORESEEN."""
    out_dir = config.out_dir
    try:
        yield
    except FORESEEN:
        raise
    except Exception as error:
        if lacks_memory(error) or lacks_memory(error.__context__):
            reason = f'out of memory ({short_reason(error):.200})'
            advice = 'lower --batch_size, --max_filters or --output_height'
            raise UserError(f'{reason}; {advice}') from error
        with contextlib.suppress(Exception):  # of the report: the first one is raised
            is_native = isinstance(error, tf.errors.OpError)  # its traceback is long
            about = {'command': sys.argv, 'system': platform.platform(), **versions()}
            pairs = {**about, **vars(config)}.items()
            lines = [traceback.format_exc(), *(f'{name}: {x}' for name, x in pairs)]
            folder = next(filter(os.path.isdir, [config.out_dir, out_dir]))
            path = os.path.join(folder, 'error.txt')
            write_bytes(path, '\n'.join(lines).encode(errors='backslashreplace'))
            if config.debug or not is_native:
                traceback.print_exc()
            reason = f'{escape(short_reason(error))}; ' if is_native else ''
            sys.exit(f'main.py: {reason}{path} has what a report of this error needs')
        raise
