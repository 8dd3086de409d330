"""Find the nearest real images of samples, and draw them as nearest.png."""

import numpy as np
from PIL import Image

from dcgan.data.image_grids import merge, save_image


def to_vectors(images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, c] -> float32 [n, h*w*c] in [-0.5, 0.5]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255 - 0.5


def save_nearest(samples: np.ndarray, images: np.ndarray, path: str) -> None:
    """Write samples [n, h, w, c] beside groups of images, [n, groups, m, h, w, c]."""
    count, _, _, height, width, channels = images.shape
    gap = np.full((count, height, max(2, width // 8), channels), 255, np.uint8)
    beside = [part for group in np.moveaxis(images, 0, 2) for part in (gap, *group)]
    rows = np.concatenate([samples, *beside], axis=2)
    rows = np.pad(rows, ((0, 0), (0, 2), (0, 0), (0, 0)), constant_values=255)
    save_image(Image.fromarray(merge(rows, (count, 1))), path)


def share_closer(distances: np.ndarray, others: np.ndarray) -> float:
    """The share of pairs (a, b) with a < b, for a in `distances` and b in `others`.

    Equal pairs count half; it is 0.5 if both have one distribution. The statistic of
    the Mann-Whitney test, it finds copies of the data here (Meehan et al., 2020).
    """
    others = np.sort(others)
    ranks = sum(np.searchsorted(others, distances, side) for side in ('left', 'right'))
    return float((len(others) - ranks / 2).mean() / len(others))


class Nearest:
    """The k nearest points of queries, float32 [n, d]. Points are added in parts.

    distances: [queries, k], ascending; infinite if there are fewer than k points.
    indices: [queries, k], of the points, counted from 0 over all parts.
    own: [queries], the point that is the query itself, not a neighbour; or -1.
    """

    def __init__(self, queries: np.ndarray, k: int = 1, own: np.ndarray | int = -1):
        self.queries, self.own = queries, np.reshape(own, (-1, 1))
        self._norms = np.einsum('ij,ij->i', queries, queries)[:, None]
        self._squared = np.full((len(queries), k), np.inf, np.float32)
        self.indices = np.full((len(queries), k), -1)
        self.count = 0  # of points so far

    def add(self, points: np.ndarray) -> None:
        """Add points, float32 [m, d]."""
        squared = self._norms + np.einsum('ij,ij->i', points, points)
        squared -= 2 * self.queries @ points.T
        numbers = self.count + np.arange(len(points))
        np.copyto(squared, np.inf, where=numbers == self.own)
        k = self.indices.shape[1]
        if k == 1:
            best = squared.argmin(axis=1)[:, None]
        else:
            best = np.argpartition(squared, min(k, len(points)) - 1, axis=1)[:, :k]
        found = np.take_along_axis(squared, best, 1), best + self.count
        merged = [np.hstack(p) for p in zip((self._squared, self.indices), found)]
        order = np.argsort(merged[0], axis=1, kind='stable')[:, :k]
        self._squared, self.indices = (np.take_along_axis(m, order, 1) for m in merged)
        self.count += len(points)

    @property
    def distances(self) -> np.ndarray:
        """Euclidean distances [queries, k]."""
        return np.sqrt(self._squared.clip(0))
