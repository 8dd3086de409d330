"""How a process joins the workers that train one model, and how they end together."""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL
import tensorflow.compat.v1 as tf

from dcgan.cluster import LocalWorkers, read_cluster, silenced
from dcgan.distributed import Workers
from dcgan.errors import UserError
from dcgan.settings import (
    MODEL_FLAGS,
    TRAINING_FLAGS,
    make_missing_data,
    prepare_training,
)

# flags that are not the chief's on all workers
LOCAL_FLAGS = {'data_dir', 'cache', 'gif'}
SHARED_FLAGS = [n for n in MODEL_FLAGS + TRAINING_FLAGS if n not in LOCAL_FLAGS]


@contextlib.contextmanager
def joined(config, flags, script: str) -> Iterator[tuple[Workers, int | None, int]]:
    """The Workers that train together, y_dim or None, and c_dim; settles config.

    By TF_CONFIG or --workers; where neither names others, this process alone. `script`
    is main.py, which the workers run that are started here. A worker that is not the
    chief drops what the block prints, except errors.

    Raises UserError, on all of them, where code, versions or flags differ.
    """
    cluster = read_cluster(os.environ.get('TF_CONFIG', ''))
    if cluster and config.workers > 1:
        raise UserError('--workers and TF_CONFIG exclude each other; leave out one')
    local = LocalWorkers(config.workers) if config.workers > 1 else None
    workers = Workers(local.cluster if local else cluster, config.worker_timeout)
    dims = None
    with contextlib.ExitStack() as stack:
        if not workers.is_chief:
            stack.enter_context(silenced())
        else:
            dims = prepare_training(config, flags)
            workers.take_batch(config.batch_size)
        if local:
            stack.push(lambda kind, error, traceback: local.close(kind is not None))
            local.start(script, given_flags(config, flags))
        workers.connect(local.check if local else lambda: None)
        if workers.count > 1:
            dims = agree(workers, config, flags, dims)
            if config.xla:
                print(' [!] --xla: is left out, as several workers cannot train by XLA')
        yield workers, *dims


def given_flags(config, flags) -> list[str]:
    """The arguments of the command line, except those that the chief alone needs."""
    names = [name for name in vars(config) if name not in ('workers', 'debug')]
    return [flags[name].serialize() for name in names if flags[name].present]


def agree(workers: Workers, config, flags, dims) -> tuple[int | None, int]:
    """Compare code, versions and flags; settle config as the chief's. Returns dims.

    dims  (y_dim or None, c_dim), of the chief
    """
    workers.require_same(versions())
    given = {
        name: getattr(config, name) for name in SHARED_FLAGS if flags[name].present
    }
    settled = {name: getattr(config, name) for name in SHARED_FLAGS}
    texts = workers.exchange(json.dumps([settled, given, dims]))
    told = [json.loads(text) for text in texts]
    settled, _, dims = told[0]
    for task, (_, given, _) in zip(workers.tasks, told):
        for name, value in given.items():
            if value != settled[name]:
                raise UserError(
                    f'{task}: has --{name} {value}, and the chief {settled[name]}; '
                    'give all workers the same flags'
                )
    if not workers.is_chief:
        for name, value in settled.items():
            setattr(config, name, value)
        make_missing_data(config)
    return tuple(dims)


def versions() -> dict[str, str]:
    """What decides on numbers: the versions of packages, and a digest of the code."""
    root = Path(__file__).parent.parent
    files = [*sorted(root.glob('*.py')), *sorted(Path(__file__).parent.glob('*.py'))]
    code = hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()
    return {
        'code': code[:16],
        'Python': '.'.join(platform.python_version_tuple()[:2]),
        'TensorFlow': tf.__version__,
        'NumPy': np.__version__,
        'Pillow': PIL.__version__,
    }
