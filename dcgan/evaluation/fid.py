"""Compute the Frechet Inception distance (FID) from features, float32 [n, d]."""

import numpy as np
from scipy import linalg


def gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean [d] and the covariance [d, d] of features, both float64."""
    covariance = np.cov(features, rowvar=False, dtype=np.float64)
    return features.mean(axis=0, dtype=np.float64), np.atleast_2d(covariance)


def frechet_distance(mean_a, cov_a, mean_b, cov_b) -> float:
    """The Frechet distance of two Gaussians, see gaussian (FID; Heusel et al., 2017):

    |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 sqrt(cov_a cov_b)). The eigenvalues of
    cov_a cov_b are also those of sqrt(cov_a) cov_b sqrt(cov_a), which is symmetric.
    """
    values, vectors = linalg.eigh(cov_a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    product = root @ cov_b @ root
    roots = np.sqrt(linalg.eigvalsh((product + product.T) / 2).clip(0))
    squared = ((mean_a - mean_b) ** 2).sum()
    return float(squared + np.trace(cov_a) + np.trace(cov_b) - 2 * roots.sum())
