"""Histories: the windows of rows are those of a plain loop, however a lane is cut."""

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detectors.histories import laid_out

# Of so many rows that histories fill up and rows leave the reach: lists are mostly shorter.
LANE = st.builds(
    lambda n, many, seed: np.random.default_rng(seed).integers(0, many, n).tolist(),
    st.integers(0, 60),
    st.integers(1, 6),
    st.integers(0, 2**32),
)


def looked_back_on(sources: list[int], history: int, reach: int, row: int) -> list[int]:
    """Return the window of a row of a lane, as the rule says it."""
    seen = [i for i in range(max(0, row - reach), row) if sources[i] == sources[row]]
    last = (seen[-history:] if history else []) + [row]
    return [last[0]] * (history + 1 - len(last)) + last


@given(LANE, st.integers(0, 5), st.integers(1, 20), st.integers(0, 40))
def test_windows_are_those_of_the_rule(lane: list[int], history: int, reach: int, n_past: int) -> None:
    n_past = min(n_past, len(lane))
    places = np.arange(len(lane)) - n_past
    laid = laid_out(np.array(lane, dtype=np.int64), history, n_past=n_past, places=places, reach=reach)
    expected = [looked_back_on(lane, history, reach, row) for row in range(n_past, len(lane))]

    assert expected == laid.windows(history).tolist()


@given(LANE, st.integers(0, 5))
def test_without_a_reach_all_rows_before_count(lane: list[int], history: int) -> None:
    laid = laid_out(np.array(lane, dtype=np.int64), history)
    expected = [looked_back_on(lane, history, len(lane), row) for row in range(len(lane))]

    assert expected == laid.windows(history).tolist()


def test_rows_of_a_source_share_their_steps() -> None:
    """Ten rows of two sources take their own steps and two histories, not ten."""
    laid = laid_out(np.array([5, 9] * 5), 3)

    assert laid.steps.tolist() == [0, 0, 0, 0, 2, 4, 6, 8, 1, 1, 1, 1, 3, 5, 7, 9]
    assert all(a < b for a, b in pairwise(laid.ends[::2]))
