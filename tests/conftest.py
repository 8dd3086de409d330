"""What the tests share: tiny data sets, tiny models, and the real command line."""

import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

import utils
from model import DCGAN

ROOT = Path(__file__).parent.parent
SMALL = ['--batch_size', 8, '--z_dim', 6, '--output_height', 16]  # and small networks
SMALL += ['--gf_dim', 4, '--df_dim', 4, '--gfc_dim', 8, '--dfc_dim', 8]
tf.disable_eager_execution()


def write_idx_set(folder, count=40, size=8, classes=4, prefix='train'):
    """A labelled set of random pictures in IDX files."""
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (count, size, size)).astype(np.uint8)
    labels = (np.arange(count) % classes).astype(np.uint8)
    utils.write_idx(f'{folder}/{prefix}-images-idx3-ubyte', images)
    utils.write_idx(f'{folder}/{prefix}-labels-idx1-ubyte', labels)
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


def stored(checkpoint_dir):
    """{name: array} of the newest checkpoint in a folder."""
    reader = tf.train.load_checkpoint(str(checkpoint_dir))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def clean_environment():
    """The environment, but for what conftest set itself."""
    return {k: v for k, v in os.environ.items() if k != 'TF_CPP_MIN_LOG_LEVEL'}
