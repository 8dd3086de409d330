"""Compute the multi-scale structural similarity (MS-SSIM) of pairs of images."""

import numpy as np
from scipy import linalg

WEIGHTS = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333  # of scales (Wang et al., 2003)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
VALUES = 1 << 20  # of images at once, which bounds memory


def ms_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """The mean similarity of pairs of images, both uint8 [n, h, w, c]; 1 if equal."""
    parts = [np.array_split(images, images.size // VALUES + 1) for images in (a, b)]
    return float(np.concatenate([*map(_similarities, *parts)]).mean())


def _similarities(a, b):
    """The similarity of each pair of images, float64 [n]."""
    pair, product = np.moveaxis([a, b], -1, 2).astype(np.float64), 1
    for weight in WEIGHTS:
        sides = pair.shape[3:]
        size = min(11, *sides)  # small scales have small windows
        offsets = np.arange(size) - (size - 1) / 2
        window = np.exp(-((offsets / (1.5 * size / 11)) ** 2) / 2)
        window /= window.sum()
        rows, columns = (linalg.convolution_matrix(window, s - size + 1) for s in sides)
        x, y, xx, yy, xy = rows.T @ [*pair, *pair**2, pair[0] * pair[1]] @ columns
        values = (2 * (xy - x * y) + C2) / (xx + yy - x**2 - y**2 + C2)
        if weight == WEIGHTS[-1]:  # luminance is compared at the last scale only
            values *= (2 * x * y + C1) / (x**2 + y**2 + C1)
        product = product * values.mean(axis=(1, 2, 3)).clip(0) ** weight
        pair = np.pad(pair, [(0, 0)] * 3 + [(0, side % 2) for side in sides], 'edge')
        pair = (pair[..., ::2, :] + pair[..., 1::2, :]) / 2
        pair = (pair[..., ::2] + pair[..., 1::2]) / 2
    return product
