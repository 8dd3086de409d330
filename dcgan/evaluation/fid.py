"""Compute the Frechet Inception distance (FID) from features of images.

Features are float32 [n, d], one row for each image.
"""

import numpy as np
from scipy import linalg


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
