"""Compute the kernel Inception distance (KID) from features of images."""

import numpy as np

SUBSETS, SUBSET_SIZE = 100, 1000  # as in the paper (Binkowski et al., 2018)


def kernel_distance(a: np.ndarray, b: np.ndarray, rng) -> tuple[float, float]:
    """The kernel distance of features [n, d] and its spread (KID).

    These are the mean and the standard deviation, over random subsets of at most half
    of the features, of the unbiased estimate of the squared maximum mean discrepancy.
    """
    size = min(SUBSET_SIZE, len(a) // 2, len(b) // 2)
    values = []
    for _ in range(SUBSETS):
        x, y = (f[rng.choice(len(f), size, replace=False)] for f in (a, b))
        values.append(squared_discrepancy(x, y))
    return float(np.mean(values)), float(np.std(values))


def squared_discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased estimate, by the kernel (x.y / d + 1)^3, of x and y, both [m, d]."""
    count, dims = x.shape

    def kernel(a, b):
        return ((a @ b.T).astype(np.float64) / dims + 1) ** 3

    sums = [k.sum() - np.trace(k) for k in (kernel(x, x), kernel(y, y))]
    return float(sum(sums) / (count * (count - 1)) - 2 * kernel(x, y).mean())
