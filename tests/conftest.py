"""Helpers of the tests: small data sets, small models, runs of the command line."""

import contextlib
import io
import os
import pickle
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from unittest import mock

CACHE = tempfile.TemporaryDirectory()  # of compiled programs, for this test run
os.environ['XDG_CACHE_HOME'] = CACHE.name
# several processes share a GPU
os.environ.setdefault('TF_FORCE_GPU_ALLOW_GROWTH', 'true')

import main  # comes first, because it silences the log of TensorFlow

# isort: split
import numpy as np
import pytest
import scipy.io
import tensorflow.compat.v1 as tf
from absl.testing.flagsaver import flagsaver
from forked import Forked, start_server
from PIL import Image
from tensorflow.python.framework.config import disable_op_determinism

from dcgan.data.idx import write_idx
from dcgan.util.signals import stop_signals
from model import DCGAN

ROOT = Path(__file__).parent.parent
HOST = 'hub.example.org'  # in the browser, a name of this machine
# flags of a small model
SMALL = ['--batch_size', 8, '--z_dim', 6, '--output_height', 16]
SMALL += ['--gf_dim', 4, '--df_dim', 4, '--gfc_dim', 8, '--dfc_dim', 8]


def pytest_configure():
    """Compute with one thread for each op: the tests use both cores already."""
    os.environ.setdefault('TF_NUM_INTRAOP_THREADS', '1')


def write_idx_set(folder, count=40, size=8, classes=4, prefix='train'):
    """Write a labelled set of random images as IDX files; returns images, labels.

    Images are uint8 [count, size, size], labels uint8 [count]. The labels are the
    classes in turn: 0, 1, ..., classes - 1, 0, 1, ...
    """
    rng = np.random.RandomState(0)
    images = rng.randint(0, 256, (count, size, size)).astype(np.uint8)
    labels = (np.arange(count) % classes).astype(np.uint8)
    write_idx(f'{folder}/{prefix}-images-idx3-ubyte', images)
    write_idx(f'{folder}/{prefix}-labels-idx1-ubyte', labels)
    return images, labels


def write_batches(folder, kind='.bin', count=20, protocol=2):
    """Write random images as batches; returns images [2 * count, 32, 32, 3], labels.

    `kind` is .bin or, for pickles, nothing, of CIFAR-10; .mat is of SVHN.
    """
    rng = np.random.RandomState(0)
    pixels = rng.randint(0, 256, (2, count, 3072)).astype(np.uint8)
    labels = (np.arange(2 * count) % 10).astype(np.uint8).reshape(2, count)
    images = pixels.reshape(2, count, 3, 32, 32).transpose(0, 1, 3, 4, 2)
    os.makedirs(folder, exist_ok=True)
    for i in range(2):
        path = Path(folder, ('data_batch_1', 'test_batch')[i] + kind)
        if kind == '.mat':
            arrays = {'X': images[i].transpose(1, 2, 3, 0), 'y': labels[i][:, None]}
            arrays['y'][arrays['y'] == 0] = 10
            path = Path(folder, ('train', 'test')[i] + '_32x32.mat')
            scipy.io.savemat(path, arrays, do_compression=i == 0)
        elif kind:
            rows = np.concatenate([labels[i][:, None], pixels[i]], axis=1)
            path.write_bytes(rows.tobytes())
        else:
            batch = {b'labels': labels[i].tolist(), b'data': pixels[i]}
            batch[b'filenames'] = [b'leptodactylus_s_000004.png', b'labels.png']
            path.write_bytes(pickle.dumps(batch, protocol))
    labels = labels % 10  # savemat's 10 is the digit 0
    return np.concatenate(images), np.concatenate(labels)


def write_images(folder, count=10, size=(20, 24), ending='png'):
    """Write random RGB images, of `size` (width, height), to 000.png, 001.png, ..."""
    rng = np.random.RandomState(0)
    os.makedirs(folder, exist_ok=True)
    for i in range(count):
        pixels = rng.randint(0, 256, (size[1], size[0], 3)).astype(np.uint8)
        Image.fromarray(pixels).save(f'{folder}/{i:03d}.{ending}')


@pytest.fixture(scope='session')
def tiny_runs(tmp_path_factory):
    """A working folder that tests only read, with two trained runs, `set` and `cats`.

    `set` is a labelled set of 4 classes, `cats` has 20x24 RGB images; 24 images each.
    Each run has 3 iterations, and a checkpoint and a grid of each; `set` has curves.
    """
    start_server()  # it is ready when the runs are
    folder = tmp_path_factory.mktemp('tiny')
    write_idx_set(folder / 'data' / 'set', count=24, size=16)
    write_images(folder / 'data' / 'cats', count=24)
    often = ['--sample_freq', 1, '--ckpt_freq', 1, '--max_to_keep', 0, '--epoch', 1]
    for name in ('set', 'cats'):
        args = ['--dataset', name, *often, *SMALL, '--seed', 1]
        printed = use(folder, name, '--train', *args, with_curves=name == 'set')
        (folder / f'{name}.txt').write_text(printed)
    return folder


@pytest.fixture(scope='module')
def workspace(tiny_runs, tmp_path_factory):
    """A copy of tiny_runs, to which the tests of a file add files."""
    return shutil.copytree(tiny_runs, tmp_path_factory.mktemp('copy') / 'tiny')


@pytest.fixture
def tiny_copy(tiny_runs, tmp_path):
    """A copy of tiny_runs, which a test may change."""
    return shutil.copytree(tiny_runs, tmp_path / 'tiny')


@pytest.fixture(scope='module')
def browser():
    """A Chromium without a window. Its tests are skipped where it is missing."""
    playwright = pytest.importorskip('playwright.sync_api')
    chromium = shutil.which('chromium') or shutil.which('chromium-browser')
    if not chromium:
        pytest.skip('no Chromium on this machine')
    options = ['--no-sandbox', '--disable-dev-shm-usage']
    options += [f'--host-resolver-rules=MAP {HOST} 127.0.0.1']
    with (
        playwright.sync_playwright() as driver,
        driver.chromium.launch(executable_path=chromium, args=options) as browser,
    ):
        yield browser


@pytest.fixture
def sess():
    """A session with a new graph, in which TensorFlow's seed is 1."""
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        yield session


@pytest.fixture
def make_dcgan(sess):
    """A function that builds a tiny model and initializes its weights.

    It takes the keyword arguments of DCGAN, a session if it is not `sess`, and `model`,
    a subclass. Without arguments, the model is not conditional and has no data set.
    """
    settings = dict(batch_size=6, sample_num=6, z_dim=5, data_dir=None)
    settings |= dict(output_height=16, output_width=16)
    settings |= dict(gf_dim=4, df_dim=4, gfc_dim=8, dfc_dim=8)

    def make(session=sess, model=DCGAN, **changes):
        dcgan = model(session, **{**settings, **changes})
        session.run(tf.global_variables_initializer())
        return dcgan

    return make


def command(script, *args, python_flags=()):
    """Return the command that runs a script of the project, as a list of strings."""
    return [sys.executable, *python_flags, str(ROOT / script), *map(str, args)]


def start(script, *args, cwd, **env):
    """Start a script of the project, see Forked; `env` are environment variables."""
    environment = {**clean_environment(), **env}
    return Forked(ROOT / script, *args, cwd=cwd, environment=environment)


def run(script, *args, cwd, **env):
    """Run a script as `start` does, to its end; returns what subprocess.run does."""
    with start(script, *args, cwd=cwd, **env) as process:
        return process.wait()


def with_pipes(cwd, **env):
    """Keyword arguments of subprocess.run and Popen for a new process with pipes."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return {'cwd': cwd, 'env': {**clean_environment(), **env}, **pipes}


def run_code(code, *args, cwd):
    """Run Python code that may import the project, in a new process."""
    code_and_args = [sys.executable, '-c', code, *map(str, args)]
    options = with_pipes(cwd, PYTHONPATH=str(ROOT))
    return subprocess.run(code_and_args, timeout=300, **options)


def run_anew(script, *args, cwd, python_flags=(), **env):
    """Run a script in a new process: it takes seconds, to import TensorFlow."""
    line = command(script, *args, python_flags=python_flags)
    return subprocess.run(line, timeout=300, **with_pipes(cwd, **env))


def run_in_process(*args, cwd, model=DCGAN, with_curves=False):
    """Run main.py in this process, which saves the time to start another one.

    Returns the same as run('main.py', *args, cwd=cwd), except that stdout and stderr
    lack the output of native code. `model` is DCGAN or a subclass. curves.png, which
    takes a fifth of the time of a short training, is drawn only with_curves.
    """
    curves = contextlib.nullcontext()
    if not with_curves:
        curves = mock.patch('dcgan.record.recorder.draw_curves')
    stdout, stderr, cwd_before = io.StringIO(), io.StringIO(), os.getcwd()
    handlers = {n: signal.getsignal(n) for n in stop_signals()}
    os.chdir(cwd)
    try:
        with (
            curves,
            mock.patch('threading.excepthook', threading.excepthook),  # restores it
            flagsaver(),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            tf.Graph().as_default(),
        ):
            main.run(['main.py', *map(str, args)], model)
    except SystemExit as error:
        status = error.code or 0
    finally:
        disable_op_determinism()  # which --seed enables
        os.chdir(cwd_before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    if isinstance(status, str):  # Python prints this message when the process exits
        print(status, file=stderr)
        status = 1
    return subprocess.CompletedProcess(
        args, status, stdout.getvalue(), stderr.getvalue()
    )


def at_line(module, part, act):
    """Have `act` called when `module` has printed a line with `part`."""

    def print_and_act(line):
        print(line)
        if part in line:
            act()

    return mock.patch(f'{module}.print_line', print_and_act)


def interrupting(module, part, number=signal.SIGINT):
    """Have this process get a signal when `module` has printed a line with `part`."""
    return at_line(module, part, lambda: signal.raise_signal(number))


@contextlib.contextmanager
def bounded(seconds=10, kibibytes=1 << 20):
    """Fail if the block takes longer, or needs more memory than was used before."""

    def stop(number, frame):
        pytest.fail(f'this takes over {seconds} s')  # no code takes it for its error

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < peak + kibibytes


def use(workspace, name, *args, **settings):
    """Run main.py on a run, in this process and without an error; returns stdout."""
    result = run_in_process('--out_name', name, *args, cwd=workspace, **settings)
    assert result.returncode == 0, result.stderr
    return result.stdout


def printed_paths(workspace, result):
    """Return the paths that a successful run of main.py printed."""
    assert result.returncode == 0 and result.stderr == '', result.stderr
    paths = re.findall(r'^ \[\*\] (\./out/[^:,\n]+)', result.stdout, re.MULTILINE)
    return [str(workspace / path) for path in paths]


def read_checkpoint(checkpoint_dir):
    """Return {variable name: array} of the newest checkpoint in a folder."""
    reader = tf.train.load_checkpoint(str(checkpoint_dir))
    return {n: reader.get_tensor(n) for n in reader.get_variable_to_shape_map()}


def pixels(path):
    """Return the pixels of an image file as integers."""
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def weights(workspace, name):
    """Return read_checkpoint of a run."""
    return read_checkpoint(workspace / 'out' / name / 'checkpoint')


def same(a, b):
    """Whether dicts of arrays, as of read_checkpoint, agree in all that `a` has."""
    return all((a[name] == b[name]).all() for name in a)


def clean_environment():
    """The environment variables, except those that importing main.py has set."""
    set_by_main = ('TF_CPP_MIN_LOG_LEVEL', 'TF_USE_LEGACY_KERAS')
    return {k: v for k, v in os.environ.items() if k not in set_by_main}
