"""Distances between traffic and its reference: zero where nothing moved, larger the farther it did."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.drift import (
    N_EDGES,
    SHARE_FLOOR,
    UNIFORM_BINS,
    Counts,
    distance_to_uniform,
    quantile_edges,
    stability_index,
    uniform_counts,
)

COUNTS = hnp.arrays(np.int64, (3, 11), elements=st.integers(0, 10_000))
P_VALUES = hnp.arrays(np.float64, st.integers(0, 200), elements=st.floats(1e-12, 1.0))


@given(COUNTS, st.integers(2, 50))
def test_the_same_shares_have_index_zero(counts: Counts, times: int) -> None:
    """However many rows each side has."""
    np.testing.assert_allclose(stability_index(counts, times * counts), 0.0, atol=1e-12)


@given(COUNTS, COUNTS)
def test_the_index_is_a_bounded_distance(one: Counts, other: Counts) -> None:
    """The same in both directions, never below zero, below what two disjoint sides can have."""
    index = stability_index(one, other)

    np.testing.assert_allclose(index, stability_index(other, one))
    assert (index >= 0).all()
    assert (index <= -2 * np.log(SHARE_FLOOR)).all()


@given(st.integers(0, 9), st.integers(1, 1000))
def test_the_index_grows_with_what_has_moved(to: int, n: int) -> None:
    """More rows in another bin: a larger index."""
    reference = np.full((1, 11), 1000)
    indices = []
    for moved in (0, n, 2 * n):
        observed = np.full((1, 11), 3000)
        observed[0, 10] -= moved
        observed[0, to] += moved
        indices.append(stability_index(observed, reference)[0])

    assert indices == sorted(indices)
    assert indices[0] == 0.0 < indices[1]


def test_chance_alone_stays_below_the_conventional_limit() -> None:
    """The fewest flows that a window compares, independent of each other: far from 0.25."""
    reference = np.full((200, 11), 10_000)
    observed = np.random.default_rng(5).multinomial(250, np.full(11, 1 / 11), size=200)

    assert stability_index(observed, reference).mean() == pytest.approx(10 / 250, rel=0.3)
    assert stability_index(observed, reference).max() < 0.2


@given(P_VALUES, st.floats(1e-9, 0.5))
def test_every_p_value_above_alpha_is_counted_once(p_values: npt.NDArray[np.float64], alpha: float) -> None:
    """Flagged flows are not: they are not what normal traffic is judged by."""
    counts = uniform_counts(p_values, alpha)

    assert counts.size == UNIFORM_BINS
    assert counts.sum() == np.count_nonzero(p_values > alpha)


@pytest.mark.parametrize("alpha", [0.0, 1e-4, 0.2])
def test_uniform_p_values_have_distance_zero(alpha: float) -> None:
    """What is left above alpha is uniform again."""
    p_values = alpha + (1 - alpha) * (np.arange(2000) + 0.5) / 2000

    assert distance_to_uniform(uniform_counts(p_values, alpha)) == pytest.approx(0.0, abs=1e-3)


@given(st.floats(1.2, 8.0))
def test_the_distance_is_the_largest_gap(power: float) -> None:
    """Of p-values that have become smaller: the gap at one of the ends of the bins, as exact as they are."""
    p_values = ((np.arange(20_000) + 0.5) / 20_000) ** power
    ends = np.arange(1, UNIFORM_BINS) / UNIFORM_BINS
    gaps = ends ** (1 / power) - ends

    found = distance_to_uniform(uniform_counts(p_values, 0.0))
    assert found == pytest.approx(gaps.max(), abs=1e-3)


def test_where_everything_is_flagged_there_is_no_distance() -> None:
    """Nothing is left that could be uniform."""
    assert distance_to_uniform(uniform_counts(np.array([0.1, 1.0]), 1.0)) == 0.0


@given(hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e6, 1e6, width=32)))
def test_edges_cut_values_into_equal_parts(values: npt.NDArray[np.float32]) -> None:
    """Ascending; no bin between two edges has more than a tenth, unless of one value; none lies below."""
    edges = quantile_edges(values)
    known = edges[np.isfinite(edges)]

    assert edges.size == N_EDGES
    assert (np.diff(known) > 0).all()
    assert known[0] < values.min()
    for low, high in pairwise(known):
        inside = values[(values > low) & (values <= high)]
        assert np.count_nonzero(inside < high) <= values.size / 10 + 1
