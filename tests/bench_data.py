"""Measure how fast images are read: python tests/bench_data.py, 3 to 4 minutes.

Writes 2,000 smooth JPEGs of 178x218, the size of CelebA's, and reads them in batches of
64, cropped to 108x108 and resized to 64x64. The methods take turns, each in its own
process. The best round of each method counts, because other load can only slow it down.

Then trains the full 64x64 model on these images for some iterations, and prints which
part of the time it waited for data.

The more detail the images have, the more time all methods spend in libjpeg, and the
smaller their differences are. The 3 to 4 minutes are for 2 cores.
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

from dcgan.data.dataset import open_dataset

IMAGES, BATCH, ROUNDS, ITERATIONS = 2000, 64, 5, 40


def main():
    if len(sys.argv) > 1:
        print(rate(*sys.argv[1:]))
        return
    with tempfile.TemporaryDirectory() as data_dir:
        folder = os.path.join(data_dir, 'jpegs')
        size = make_jpegs(folder)
        print(f'{IMAGES} JPEGs of {size / 1000:.1f} kB, {os.cpu_count()} cores')
        check(folder)
        rates = {method: [] for method in METHODS}
        for _ in range(ROUNDS):
            for method in METHODS:
                command = [sys.executable, __file__, method, folder]
                rates[method].append(float(subprocess.check_output(command)))
        report({method: max(values) for method, values in rates.items()})
        print(f'\nTraining the 64x64 model, batch {BATCH}, {ITERATIONS} iterations:')
        for options in ({'num_workers': 0}, {'num_workers': 2}, {'cache': True}):
            step, waited = train(data_dir, options)
            print(
                f'{options}: {step * 1000:,.0f} ms a step, {waited * 1000:.1f} ms '
                f'({waited / step:.1%}) of it waiting for data'
            )


def make_jpegs(folder):
    """Write random images; return the mean size of their files in bytes."""
    rng = np.random.RandomState(0)
    os.makedirs(folder)
    for i in range(IMAGES):
        coarse = rng.randint(0, 256, (10, 8, 3)).astype(np.uint8)
        image = Image.fromarray(coarse).resize((178, 218), Image.BICUBIC)
        image.save(f'{folder}/{i:06d}.jpg')
    return sum(path.stat().st_size for path in Path(folder).iterdir()) / IMAGES


# The methods. Each prepares, and returns a function that yields all batches once.


def straightforward(folder):
    """The method of the original, with SciPy 1.1: float32 in [-1, 1]."""
    files = sorted(str(path) for path in Path(folder).glob('*.jpg'))

    def batches():
        for start in range(0, IMAGES - BATCH + 1, BATCH):
            chunk = files[start : start + BATCH]
            batch = [straightforward_image(path) for path in chunk]
            yield np.array(batch).astype(np.float32)

    return batches


def straightforward_image(path):
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
    """The method of this project: uint8."""
    dataset = open_dataset(folder, None, (64, 64), (108, 108), 1, 0, **options)
    return lambda: (images for images, _ in dataset.batches(BATCH, IMAGES // BATCH))


def ours_as_floats(folder):
    """The method of this project, converted to the floats of `straightforward`."""
    batches, floats = ours(folder), np.empty((BATCH, 64, 64, 3), np.float32)
    return lambda: (as_floats(images, floats) for images in batches())


def as_floats(images, out=None):
    """Convert uint8 as model.py does, to float32 in [-1, 1]; `out` saves memory."""
    pixels = np.subtract(images, 127.5, out=out, dtype=np.float32)
    pixels /= 127.5
    return pixels


METHODS = {
    'straightforward NumPy, floats': straightforward,
    'ours inline, floats': ours_as_floats,
    'ours inline': ours,
    'ours with 2 workers': lambda folder: ours(folder, num_workers=2),
    'ours from the cache': lambda folder: ours(folder, cache=True),
}


def rate(method, folder):
    """Images per second in three passes, after one pass to warm up."""
    batches = METHODS[method](folder)
    count = sum(len(batch) for batch in batches())
    start = time.perf_counter()
    for _ in range(3):
        for _ in batches():
            pass
    return 3 * count / (time.perf_counter() - start)


def check(folder):
    """Fail unless our images equal the images of the straightforward method."""
    dataset = open_dataset(folder, None, (64, 64), (108, 108), 1, 0)
    dataset.order.sort()
    for i, expected in enumerate(straightforward(folder)()):
        images, _ = dataset.take(dataset.order[i * BATCH : (i + 1) * BATCH])
        assert (as_floats(images) == expected).all()


def report(rates):
    """Print a table of images per second; floats and uint8 have a baseline each."""
    straight, floats, inline, workers, cache = rates.values()
    speedups = (1, floats / straight, 1, workers / inline, cache / inline)
    targets = ('', 1.6, '', 1.5, 30)
    print(f'\n{"":32}{"images/s":>12}{"speedup":>9}{"target":>8}')
    for name, speedup, target in zip(rates, speedups, targets):
        print(f'{name:32}{rates[name]:12,.0f}{speedup:9.2f}{target:>8}')


# A real training run


def train(data_dir, options):
    """Mean (seconds of an iteration, seconds of them spent waiting for data)."""
    from main import DCGAN, tf  # isort: skip, silences TensorFlow's log
    from dcgan.compute.session import session_config
    from dcgan.training import loop

    class TimedTraining(loop.Training):
        def batches(self):
            return timed(super().batches(), waits)

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
        paths = {'data_dir': data_dir, 'dataset_name': 'jpegs', 'out_dir': out}
        dcgan, waits = DCGAN(sess, **paths, checkpoint_dir=out, **options), []
        loop.Training = TimedTraining
        stdout, sys.stdout = sys.stdout, null
        start = time.perf_counter()
        dcgan.train(config)
        seconds = time.perf_counter() - start
        sys.stdout = stdout
    return seconds / ITERATIONS, sum(waits) / ITERATIONS


def timed(batches, waits):
    """Yield the batches; append to `waits` the seconds that each one took."""
    while True:
        start = time.perf_counter()
        batch = next(batches, None)
        waits.append(time.perf_counter() - start)
        if batch is None:
            return
        yield batch


if __name__ == '__main__':
    main()
