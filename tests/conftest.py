"""What the tests share: tiny data sets, tiny models, and the real command line."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import main  # before TensorFlow, whose import it makes quiet

# isort: split
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from absl.testing.flagsaver import flagsaver
from PIL import Image

from dcgan.idx import write_idx
from model import DCGAN

ROOT = Path(__file__).parent.parent
SMALL = ['--batch_size', 8, '--z_dim', 6, '--output_height', 16]  # and small networks
SMALL += ['--gf_dim', 4, '--df_dim', 4, '--gfc_dim', 8, '--dfc_dim', 8]


def write_idx_set(folder, count=40, size=8, classes=4, prefix='train'):
    """A labelled set of random pictures in IDX files."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (count, size, size)).astype(np.uint8)
    labels = (np.arange(count) % classes).astype(np.uint8)
    write_idx(f'{folder}/{prefix}-images-idx3-ubyte', images)
    write_idx(f'{folder}/{prefix}-labels-idx1-ubyte', labels)
    return images, labels


def write_pictures(folder, count=10, size=(20, 24), ending='png'):
    """A folder of random RGB pictures, width x height."""
    rng = np.random.RandomState(0)
    os.makedirs(folder, exist_ok=True)
    for i in range(count):
        pixels = rng.randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f'{folder}/{i:03d}.{ending}')


@pytest.fixture
def sess():
    """A session on a graph of its own."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        yield session


@pytest.fixture
def tiny(sess):
    """A maker of tiny models with initial weights; keyword arguments are DCGAN's."""

    def make(session=sess, **changes):
        settings = dict(
            batch_size=6, sample_num=6, output_height=16, output_width=16, z_dim=5
        )
        settings.update(gf_dim=4, df_dim=4, gfc_dim=8, dfc_dim=8, data_dir=None)
        dcgan = DCGAN(session, **{**settings, **changes})
        session.run(tf.global_variables_initializer())
        return dcgan

    return make


def command(script, *args, python_flags=()):
    """What a user would type to run a script of the project."""
    return [sys.executable, *python_flags, str(ROOT / script), *map(str, args)]


def run(script, *args, cwd, python_flags=(), **env):
    """Run a script of the project as a user would, in a folder of their own."""
    return subprocess.run(
        command(script, *args, python_flags=python_flags),
        cwd=cwd,
        env={**clean_environment(), **env},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_here(*args, cwd):
    """What run('main.py', ...) gives, in this process: without the time to start one.

    Of what is printed, Python's part.
    """
    out, err = io.StringIO(), io.StringIO()
    before, hook = os.getcwd(), threading.excepthook
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    os.chdir(cwd)
    try:
        with (
            flagsaver(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            tf.Graph().as_default(),
        ):
            main.run(['main.py', *map(str, args)])
    except SystemExit as end:
        result = end.code or 0
    finally:
        os.chdir(before)
        threading.excepthook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if isinstance(result, str):  # which Python prints at its end
        print(result, file=err)
        result = 1
    return subprocess.CompletedProcess(args, result, out.getvalue(), err.getvalue())


def stored(checkpoint_dir):
    """{name: array} of the newest checkpoint in a folder."""
    reader = tf.train.load_checkpoint(str(checkpoint_dir))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def clean_environment():
    """The environment, but for what the import of main.py has set."""
    own = ('TF_CPP_MIN_LOG_LEVEL', 'TF_USE_LEGACY_KERAS')
    return {k: v for k, v in os.environ.items() if k not in own}
