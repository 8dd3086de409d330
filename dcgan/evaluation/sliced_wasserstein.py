"""Compute the sliced Wasserstein distance (SWD) of images (Karras et al., 2018)."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from dcgan.util.cores import usable_cores
from dcgan.util.progress import progress_bar

SMALLEST, SIDE, PATCHES, DIRECTIONS = 16, 7, 128, 4 * 128  # as in the paper
BATCH, BLOCK = 128, 16  # images at once; directions at once, in each thread
THREADS = 4  # at most: each takes up to 0.5 GB


def sliced_wasserstein(a, b, rng, as_mmgeneration: bool = False) -> dict[int, float]:
    """{side in pixels: 1,000 times the distance} of uint8 a and b, both [n, h, w, c].

    There is one for each level, of 16 pixels or more, of Laplacian pyramids; or of the
    pyramids as_mmgeneration has them: surrounded by gray, enlarged by repeated pixels.
    """
    a, b, values = np.moveaxis(a, 3, 1), np.moveaxis(b, 3, 1), {}
    while (size := min(a.shape[2:])) >= SMALLEST:
        of_a, a = _patches(a, rng, as_mmgeneration)
        of_b, b = _patches(b, rng, as_mmgeneration)
        with progress_bar(f'SWD {size}', DIRECTIONS, ' directions', delay=2) as bar:
            values[size] = 1000 * _mean_distance(of_a, of_b, rng, bar)
    return values


def compare_slices(real, samples) -> tuple[float | None, dict]:
    """SWD, the mean of the levels, of as many images of both as there are.

    Also returns its details: {'levels': see above, 'compared': number of images}. It is
    None if the images are too small.
    """
    n = min(len(real), len(samples))
    levels = sliced_wasserstein(real[:n], samples[:n], np.random.RandomState(0))
    mean = float(np.mean([*levels.values()])) if levels else None
    return mean, {'levels': levels, 'compared': n}


def _patches(images, rng, as_mmgeneration):
    """Normalized patches [m, c * 49] of a level, and images [n, c, h, w] halved."""
    count, channels, *sides = images.shape
    row, column = (rng.randint(s - SIDE + 1, size=(count, PATCHES)) for s in sides)
    patches = np.empty((count, PATCHES, channels, SIDE, SIDE), np.float32)
    (down, up), (down_x, up_x) = (_halving(side, as_mmgeneration) for side in sides)
    halved = np.empty((count, channels, len(down), len(down_x)), np.float32)
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        level = images[part] - np.float32(127.5 if images.dtype == np.uint8 else 0)
        halved[part] = down @ level @ down_x.T
        if min(halved.shape[2:]) >= SMALLEST:  # the last level is no difference
            level -= up @ halved[part] @ up_x.T
        windows = np.lib.stride_tricks.sliding_window_view(level, (SIDE, SIDE), (2, 3))
        patches[part] = windows[np.c_[: len(level)], :, row[part], column[part]]
    for channel in np.moveaxis(patches, 2, 0):
        channel -= channel.mean(dtype=np.float64)
        channel /= channel.std() or 1
    return patches.reshape(count * PATCHES, -1), halved


def _halving(side, as_mmgeneration):
    """Two matrices: one blurs and halves a side of an image, one doubles it again."""
    mode = 'constant' if as_mmgeneration else 'reflect'
    rows = np.pad(np.eye(side, dtype=np.float32), ((2, 2), (0, 0)), mode)
    weights = np.float32([1, 4, 6, 4, 1]) / 16
    blur = sum(weight * rows[n : n + side] for n, weight in enumerate(weights))
    repeated = np.add.reduceat(blur, range(0, side, 2), axis=1)
    return blur[::2], repeated if as_mmgeneration else 2 * blur[:, ::2]


def _mean_distance(a, b, rng, bar):
    """The mean distance of projections of a and b [m, d], gray as three colors."""
    directions = rng.standard_normal((DIRECTIONS, 3 * SIDE**2))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    blocks = directions.reshape(-1, BLOCK, 3 * SIDE**2 // a.shape[1], a.shape[1]).sum(2)

    def distance(block):
        x, y = (np.sort(block @ patches.T) for patches in (a, b))  # in contiguous rows
        bar.update(BLOCK)
        return np.abs(x - y).mean(dtype=np.float64)

    with ThreadPoolExecutor(min(THREADS, usable_cores())) as pool:
        return float(np.mean([*pool.map(distance, blocks.astype(np.float32))]))
