"""Linear-Gaussian networks are the Gaussians that they stand for."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.base import Matrix
from detectors.gaussian import LinearGaussian


def covariance(rng: np.random.Generator, d: int) -> Matrix:
    root = rng.normal(size=(d, d))
    return root @ root.T + 0.1 * np.eye(d)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_saturated_network_is_the_gaussian(seed: int, d: int) -> None:
    """Same log-likelihood as the multivariate normal of the same moments."""
    rng = np.random.default_rng(seed)
    mean, cov = rng.normal(size=d), covariance(rng, d)
    x = rng.normal(size=(7, d))

    np.testing.assert_allclose(
        stats.multivariate_normal(mean, cov).logpdf(x),
        LinearGaussian.saturated(mean, cov).logl(x),
        rtol=1e-7,
    )


def test_samples_have_the_moments_of_the_network() -> None:
    rng = np.random.default_rng(0)
    mean, cov = rng.normal(size=5), covariance(rng, 5)
    x = LinearGaussian.saturated(mean, cov).sample(200_000, rng)

    np.testing.assert_allclose(mean, x.mean(axis=0), atol=0.05)
    np.testing.assert_allclose(cov, np.cov(x.T), atol=0.15)


def test_samples_follow_arcs_against_the_order_of_columns() -> None:
    """A parent may stand in a later column than its child."""
    net = LinearGaussian(np.zeros(2), np.array([[0.0, 3.0], [0.0, 0.0]]), np.array([1e-6, 1.0]))
    x = net.sample(100, np.random.default_rng(0))

    assert net.order == [1, 0]
    np.testing.assert_allclose(3.0 * x[:, 1], x[:, 0], atol=0.01)
