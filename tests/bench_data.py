"""Measure how fast images are read: python tests/bench_data.py, 2 to 3 minutes.

Writes 2,000 smooth JPEGs of 178x218, the size of CelebA's, and reads them in batches of
64, cropped to 108x108 and resized to 64x64. The ways take turns, each in a process. The
best round of each counts, because other load can only slow it down. The more detail the
images have, the more time all ways spend in libjpeg, and the less they differ.

Then trains the full 64x64 model on these images for some iterations, and prints which
part of the time it waited for data. The minutes are for 2 cores.
"""

import collections
import contextlib
import os
import subprocess
import sys
import tempfile
import time
import timeit
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from dcgan.data.dataset import open_dataset
from dcgan.data.idx import write_idx

IMAGES, BATCH, ROUNDS, ITERATIONS = 2000, 64, 5, 40
MNIST_IMAGES = 70000
EPOCH_BATCHES = 31  # of JPEGs at least, because none are decoded beyond an epoch
WAYS = {
    'inline': {},
    'with 2 workers': {'num_workers': 2},
    'from the cache': {'cache': True},
}


def main():
    if len(sys.argv) > 1:
        print(rate(*sys.argv[1:]))
        return
    with tempfile.TemporaryDirectory() as root:
        make_data(root, ['64'], BATCH)
        folder = f'{root}/data/jpegs'
        sizes = [path.stat().st_size for path in Path(folder).iterdir()]
        print(f'JPEGs of {np.mean(sizes) / 1000:.1f} kB, {os.cpu_count()} cores\n')
        rates = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                command = [sys.executable, __file__, way, folder]
                rates[way].append(float(subprocess.check_output(command)))
        for way, values in rates.items():
            speedup = max(values) / max(rates['inline'])
            print(f'{way:16}{max(values):12,.0f} images/s{speedup:8.2f} of inline')
        print(f'\nTraining the 64x64 model, batch {BATCH}, {ITERATIONS} iterations:')
        for way in WAYS:
            step, waited = train(root, way)
            print(
                f'{way}: {step * 1000:,.0f} ms a step, {waited * 1000:.1f} ms '
                f'({waited / step:.1%}) of it waiting for data'
            )


def make_data(root, sizes, batch):
    """Write the random data sets that sizes of bench.py need to root/data.

    The JPEGs fill EPOCH_BATCHES batches, if need be by links to the same files.
    """
    rng = np.random.RandomState(0)
    if 'mnist' in sizes:
        mnist = f'{root}/data/mnist'
        os.makedirs(mnist)
        images = rng.randint(0, 256, (MNIST_IMAGES, 28, 28)).astype(np.uint8)
        write_idx(f'{mnist}/train-images-idx3-ubyte', images)
        labels = rng.randint(0, 10, MNIST_IMAGES).astype(np.uint8)
        write_idx(f'{mnist}/train-labels-idx1-ubyte', labels)
    if set(sizes) - {'mnist'}:
        jpegs = f'{root}/data/jpegs'
        os.makedirs(jpegs)
        for i in range(IMAGES):
            coarse = rng.randint(0, 256, (10, 8, 3)).astype(np.uint8)
            image = Image.fromarray(coarse).resize((178, 218), Image.BICUBIC)
            image.save(f'{jpegs}/{i:06d}.jpg')
        for i in range(IMAGES, EPOCH_BATCHES * batch):
            os.symlink(f'{i % IMAGES:06d}.jpg', f'{jpegs}/{i:06d}.jpg')


def rate(way, folder):
    """Images per second in three passes, after one pass to warm up."""
    dataset = open_dataset(folder, None, (64, 64), (108, 108), 1, 0, **WAYS[way])
    count = IMAGES // BATCH

    def read_all():
        collections.deque(dataset.batches(BATCH, count), maxlen=0)

    _, *seconds = timeit.repeat(read_all, number=1, repeat=4)
    return 3 * count * BATCH / sum(seconds)


def train(root, way):
    """Seconds of an iteration of main.py, and seconds of it spent waiting for data."""
    from conftest import run_in_process

    from dcgan.training import loop

    flags = [f'--{name}={value}' for name, value in WAYS[way].items()]
    flags += ['--epoch', 2, '--train_size', ITERATIONS // 2 * BATCH, '--out_name', way]
    fed_ahead, waits, times = loop.fed_ahead, [], []

    def timed(*args):
        with contextlib.closing(fed_ahead(*args)) as feeder:
            times.append(time.perf_counter())
            for position in feeder:
                waits.append(time.perf_counter() - times[-1])
                yield position
                times.append(time.perf_counter())

    with mock.patch.object(loop, 'fed_ahead', timed):
        data = ['--dataset', 'jpegs', '--crop', '--output_height', 64]
        result = run_in_process('--train', *data, *flags, cwd=root)
    assert result.returncode == 0, result.stderr
    return (times[-1] - times[0]) / ITERATIONS, sum(waits) / ITERATIONS


if __name__ == '__main__':
    main()
