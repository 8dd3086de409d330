"""Measures that compare generated with real images, by their features.

Features are float32 [n, d], one row for each image.
"""

from collections.abc import Iterator

import numpy as np
from scipy import linalg

SUBSETS, SUBSET_SIZE = 100, 1000  # of the kernel distance (Binkowski et al., 2018)
NEIGHBOURS = 3  # of precision and recall (Kynkaanniemi et al., 2019)
ROWS = 1000  # of a matrix of distances that are in memory at once


def gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [d] and the covariance [d, d] of features, both float64."""
    covariance = np.cov(features, rowvar=False, dtype=np.float64)
    return features.mean(axis=0, dtype=np.float64), np.atleast_2d(covariance)


def frechet_distance(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray
) -> float:
    """The Frechet distance of two Gaussians (FID; Heusel et al., 2017).

    |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 sqrt(cov_a cov_b)). The matrices
    sqrt(cov_a) cov_b sqrt(cov_a), which is symmetric, and cov_a cov_b have the same
    eigenvalues; the trace of the root is the sum of their roots.
    """
    values, vectors = linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ cov_b @ root
    roots = np.sqrt(linalg.eigvalsh((product + product.T) / 2).clip(0))
    squared = ((mean_a - mean_b) ** 2).sum()
    return float(squared + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())


def kernel_distance(
    a: np.ndarray, b: np.ndarray, rng: np.random.RandomState
) -> tuple[float, float]:
    """The kernel distance of features and its spread (KID; Binkowski et al., 2018).

    The mean and the standard deviation, over random subsets, of the unbiased estimate
    of the squared maximum mean discrepancy by the kernel (x.y / d + 1)^3. A subset has
    at most half of the features, so that subsets differ.
    """
    size = min(SUBSET_SIZE, len(a) // 2, len(b) // 2)
    values = []
    for _ in range(SUBSETS):
        x, y = (f[rng.choice(len(f), size, replace=False)] for f in (a, b))
        values.append(squared_discrepancy(x, y))
    return float(np.mean(values)), float(np.std(values))


def squared_discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate of kernel_distance from x and y, both [m, d]."""
    count, dims = x.shape

    def kernel(a, b):
        return ((a @ b.T).astype(np.float64) / dims + 1) ** 3

    within = [kernel(a, a) for a in (x, y)]
    sums = [k.sum() - np.trace(k) for k in within]
    return float(sum(sums) / (count * (count - 1)) - 2 * kernel(x, y).mean())


def precision_recall(real: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    """Improved precision and recall (Kynkaanniemi et al., 2019), of features.

    Precision is the share of generated images that lie in the manifold of real ones:
    nearer to one of them than its third-nearest real neighbour is. Recall is the share
    of real images in the manifold of generated ones.
    """
    return _share_in(real, generated), _share_in(generated, real)


def _share_in(manifold, points):
    # the nearest is the point itself
    radii = np.concatenate(
        [
            np.partition(d, NEIGHBOURS, axis=1)[:, NEIGHBOURS]
            for d in squared_distances(manifold, manifold)
        ]
    )
    inside = [(d <= radii).any(axis=1) for d in squared_distances(points, manifold)]
    return float(np.concatenate(inside).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of the matrix of squared distances [len(a), len(b)], in parts.

    a, b  float32 [n, d]; distances that rounding makes negative are zero
    """
    norms = np.einsum('ij,ij->i', b, b)
    for start in range(0, len(a), ROWS):
        rows = a[start : start + ROWS]
        squares = np.einsum('ij,ij->i', rows, rows)[:, None] + norms
        yield (squares - 2 * rows @ b.T).clip(0)


def entropy(counts: np.ndarray) -> float:
    """The entropy, in nats, of the distribution that has these counts."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum()) + 0.0  # never -0


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
