"""Nearest real images of samples: copies, and nearest.png."""

import numpy as np
from PIL import Image

from dcgan.data.image_grids import save_image

FITTED_TO = (1_000, 10_000, 100_000)  # images of a nearest-neighbour classifier


class NeighbourTest:
    """The error of a nearest-neighbour classifier, in pixels (paper, section 8.1).

    errors   {number of images that it was fitted to: share of errors}
    """

    def __init__(self, images, labels, own=None):
        """Test on images, uint8 [n, h, w, c], and labels [n]; own, see Nearest."""
        self._nearest, self._truth = Nearest(to_vectors(images), 1, own), labels
        self._labels = np.empty(0, np.int64)
        self.errors: dict[int, float] = {}

    def add(self, images: np.ndarray, labels: np.ndarray) -> None:
        """Fit it to these images, too."""
        count = self._nearest.count
        cuts = [n - count for n in FITTED_TO if count < n < count + len(images)]
        self._labels = np.concatenate([self._labels, labels])
        for part in np.split(images, cuts):
            self._nearest.add(to_vectors(part))
            if self._nearest.count in FITTED_TO:
                self.take()

    def take(self) -> None:
        """Take the error as it is now."""
        predicted = self._labels[self._nearest.indices[:, 0]]
        self.errors[self._nearest.count] = float((predicted != self._truth).mean())


def to_vectors(images: np.ndarray) -> np.ndarray:
    """uint8 [n, h, w, c] -> float32 [n, h*w*c] in [-0.5, 0.5]."""
    return images.reshape(len(images), -1).astype(np.float32) / 255 - 0.5


def save_nearest(samples: np.ndarray, images: np.ndarray, path: str) -> None:
    """Write samples [n, h, w, c], uint8, each beside real images [n, m, h, w, c].

    With a gap after the sample, and one in the middle of the images.
    """
    count, columns, height, width, channels = images.shape
    gap = max(2, width // 8)
    sheet = np.full(
        (count * (height + 2), (columns + 1) * width + 2 * gap, channels), 255, np.uint8
    )
    for row in range(count):
        top, left = row * (height + 2), 0
        for column, image in enumerate([samples[row], *images[row]]):
            sheet[top : top + height, left : left + width] = image
            is_last = column in (0, columns // 2)
            left += width + (gap if is_last else 0)
    pixels = sheet[:, :, 0] if channels == 1 else sheet
    save_image(Image.fromarray(pixels), path)


def share_closer(distances: np.ndarray, others: np.ndarray) -> float:
    """The share of pairs in which the one of `distances` is less than that of `others`.

    Equal ones count half. 0.5 where both come from one distribution; the statistic of
    the Mann-Whitney test, as a test for copies of the data (Meehan et al., 2020).
    """
    others = np.sort(others)
    below = len(others) - np.searchsorted(others, distances, 'right')
    equal = len(others) - np.searchsorted(others, distances, 'left') - below
    return float((below + equal / 2).mean() / len(others))


class Nearest:
    """The nearest of many points to each query. The points come in parts.

    distances   [queries, k], ascending; infinite where there are fewer than k points
    indices     [queries, k], of the points, counted from 0 over all parts
    """

    def __init__(self, queries: np.ndarray, k: int = 1, own: np.ndarray | None = None):
        """queries: float32 [n, d]. own: [n], the point of each query that is itself."""
        self.queries, self.own = queries, own
        self._norms = np.einsum('ij,ij->i', queries, queries)[:, None]
        self._squared = np.full((len(queries), k), np.inf, np.float32)
        self.indices = np.full((len(queries), k), -1)
        self.count = 0  # of points so far

    def add(self, points: np.ndarray) -> None:
        """Take the next points, float32 [m, d]."""
        squared = self._norms + np.einsum('ij,ij->i', points, points)
        squared -= 2 * self.queries @ points.T
        if self.own is not None:
            columns = self.own - self.count
            rows = np.flatnonzero((columns >= 0) & (columns < len(points)))
            squared[rows, columns[rows]] = np.inf
        k = self.indices.shape[1]
        if k == 1:
            best = squared.argmin(axis=1)[:, None]
        elif k < len(points):
            best = np.argpartition(squared, k, axis=1)[:, :k]
        else:
            best = np.arange(len(points))[None].repeat(len(squared), 0)
        found = np.take_along_axis(squared, best, 1), best + self.count
        merged = [np.hstack(p) for p in zip((self._squared, self.indices), found)]
        order = np.argsort(merged[0], axis=1, kind='stable')[:, :k]
        self._squared, self.indices = (np.take_along_axis(m, order, 1) for m in merged)
        self.count += len(points)

    @property
    def distances(self) -> np.ndarray:
        """Euclidean distances [queries, k]."""
        return np.sqrt(self._squared.clip(0))
