"""Metrics of samples, against closed forms and SciPy."""

import numpy as np
import pytest
from scipy import linalg, spatial, stats

from dcgan.evaluation.evaluate import entropy
from dcgan.evaluation.fid import frechet_distance, gaussian
from dcgan.evaluation.kid import kernel_distance, squared_discrepancy
from dcgan.evaluation.nearest import Nearest, share_closer
from dcgan.evaluation.precision_recall import precision_recall, squared_distances

pytestmark = pytest.mark.smoke


def normal(count, dims, mean=0.0, scale=1.0, seed=0):
    features = np.random.RandomState(seed).standard_normal((count, dims))
    return (mean + scale * features).astype(np.float32)


def test_frechet_distance_equals_the_closed_form():
    # of Gaussians with diagonal covariances: (m - n)^2 + (s - t)^2 in each dimension
    m, a = np.array([1.0, 2, 3]), np.diag([1.0, 16, 4])
    n, b = np.array([0.0, 2, 5]), np.diag([9.0, 1, 4])
    distance = frechet_distance(m, a, n, b)
    assert distance == pytest.approx(1 + 0 + 4 + 4 + 9 + 0)


@pytest.mark.parametrize('dims', [1, 7, 40])
def test_frechet_distance_equals_scipys_matrix_root(dims):
    rng = np.random.RandomState(0)
    m, n = rng.standard_normal((2, dims))
    a, b = (root @ root.T for root in rng.standard_normal((2, dims, dims + 2)))
    root = np.trace(linalg.sqrtm(a @ b)).real
    expected = ((m - n) ** 2).sum() + np.trace(a + b) - 2 * root
    assert frechet_distance(m, a, n, b) == pytest.approx(expected)
    assert frechet_distance(m, a, m, a) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_takes_covariances_that_are_singular():
    few = gaussian(normal(5, 20))
    assert frechet_distance(*few, *few) == pytest.approx(0, abs=1e-6)


def test_gaussian_estimates_mean_and_covariance():
    mean, covariance = gaussian(normal(20000, 2, mean=3, scale=2))
    assert mean == pytest.approx([3, 3], abs=0.1)
    assert covariance == pytest.approx(4 * np.eye(2), abs=0.2)


def test_the_squared_discrepancy_equals_its_definition():
    x, y = normal(6, 3), normal(6, 3, mean=0.5, seed=1)

    def kernel(a, b):
        return (sum(i * j for i, j in zip(a, b)) / 3 + 1) ** 3

    pairs = [(i, j) for i in range(6) for j in range(6)]
    within = sum(kernel(f[i], f[j]) / 30 for f in (x, y) for i, j in pairs if i != j)
    across = sum(kernel(x[i], y[j]) / 36 for i, j in pairs)
    assert squared_discrepancy(x, y) == pytest.approx(within - 2 * across, rel=1e-4)


def test_the_kernel_distance_is_unbiased_and_grows_with_the_distance(monkeypatch):
    monkeypatch.setattr('dcgan.evaluation.kid.SUBSETS', 10)  # faster
    rng = np.random.RandomState(0)
    a = normal(600, 8)
    same, spread = kernel_distance(a, normal(600, 8, seed=1), rng)
    assert abs(same) < 3 * spread + 1e-3
    near, _ = kernel_distance(a, normal(600, 8, mean=0.3, seed=1), rng)
    far, _ = kernel_distance(a, normal(600, 8, mean=1, seed=1), rng)
    assert same < near < far


def test_the_kernel_distance_of_gaussians_follows_from_their_moments(monkeypatch):
    # In one dimension, (x y + 1)^3 = 1 + 3 x y + 3 x^2 y^2 + x^3 y^3, so that the
    # distance is 3 (m1 - n1)^2 + 3 (m2 - n2)^2 + (m3 - n3)^2 of the raw moments.
    monkeypatch.setattr('dcgan.evaluation.kid.SUBSETS', 10)  # faster
    mean, scale = 0.4, 1.5
    m1, m2, m3 = (stats.norm(mean, scale).moment(k) for k in (1, 2, 3))
    expected = 3 * m1**2 + 3 * (m2 - 1) ** 2 + m3**2
    distance, _ = kernel_distance(
        normal(40000, 1), normal(40000, 1, mean, scale, 1), np.random.RandomState(0)
    )
    assert distance == pytest.approx(expected, rel=0.1)


def test_precision_and_recall_of_parts_of_the_data():
    real = normal(400, 2)
    assert precision_recall(real, real) == (1, 1)
    half = real[real[:, 0] > 0]
    precision, recall = precision_recall(real, half)
    assert precision == 1 and 0.4 < recall < 0.65
    precision, recall = precision_recall(half, real)
    assert 0.4 < precision < 0.65 and recall == 1
    assert precision_recall(real, real + 100) == (0, 0)


def test_precision_equals_its_definition():
    real, generated = normal(60, 3), normal(50, 3, mean=1, seed=1)
    within = spatial.distance.cdist(real, real)
    radii = np.sort(within, axis=1)[:, 3]
    expected = (spatial.distance.cdist(generated, real) <= radii).any(axis=1).mean()
    assert precision_recall(real, generated)[0] == expected


def test_distances_equal_scipys():
    a, b = normal(2500, 4), normal(30, 4, seed=1)
    squared = np.concatenate(list(squared_distances(a, b)))
    expected = spatial.distance.cdist(a, b, 'sqeuclidean')
    assert squared == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize('k, own', [(1, None), (3, None), (1, np.arange(10, 20))])
def test_nearest_points_equal_scipys(k, own):
    points = normal(100, 5, seed=1)
    queries = normal(20, 5) if own is None else points[own]
    nearest = Nearest(queries, k, own)
    for part in np.split(points, [7, 8, 60]):
        nearest.add(part)
    distances = spatial.distance.cdist(queries, points)
    if own is not None:  # a point is not its own neighbour
        distances[np.arange(10), own] = np.inf
    expected = np.argsort(distances, axis=1)[:, :k]
    assert (nearest.indices == expected).all()
    sorted_distances = np.sort(distances, axis=1)[:, :k]
    assert nearest.distances == pytest.approx(sorted_distances, abs=1e-3)


def test_entropy_of_counts_equals_scipys():
    counts = np.array([3, 0, 5, 2])
    assert entropy(counts) == pytest.approx(stats.entropy(counts))
    assert entropy(np.full(10, 7)) == pytest.approx(np.log(10))


def test_the_share_that_is_closer_is_the_statistic_of_mann_and_whitney():
    a, b = np.array([1.0, 2, 2, 5]), np.array([2.0, 3, 0, 7, 9])
    statistic = stats.mannwhitneyu(b, a).statistic
    assert share_closer(a, b) == pytest.approx(statistic / 20)
    assert share_closer(np.zeros(3), np.ones(4)) == 1
