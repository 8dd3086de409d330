"""Compute precision and recall of samples from features of images."""

from collections.abc import Iterator

import numpy as np

NEIGHBOURS = 3  # as in the paper (Kynkaanniemi et al., 2019)
ROWS = 1000  # of a matrix of distances, in memory at once


def precision_recall(real: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    """Improved precision and recall of features, both [n, d].

    Precision is the share of generated images that are nearer to a real image than its
    third-nearest real neighbour; recall is the same with the two sets exchanged.
    """
    return _share_in(real, generated), _share_in(generated, real)


def _share_in(manifold, points):
    """The share of points that lie in the manifold of other points."""
    within, across = (squared_distances(a, manifold) for a in (manifold, points))
    # the nearest is the point itself
    radii = np.concatenate([np.partition(d, NEIGHBOURS)[:, NEIGHBOURS] for d in within])
    return float(np.concatenate([(d <= radii).any(axis=1) for d in across]).mean())


def squared_distances(a: np.ndarray, b: np.ndarray) -> Iterator[np.ndarray]:
    """Yield squared distances of a and b, [n, d]: ROWS rows of [len(a), len(b)]."""
    norms = np.einsum('ij,ij->i', b, b)
    for rows in np.split(a, range(ROWS, len(a), ROWS)):
        squares = np.einsum('ij,ij->i', rows, rows)[:, None] + norms
        yield (squares - 2 * rows @ b.T).clip(0)
