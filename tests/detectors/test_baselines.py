"""The baselines are what their libraries say they are."""

import numpy as np
import pytest
from sklearn.neighbors import NearestNeighbors

from detectors.bn import BayesianNetwork
from detectors.errors import FitError, ParameterError, StateError
from detectors.knn import NearestNeighbours
from detectors.robust_z import RobustZScore

RNG = np.random.default_rng(0)
NORMAL, HELD_OUT, ROWS = RNG.normal(size=(600, 6)), RNG.normal(size=(100, 6)), 3 * RNG.normal(size=(200, 6))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_neighbour_distances_are_those_of_scikit_learn(k: int) -> None:
    distances = NearestNeighbors(n_neighbors=k).fit(NORMAL).kneighbors(ROWS)[0][:, -1]
    ours = NearestNeighbours(k=k).fit(NORMAL, held_out=HELD_OUT, rng=rng()).score(ROWS)

    np.testing.assert_allclose(distances, ours, rtol=1e-12)


def test_a_reference_row_is_at_distance_zero_of_itself() -> None:
    """Exactly, far from the origin too, where the product form of the distance has lost its digits."""
    far = NORMAL + 1e6
    detector = NearestNeighbours().fit(far, held_out=far, rng=rng())

    np.testing.assert_array_equal(np.zeros(600), detector.score(far))
    np.testing.assert_array_equal(np.zeros((600, 6)), detector.terms(far))


def test_the_expected_row_is_the_neighbour() -> None:
    detector = NearestNeighbours().fit(NORMAL, held_out=HELD_OUT, rng=rng())
    nearest = NORMAL[NearestNeighbors(n_neighbors=1).fit(NORMAL).kneighbors(ROWS)[1][:, 0]]

    np.testing.assert_allclose(nearest, detector.explain(ROWS).expected, atol=1e-12)


def test_the_reference_is_a_seeded_sample_of_the_rows() -> None:
    detector = NearestNeighbours(max_reference=50).fit(NORMAL, held_out=HELD_OUT, rng=rng())
    kept = detector.state().arrays["rows"]

    assert kept.shape == (50, 6)
    assert len({row.tobytes() for row in kept} & {row.tobytes() for row in NORMAL}) == 50


def test_fewer_reference_rows_than_neighbours_are_refused() -> None:
    with pytest.raises(ParameterError, match="max_reference is 3, expected a whole number of at least 5"):
        NearestNeighbours(k=5, max_reference=3)
    with pytest.raises(FitError, match="4 normal rows, expected at least 5"):
        NearestNeighbours(k=5).fit(NORMAL[:4], held_out=HELD_OUT, rng=rng())
    few = NearestNeighbours().fit(NORMAL[:4], held_out=HELD_OUT, rng=rng()).state()
    with pytest.raises(StateError, match="4 reference rows, k is 5"):
        NearestNeighbours(k=5).restore(few)


def test_robust_z_of_gaussian_rows_is_the_z_score() -> None:
    """The median absolute deviation estimates sigma; outliers do not move it."""
    x = np.random.default_rng(1).normal(3.0, 2.0, size=(20_000, 1))
    x[:500] = 1e6
    detector = RobustZScore().fit(x, held_out=x, rng=rng())

    np.testing.assert_allclose([0.0, 1.0, 2.0], detector.score(np.array([[3.0], [5.0], [-1.0]])), atol=0.1)


def test_robust_z_falls_back_where_most_rows_are_equal() -> None:
    """A median absolute deviation of zero gives way to the standard deviation, and that to 1."""
    x = np.zeros((100, 2))
    x[:10, 0] = 1.0
    detector = RobustZScore().fit(x, held_out=x, rng=rng())

    np.testing.assert_allclose([[1 / 0.3, 4.0]], detector.terms(np.array([[1.0, 4.0]])))


def test_the_network_scores_by_its_likelihood() -> None:
    """The score is minus the log-likelihood of the learned network, node by node."""
    x = NORMAL.copy()
    x[:, 1] += x[:, 0]
    detector = BayesianNetwork().fit(x, held_out=HELD_OUT, rng=rng())

    np.testing.assert_allclose(-detector.network.logl(ROWS), detector.score(ROWS), rtol=1e-9)
    np.testing.assert_allclose(
        detector.network.residuals(ROWS), ROWS - detector.explain(ROWS).expected, rtol=1e-9
    )


def test_a_broken_dependency_is_explained_by_its_node_and_its_parent() -> None:
    """x1 = x0 in normal traffic: where it is not, the node leads, and both columns push it."""
    x = np.random.default_rng(1).normal(size=(2000, 3))
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    detector = BayesianNetwork().fit(x, held_out=x, rng=rng())
    explanation = detector.explain(np.array([[2.0, -2.0, 0.0]]))
    leading = int(explanation.terms[0].argmax())

    assert explanation.labels[leading].id in {"c0", "c1"}
    assert (np.abs(explanation.contributions[0, leading, :2]) > 5).all()
    assert explanation.contributions[0, leading, 2] == 0.0


@pytest.mark.parametrize(
    "bad", [{"structure": "guess"}, {"alpha": 0}, {"variance_floor": -1.0}, {"max_rows": 5}]
)
def test_bad_parameters_of_the_network_are_named(bad: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match=next(iter(bad))):
        BayesianNetwork(**bad)
