"""Measures of pixels, against plain implementations of their papers."""

from functools import partial

import numpy as np
import pytest
from scipy import ndimage, signal, stats

from dcgan.evaluation.ms_ssim import ms_ssim
from dcgan.evaluation.sliced_wasserstein import sliced_wasserstein

pytestmark = pytest.mark.smoke
KINDS = 'noise', 'smooth', 'contrast', 'sparse', 'constant', 'equal'
SHAPES = {'noise': (32, 32, 1), 'smooth': (33, 33, 3), 'contrast': (31, 38, 3)}


def two_sets(kind, count=2):
    """Two sets of images of some kind, uint8 [n, h, w, c]."""
    rng, (h, w, c) = np.random.RandomState(0), SHAPES.get(kind, (28, 28, 1))
    a, b = rng.randint(0, 256, (2, count, h, w, c))
    if kind == 'smooth':
        a, b = (ndimage.gaussian_filter(x, (0, 3, 2, 0)) for x in (a, b))
    if kind == 'contrast':
        b = 40 + a // 3 + b // 8
    if kind == 'sparse':
        a, b = (x * (x > 200) for x in (a, b))
    if kind == 'constant':
        a = a * 0 + 77
    return a.astype(np.uint8), a.astype(np.uint8) if kind == 'equal' else b.astype(
        np.uint8
    )


def blur(image, gain, outside):
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256 * gain
    return ndimage.convolve(image, kernel, mode=outside)


def pyramid(plane, is_mm):
    """The levels of a plane [h, w], of 16 pixels or more, as a list."""
    outside = 'constant' if is_mm else 'mirror'
    small = blur(plane, 1, outside)[::2, ::2]
    if min(small.shape) < 16:
        return [plane]
    large = np.kron(small, np.ones((2, 2)) if is_mm else [[1, 0], [0, 0]])
    large = large[: plane.shape[0], : plane.shape[1]]
    level = plane - blur(large, 1 if is_mm else 4, outside)
    return [level, *pyramid(small, is_mm)]


def described(planes, rng):
    """Normalized patches of planes: a list [n][3] of arrays [h, w]."""
    h, w = planes[0][0].shape
    y = rng.randint(h - 6, size=(len(planes), 128))
    x = rng.randint(w - 6, size=(len(planes), 128))
    patches = [
        [plane[i : i + 7, j : j + 7] for plane in planes[k]]
        for k in range(len(planes))
        for i, j in zip(y[k], x[k])
    ]
    patches = np.array(patches)
    for color in range(3):
        part = patches[:, color] - patches[:, color].mean()
        patches[:, color] = part / (part.std() if part.any() else 1)
    return patches.reshape(len(patches), -1)


def plain_distances(a, b, rng, is_mm):
    three = [np.float64(x) - 127.5 + np.zeros(3) for x in (a, b)]
    sets = [[[pyramid(i[..., c], is_mm) for c in range(3)] for i in x] for x in three]
    values = {}
    for level, plane in enumerate(sets[0][0][0]):
        p, q = (described([[c[level] for c in i] for i in x], rng) for x in sets)
        total = 0
        for direction in rng.standard_normal((512, 147)):
            direction /= (direction**2).sum() ** 0.5
            total += stats.wasserstein_distance(p @ direction, q @ direction)
        values[min(plane.shape)] = total / 512 * 1000
    return values


@pytest.mark.parametrize('is_mm', [False, True])
@pytest.mark.parametrize('kind', KINDS)
def test_the_sliced_wasserstein_distance_equals_a_plain_one(kind, is_mm):
    a, b = two_sets(kind)
    found = sliced_wasserstein(a, b, np.random.RandomState(3), is_mm)
    expected = plain_distances(a, b, np.random.RandomState(3), is_mm)
    assert list(found) == list(expected)
    assert [*found.values()] == pytest.approx([*expected.values()], rel=1e-4)


def test_levels_of_the_distance_end_at_16_pixels():
    def levels(*size):
        images = np.zeros((2, *size, 1), np.uint8)
        return list(sliced_wasserstein(images, images, np.random.RandomState(0)))

    assert [levels(64, 80), levels(31, 31), levels(30, 99)] == [
        [64, 32, 16],
        [31, 16],
        [30],
    ]
    assert levels(15, 40) == []


def test_the_distance_is_near_0_for_one_set_in_another_order():
    (a, _), rng = two_sets('sparse', 40), np.random.RandomState(0)
    coarse = a[:, ::2, ::2].repeat(2, axis=1).repeat(2, axis=2)
    same, other = (sliced_wasserstein(a, b, rng) for b in (a[::-1], coarse))
    assert 3 * same[28] < other[28]


def test_gray_images_are_as_three_equal_colors():
    a, b = two_sets('noise')
    rgb = [x.repeat(3, axis=3) for x in (a, b)]
    assert ms_ssim(*rgb) == pytest.approx(ms_ssim(a, b), abs=1e-9)
    gray, color = (
        sliced_wasserstein(*sets, np.random.RandomState(0)) for sets in ((a, b), rgb)
    )
    assert gray == pytest.approx(color, rel=1e-5)


def plain_similarity(x, y):
    """MS-SSIM of two images [h, w, c], from the paper."""
    result = 1
    for scale, exponent in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333], 1):
        size = min(11, *x.shape[:2])
        u, v = np.mgrid[:size, :size] - (size - 1) / 2
        window = np.exp(-(u * u + v * v) / (2 * (1.5 / 11 * size) ** 2))
        mean = partial(signal.convolve2d, in2=window / window.sum(), mode='valid')
        terms = []
        for p, q in zip(np.moveaxis(x, 2, 0), np.moveaxis(y, 2, 0)):
            m, n = mean(p), mean(q)
            s, t, st = mean(p * p) - m * m, mean(q * q) - n * n, mean(p * q) - m * n
            term = (2 * st + 7.65**2) / (s + t + 7.65**2)
            if scale == 5:
                term *= (2 * m * n + 2.55**2) / (m * m + n * n + 2.55**2)
            terms.append(term)
        result *= max(0, np.mean(terms)) ** exponent
        x, y = (
            ndimage.uniform_filter(z, (2, 2, 1), origin=(-1, -1, 0)) for z in (x, y)
        )
        x, y = x[::2, ::2], y[::2, ::2]
    return result


@pytest.mark.parametrize('size', [(64, 64), (28, 28), (70, 51), (16, 90), (8, 8)])
@pytest.mark.parametrize('kind', KINDS)
def test_ms_ssim_equals_a_plain_one(kind, size):
    a, b = (np.resize(x, (2, *size, x.shape[3])) for x in two_sets(kind))
    expected = np.mean([plain_similarity(*np.float64(pair)) for pair in zip(a, b)])
    assert ms_ssim(a, b) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert ms_ssim(a, a) == pytest.approx(1)


def test_ms_ssim_in_parts_is_the_mean_of_the_pairs():
    a, b = np.random.RandomState(0).randint(0, 256, (2, 300, 64, 64, 1), np.uint8)
    b[1:100] = a[1:100]
    parts = [ms_ssim(a[i : i + 60], b[i : i + 60]) for i in range(0, 300, 60)]
    assert ms_ssim(a, b) == pytest.approx(np.mean(parts))
