"""How fast pictures are read: python tests/bench_data.py, 3 to 4 minutes on 2 cores.

Makes 2,000 smooth JPEGs of 178x218, CelebA's size, to crop to 108x108 and resize to
64x64, in batches of 64. Each way of reading runs in a process of its own, in turn, and
its best round counts, for what disturbs can only slow it. Then it trains the full 64x64
model on them for some iterations, and tells what share of them it waited for data.

The busier the pictures, the more all ways spend in libjpeg, and the closer they get.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from dcgan.datasets import open_dataset

PICTURES, BATCH, ROUNDS, ITERATIONS = 2000, 64, 5, 40


def main():
    if len(sys.argv) > 1:
        print(rate(*sys.argv[1:]))
        return
    with tempfile.TemporaryDirectory() as data_dir:
        folder = os.path.join(data_dir, 'jpegs')
        size = make_jpegs(folder)
        print(f'{PICTURES} JPEGs of {size / 1000:.1f} kB, {os.cpu_count()} cores')
        check(folder)
        rates = {way: [] for way in WAYS}
        for _ in range(ROUNDS):
            for way in WAYS:
                command = [sys.executable, __file__, way, folder]
                rates[way].append(float(subprocess.check_output(command)))
        report({way: max(values) for way, values in rates.items()})
        print(f'\nTraining the 64x64 model, batch {BATCH}, {ITERATIONS} iterations:')
        for options in ({'num_workers': 0}, {'num_workers': 2}, {'cache': True}):
            step, waited = train(data_dir, options)
            print(
                f'{options}: {step * 1000:,.0f} ms each, {waited * 1000:.1f} ms '
                f'({waited / step:.1%}) of them waiting for data'
            )


def make_jpegs(folder):
    """Write random pictures, and return their mean size in bytes."""
    rng = np.random.RandomState(0)
    os.makedirs(folder)
    for i in range(PICTURES):
        coarse = rng.randint(0, 256, (10, 8, 3)).astype(np.uint8)
        picture = Image.fromarray(coarse).resize((178, 218), Image.BICUBIC)
        picture.save(f'{folder}/{i:06d}.jpg')
    return sum(path.stat().st_size for path in Path(folder).iterdir()) / PICTURES


# Ways to read: each prepares, and returns a function that yields all batches once


def straightforward(folder):
    """The original's way, and SciPy 1.1's, on which it built: float32 in [-1, 1]."""
    files = sorted(str(path) for path in Path(folder).glob('*.jpg'))

    def batches():
        for start in range(0, PICTURES - BATCH + 1, BATCH):
            chunk = files[start : start + BATCH]
            batch = [straightforward_picture(path) for path in chunk]
            yield np.array(batch).astype(np.float32)

    return batches


def straightforward_picture(path):
    x = np.array(Image.open(path).convert('RGB')).astype(np.float64)
    h, w = x.shape[:2]
    j, i = int(round((h - 108) / 2.0)), int(round((w - 108) / 2.0))
    x = x[j : j + 108, i : i + 108]
    low, high = 0.0, 255.0
    scale = (high - low) / (x.max() - x.min())
    x = (x - x.min()) * scale + low
    x = (x.clip(low, high) + 0.5).astype(np.uint8)
    x = np.array(Image.fromarray(x).resize((64, 64), Image.BILINEAR))
    return np.array(x) / 127.5 - 1.0


def ours(folder, **options):
    """The bytes of our data set."""
    dataset = open_dataset(folder, None, (64, 64), (108, 108), 1, 0, **options)
    return lambda: (im for im, _ in dataset.batches(BATCH, PICTURES // BATCH))


def ours_as_floats(folder):
    """The same numbers as the straightforward way gives."""
    batches, floats = ours(folder), np.empty((BATCH, 64, 64, 3), np.float32)
    return lambda: (as_floats(images, floats) for images in batches())


def as_floats(images, out=None):
    """Bytes as model.py feeds them: in [-1, 1], without new memory."""
    pixels = np.subtract(images, 127.5, out=out, dtype=np.float32)
    pixels /= 127.5
    return pixels


WAYS = {
    'straightforward NumPy, floats': straightforward,
    'ours in line, floats': ours_as_floats,
    'ours in line': ours,
    'ours with 2 workers': lambda folder: ours(folder, num_workers=2),
    'ours from the cache': lambda folder: ours(folder, cache=True),
}


def rate(way, folder):
    """Pictures a second in three passes, after one to warm up."""
    batches = WAYS[way](folder)
    count = sum(len(batch) for batch in batches())
    start = time.perf_counter()
    for _ in range(3):
        for _ in batches():
            pass
    return 3 * count / (time.perf_counter() - start)


def check(folder):
    """Stop unless ours are the straightforward way's numbers."""
    dataset = open_dataset(folder, None, (64, 64), (108, 108), 1, 0)
    dataset.order.sort()
    for i, expected in enumerate(straightforward(folder)()):
        images, _ = dataset.take(dataset.order[i * BATCH : (i + 1) * BATCH])
        assert (as_floats(images) == expected).all()


def report(rates):
    straight, floats, line, workers, cache = rates.values()
    ratios = (1, floats / straight, 1, workers / line, cache / line)
    wanted = ('', 1.6, '', 1.5, 30)
    print(f'\n{"":32}{"pictures/s":>12}{"times":>8}{"wanted":>8}')
    for name, ratio, least in zip(rates, ratios, wanted):
        print(f'{name:32}{rates[name]:12,.0f}{ratio:8.2f}{least:>8}')


# A real training run


def train(data_dir, options):
    """(seconds of an iteration, seconds of it waiting for data), means."""
    from main import session_config, tf  # first, as it keeps TensorFlow quiet
    from model import DCGAN

    with (
        tempfile.TemporaryDirectory() as out,
        tf.Graph().as_default(),
        tf.Session(config=session_config()) as sess,
        open(os.devnull, 'w') as null,
    ):
        config = SimpleNamespace(epoch=2, train_size=ITERATIONS // 2 * BATCH)
        config.__dict__.update(learning_rate=0.0002, beta1=0.5, z_dist='normal01')
        config.__dict__.update(sample_freq=1000, ckpt_freq=1000, G_img_sum=False)
        config.__dict__.update(sample_dir=out, checkpoint_dir=out)
        where = {'data_dir': data_dir, 'dataset_name': 'jpegs', 'out_dir': out}
        dcgan = DCGAN(sess, **where, checkpoint_dir=out, **options)
        waits, read = [], dcgan.data.batches
        dcgan.data.batches = lambda *args: timed(read(*args), waits)
        stdout, sys.stdout = sys.stdout, null
        start = time.perf_counter()
        dcgan.train(config)
        seconds = time.perf_counter() - start
        sys.stdout = stdout
    return seconds / ITERATIONS, sum(waits) / ITERATIONS


def timed(batches, waits):
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        waits.append(time.perf_counter() - start)
        if batch is None:
            return
        yield batch


if __name__ == '__main__':
    main()
