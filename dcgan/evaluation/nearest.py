"""Find the nearest real images of samples, and draw them as nearest.png."""

import numpy as np
from PIL import Image

from dcgan.data.image_grids import save_image

FITTED_TO = (1_000, 10_000, 100_000)  # numbers of images a classifier is fitted to


class NeighbourTest:
    """The error of a nearest-neighbour classifier of pixels (paper, section 8.1)."""

    def __init__(self, images, labels, own=None):
        """images, labels: to test on, uint8 [n, h, w, c] and [n]. own: see Nearest."""
        self._nearest, self._truth = Nearest(to_vectors(images), 1, own), labels
        self._labels = np.empty(0, np.int64)
        self._errors: dict[int, float] = {}

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Fit the classifier to more images, uint8 [m, h, w, c], and labels [m]."""
        count = self._nearest.count
        cuts = [n - count for n in FITTED_TO if count < n < count + len(images)]
        self._labels = np.concatenate([self._labels, labels])
        for part in np.split(images, cuts):
            self._nearest.add(to_vectors(part))
            if self._nearest.count in FITTED_TO:
                self.errors()

    def errors(self) -> dict[int, float]:
        """{number of images: share of errors when it was fitted to that many}.

        The numbers are FITTED_TO, up to all images.
        """
        predicted = self._labels[self._nearest.indices[:, 0]]
        self._errors[self._nearest.count] = float((predicted != self._truth).mean())
        return self._errors


def to_vectors(images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, c] -> float32 [n, h*w*c] in [-0.5, 0.5]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255 - 0.5


def save_nearest(samples: np.ndarray, images: np.ndarray, path: str) -> None:
    """Write samples [n, h, w, c], each beside m real images, [n, m, h, w, c]; uint8."""
    count, columns, height, width, channels = images.shape
    gap = max(2, width // 8)
    size = count * (height + 2), (columns + 1) * width + 2 * gap
    grid = np.full((*size, channels), 255, np.uint8)
    for row in range(count):
        top, left = row * (height + 2), 0
        for column, image in enumerate([samples[row], *images[row]]):
            grid[top : top + height, left : left + width] = image
            is_last = column in (0, columns // 2)
            left += width + (gap if is_last else 0)
    pixels = grid[:, :, 0] if channels == 1 else grid
    save_image(Image.fromarray(pixels), path)


def share_closer(distances: np.ndarray, others: np.ndarray) -> float:
    """The share of pairs (a, b) with a < b, for a in `distances` and b in `others`.

    Equal pairs count half; it is 0.5 if both have one distribution. The statistic of
    the Mann-Whitney test, it finds copies of the data here (Meehan et al., 2020).
    """
    others = np.sort(others)
    below = len(others) - np.searchsorted(others, distances, 'right')
    equal = len(others) - np.searchsorted(others, distances, 'left') - below
    return float((below + equal / 2).mean() / len(others))


class Nearest:
    """The k nearest points of each query. Points are added in parts.

    distances: [queries, k], ascending; infinite if there are fewer than k points.
    indices: [queries, k], of the points, counted from 0 over all parts.
    """

    def __init__(self, queries: np.ndarray, k: int = 1, own: np.ndarray | None = None):
        """Prepare queries, float32 [n, d].

        own: int [n], the point that is the query itself, not a neighbour; or -1.
        """
        self.queries, self.own = queries, own
        self._norms = np.einsum('ij,ij->i', queries, queries)[:, None]
        self._squared = np.full((len(queries), k), np.inf, np.float32)
        self.indices = np.full((len(queries), k), -1)
        self.count = 0  # of points so far

    def add(self, points: np.ndarray) -> None:
        """Add points, float32 [m, d]."""
        squared = self._norms + np.einsum('ij,ij->i', points, points)
        squared -= 2 * self.queries @ points.T
        if self.own is not None:
            columns = self.own - self.count
            rows = np.flatnonzero((columns >= 0) & (columns < len(points)))
            squared[rows, columns[rows]] = np.inf
        k = self.indices.shape[1]
        if k == 1:
            best = squared.argmin(axis=1)[:, None]
        else:
            last = min(k, len(points)) - 1
            best = np.argpartition(squared, last, axis=1)[:, :k]
        found = np.take_along_axis(squared, best, 1), best + self.count
        merged = [np.hstack(p) for p in zip((self._squared, self.indices), found)]
        order = np.argsort(merged[0], axis=1, kind='stable')[:, :k]
        self._squared, self.indices = (np.take_along_axis(m, order, 1) for m in merged)
        self.count += len(points)

    @property
    def distances(self) -> np.ndarray:
        """Euclidean distances [queries, k]."""
        return np.sqrt(self._squared.clip(0))
