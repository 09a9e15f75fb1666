"""Splits: disjoint, complete, in order, attacks in the test part alone."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.errors import TrainingError
from training.splits import Fractions, Split, ordered_split, shared_rows, shuffled_split

S = 1_000_000
LABELS = st.integers(30, 200).flatmap(
    lambda n: st.tuples(st.just(n), st.integers(0, 2**32 - 1), st.floats(0.5, 1.0))
)


def rows_of(split: Split) -> np.ndarray:
    return np.concatenate(list(split.parts.values()))


def made(case: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Return which rows are normal, times with repeats and disorder, and the generator."""
    n, seed, share = case
    rng = np.random.default_rng(seed)
    normal = rng.uniform(size=n) < share
    normal[:20] = True
    return normal, rng.integers(0, n, size=n) * S, rng


@settings(max_examples=60)
@given(LABELS, st.sampled_from(["shuffled", "timed", "as it stands"]))
def test_parts_are_disjoint_and_nothing_is_lost(
    case: tuple[int, int, float],
    kind: str,
) -> None:
    """Every row is in exactly one part; fit, val and cal hold normal rows only."""
    normal, times, rng = made(case)
    split = (
        shuffled_split(normal, rng=rng)
        if kind == "shuffled"
        else ordered_split(normal, times=times if kind == "timed" else None)
    )

    np.testing.assert_array_equal(np.sort(rows_of(split)), np.arange(normal.size))
    assert all(normal[split.parts[part]].all() for part in ("fit", "val", "cal"))
    assert all((np.diff(rows) > 0).all() for rows in split.parts.values())


@settings(max_examples=60)
@given(LABELS)
def test_no_part_is_judged_by_its_own_future(case: tuple[int, int, float]) -> None:
    """Every normal row is at least as late as every normal row of the parts before."""
    normal, times, _ = made(case)
    parts = ordered_split(normal, times=times).parts
    spans = [times[rows[normal[rows]]] for rows in parts.values()]

    for before, after in itertools.pairwise(spans):
        assert before.max() <= after.min()


@settings(max_examples=60)
@given(LABELS, st.integers(1, 8))
def test_a_gap_keeps_windows_from_reaching_across(case: tuple[int, int, float], gap_s: int) -> None:
    """No normal row is within the gap of a part before it, and the count of those dropped is told."""
    normal, times, _ = made((200, *case[1:]))
    split = ordered_split(normal, times=times, gap_s=gap_s)
    spans = [times[rows[normal[rows]]] for rows in split.parts.values()]

    for before, after in itertools.pairwise(spans):
        assert after.min() - before.max() > gap_s * S
    assert rows_of(split).size + split.left_out["gap"] == normal.size


@settings(max_examples=40)
@given(LABELS, st.sampled_from(["shuffled", "as it stands"]))
def test_a_test_part_of_its_own_stays_whole_and_alone(
    case: tuple[int, int, float],
    kind: str,
) -> None:
    """All rows of the test file are tested, none is learnt from; training attacks are left out."""
    normal, _, rng = made(case)
    test = np.arange(normal.size) >= 25
    split = (
        shuffled_split(normal, test=test, rng=rng) if kind == "shuffled" else ordered_split(normal, test=test)
    )

    np.testing.assert_array_equal(split.test, np.flatnonzero(test))
    assert not test[np.concatenate([split.fit, split.val, split.cal])].any()
    assert rows_of(split).size + sum(split.left_out.values()) == normal.size


def test_without_times_blocks_keep_the_order_of_the_rows() -> None:
    """Contiguous blocks of 60, 10, 10 and the remaining 20 in a hundred."""
    split = ordered_split(np.ones(100, dtype=np.bool_))

    assert [range(60), range(60, 70), range(70, 80), range(80, 100)] == [
        range(rows[0], rows[-1] + 1) for rows in split.parts.values()
    ]


def test_the_same_seed_deals_the_same_rows() -> None:
    """A shuffled split is a function of its seed."""
    normal = np.ones(500, dtype=np.bool_)
    one, same, other = (
        shuffled_split(normal, rng=np.random.default_rng(seed)).summary() for seed in (1, 1, 2)
    )

    assert one == same
    assert one["parts"]["fit"]["sha256"] != other["parts"]["fit"]["sha256"]


def test_the_summary_says_what_a_manifest_needs() -> None:
    """Rows, spans in time, a hash of the row numbers, and how the split was made; all JSON."""
    normal = np.arange(100) % 10 != 0
    summary = json.loads(
        json.dumps(ordered_split(normal, times=np.arange(100) * S).summary(np.arange(100) * S))
    )

    assert summary["parts"]["fit"]["rows"] == 54
    assert summary["parts"]["fit"]["last_us"] == 59 * S
    assert "order of event time" in summary["protocol"]
    assert "all attacks" in summary["protocol"]


@pytest.mark.parametrize("shares", [(0.6, 0.3, 0.2), (0.5, 0.0, 0.1), (-0.1, 0.5, 0.5)])
def test_impossible_fractions_are_refused(shares: tuple[float, float, float]) -> None:
    """Shares are positive and at most one in sum."""
    with pytest.raises(TrainingError, match="their sum at most 1"):
        Fractions(fit=shares[0], val=shares[1], cal=shares[2])


def test_an_empty_part_is_refused_by_name() -> None:
    """Three normal rows make no four parts."""
    with pytest.raises(TrainingError, match="the val part has no rows"):
        ordered_split(np.array([True, True, True]))


def test_a_gap_without_times_is_refused() -> None:
    """Seconds mean nothing without a clock."""
    with pytest.raises(TrainingError, match="needs event times"):
        ordered_split(np.ones(50, dtype=np.bool_), gap_s=1)


def test_shared_rows_are_counted() -> None:
    """Each test row that training has seen counts, repeats included."""
    seen = np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32)
    tested = np.array([[3.0, 4.0], [4.0, 3.0], [3.0, 4.0]], dtype=np.float32)

    assert shared_rows(seen, tested) == 2
