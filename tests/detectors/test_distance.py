"""The distance of a row from its rebuilt self, and each column's part of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.attribution import along
from detectors.base import Matrix
from detectors.inputs import Inputs
from detectors.networks import Layer, Network
from detectors.parts.distance import Distance, Judge, nothing, the_row
from detectors.parts.residuals import Scaled, Through
from detectors.parts.sum import SumOfParts

HALF = Through(Network((Layer(0.5 * np.eye(2), np.zeros(2), "linear"),)))
"""Rebuilds half of each value."""

INPUTS = Inputs(np.zeros(2), np.ones(2), np.full(2, -10.0), np.full(2, 10.0))


def network(d: int, seed: int, activation: str = "leaky_relu") -> Network:
    rng = np.random.default_rng(seed)
    inner = Layer(rng.normal(size=(8, d)), rng.normal(size=8), activation)
    return Network((inner, Layer(rng.normal(size=(6, 8)), rng.normal(size=6), activation)))


def model(judge: Judge, *, weight: float, scaled: bool = False) -> SumOfParts:
    held_out = np.random.default_rng(0).normal(size=(400, 2))
    part = Distance.of(HALF, judge, held_out, np.zeros(2), weight=weight, scaled=scaled, floor=0.05)
    return SumOfParts(INPUTS, [part], "distance")


def test_a_worked_example() -> None:
    """0.9 (1 + 2) of the residuals, 0.1 |1 - 2 * 2| of one feature x_1 - 2 x_2."""
    feature = Network((Layer(np.array([[1.0, -2.0]]), np.zeros(1), "linear"),))
    found = model(Judge(feature), weight=0.1)
    row = np.array([[2.0, 4.0]])

    assert found.score(row) == pytest.approx(0.9 * 3.0 + 0.1 * 3.0)
    # The feature changes by 3: the second column takes it 4 down, the first one brings 1 back.
    np.testing.assert_allclose(found.terms(row), [[0.9 * 1.0 - 0.1 * 1.0, 0.9 * 2.0 + 0.1 * 4.0]])
    np.testing.assert_allclose(found.explain(row).expected, row / 2)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), beside=st.sampled_from([nothing, the_row]))
def test_parts_sum_to_the_distance_of_the_features(seed: int, beside: object) -> None:
    judge = Judge(network(4 if beside is the_row else 2, seed), beside)
    found = model(judge, weight=1.0)
    x = 3.0 * np.random.default_rng(seed).normal(size=(50, 2))

    np.testing.assert_allclose(found.terms(x).sum(axis=1), found.score(x), rtol=1e-11, atol=1e-12)


def test_a_column_that_is_rebuilt_exactly_has_no_part() -> None:
    """Whatever the features make of the other one."""
    first = Through(Network((Layer(np.diag([1.0, 0.5]), np.zeros(2), "linear"),)))
    ones = np.ones(2)
    part = Distance(first, Judge(network(2, 1)), Scaled.none(2), ones, 1.0, np.zeros(2))
    terms = SumOfParts(INPUTS, [part], "distance").terms(np.random.default_rng(0).normal(size=(30, 2)))

    np.testing.assert_array_equal(terms[:, 0], 0.0)
    assert np.abs(terms[:, 1]).min() > 0


def test_a_judge_that_sees_no_difference_scores_none() -> None:
    """The pathology that spectral norms and held-out stopping are against."""
    blind = Network((Layer(np.zeros((3, 2)), np.ones(3), "leaky_relu"),))
    found = model(Judge(blind), weight=1.0)

    np.testing.assert_array_equal(found.score(np.random.default_rng(0).normal(size=(30, 2))), 0.0)


def test_scaled_sums_have_their_weights_on_normal_rows() -> None:
    """A typical normal row scores about 1, a tenth of it by the features, whatever their unit is."""
    normal = np.random.default_rng(5).normal(size=(2000, 2))
    for factor in (1e-3, 1.0, 1e3):
        loud = network(2, 3)
        last = loud.layers[-1]
        loud = Network((*loud.layers[:-1], Layer(factor * last.weights, factor * last.bias, last.activation)))
        whole, alone = (
            model(Judge(loud), weight=0.1, scaled=True),
            model(Judge(loud), weight=1.0, scaled=True),
        )

        assert whole.score(normal).mean() == pytest.approx(1.0, rel=0.1)
        assert alone.score(normal).mean() == pytest.approx(1.0, rel=0.1)


def test_the_way_between_two_tiles_is_shared_out_exactly_where_a_function_is_linear() -> None:
    weights = np.array([[2.0, -1.0, 0.0]])
    linear = Network((Layer(weights, np.ones(1), "linear"),))
    start, end = np.random.default_rng(0).normal(size=(2, 3, 256))

    np.testing.assert_allclose(along(linear, start, end), weights.T * (end - start), atol=1e-12)


def test_parts_have_the_same_bits_beside_other_rows() -> None:
    found = model(Judge(network(4, 2), the_row), weight=0.5)
    x: Matrix = np.random.default_rng(0).normal(size=(300, 2))

    np.testing.assert_array_equal(found.terms(x)[257:258], found.terms(x[257:258]))
