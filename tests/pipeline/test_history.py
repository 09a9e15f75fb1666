"""What a lane keeps for detectors that look back, and how its rows stand behind their histories."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.records import ADDRESS
from detectors.base import Matrix, Scores
from pipeline import history
from pipeline.history import Depth, Past, Window, source_numbers, source_runs

Source = tuple[str, bytes | None]

MEMBER = st.tuples(st.integers(0, 3), st.sampled_from(["lane", "source"]))

SOURCES: list[Source] = [("a", bytes(16)), ("a", b"1" * 16), ("b", b"1" * 16), ("a", None), ("b", None)]

# Of so many rows that histories fill up and rows leave the reach: lists are mostly shorter.
LANE = st.builds(
    lambda n, seed: [SOURCES[i] for i in np.random.default_rng(seed).integers(0, len(SOURCES), n)],
    st.integers(1, 60),
    st.integers(0, 2**32),
)


@dataclass
class Numbers:
    """Stands for a detector: the score of a window of row numbers tells which rows it holds."""

    history: int
    history_of: Literal["lane", "source"] = "source"

    def score(self, x: Matrix) -> Scores:
        """Return the numbers of each window as the digits of one."""
        return sum(x[j : len(x) - self.history + j, 0] * 100**j for j in range(self.history + 1))


class Own:
    """Stands for a normaliser: a row is its number."""

    def matrix(self, rows: pa.RecordBatch) -> Matrix:
        """Return (n, 1)."""
        return rows.column("number").to_numpy().astype(np.float64)[:, None]


def lane_of(sources: Sequence[Source]) -> pa.RecordBatch:
    columns = {
        "sensor": pa.array([sensor for sensor, _ in sources], pa.string()),
        "src_ip": pa.array([address for _, address in sources], ADDRESS),
        "number": np.arange(len(sources)),
    }
    return pa.RecordBatch.from_pydict(columns)


def by_rule(sources: Sequence[Source], detector: Numbers, reach: int) -> list[list[int]]:
    """Return the window of each row of a lane, row by row."""
    found = []
    for row, source in enumerate(sources):
        seen = list(range(row))
        if detector.history_of == "source":
            seen = [i for i in seen[max(0, row - reach) :] if sources[i] == source]
        last = [*seen[len(seen) - min(len(seen), detector.history) :], row]
        found.append([last[0]] * (detector.history + 1 - len(last)) + last)
    return found


@given(
    lane=LANE,
    sizes=st.lists(st.integers(0, 20), min_size=3, max_size=8),
    members=st.lists(MEMBER, min_size=1, max_size=3),
    reach=st.integers(1, 25),
)
def test_every_row_is_judged_behind_its_own_history(
    lane: list[Source], sizes: list[int], members: list[tuple[int, Any]], reach: int
) -> None:
    """However the lane is cut into messages, and whatever else is in the panel."""
    rows, detectors = lane_of(lane), [Numbers(*member) for member in members]
    depth = Depth.of(detectors)
    found: list[list[float]] = [[] for _ in detectors]
    past: Past | None = None
    borders = [*np.minimum(np.cumsum([0, *sizes]), len(lane)), len(lane)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "REACH", reach)
        patch.setattr(history, "STEPS", 7)
        for start, stop in pairwise(borders):
            part = rows.slice(start, stop - start)
            for index, detector in enumerate(detectors):
                found[index] += window_of(detector, part, past).scores.tolist()
            past = depth.past(past, part)

    for scores, detector in zip(found, detectors, strict=True):
        windows = by_rule(lane, detector, reach)
        assert scores == [sum(row * 100**j for j, row in enumerate(window)) for window in windows]


def window_of(detector: Numbers, rows: pa.RecordBatch, past: Past | None = None) -> Window:
    return Window.of(detector, Own(), rows, past)


def test_a_lane_keeps_the_last_rows_of_each_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those in reach, with their ages, and the last ones of the lane for members that look back on it."""
    monkeypatch.setattr(history, "REACH", 6)
    one, two, three = SOURCES[:3]
    rows = lane_of([three, three, one, one, one, two, one, one])

    def kept(depth: Depth) -> list[int]:
        past = depth.past(None, rows)
        assert past is not None
        assert (8 - past.ages).tolist() == past.rows.column("number").to_pylist()
        return list(past.rows.column("number").to_pylist())

    assert kept(Depth(source=2)) == [5, 6, 7]
    assert kept(Depth(lane=4)) == [4, 5, 6, 7]
    assert kept(Depth(lane=1, source=3)) == [4, 5, 6, 7]
    assert Depth().past(None, rows) is None


def test_a_depth_says_how_far_it_goes() -> None:
    """In words, and in rows that must be read again."""
    detectors = [Numbers(3, "lane"), Numbers(7), Numbers(5), Numbers(0, "lane")]
    depth = Depth.of(detectors)

    assert (str(depth), depth.rows) == ("3 rows and 7 rows of each source", history.REACH)
    assert (str(Depth(lane=3)), Depth(lane=3).rows) == ("3 rows", 3)
    assert Depth().rows == 0


def test_a_source_is_an_address_at_a_sensor() -> None:
    """Rows without an address are of one source of their sensor, and not of the address of zeros."""
    numbers = source_numbers(lane_of([*SOURCES, *SOURCES]))

    assert len(set(numbers.tolist())) == len(SOURCES)
    np.testing.assert_array_equal(numbers[: len(SOURCES)], numbers[len(SOURCES) :])


def test_a_source_that_was_away_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where training rows of it are further apart than a row looks back."""
    monkeypatch.setattr(history, "REACH", 2)
    one, two = SOURCES[:2]
    runs = source_runs(lane_of([one, two, one, two, two, one, one]))

    assert runs[0] == runs[2]
    assert runs[5] == runs[6]
    assert runs[1] == runs[3] == runs[4]
    assert len({runs[0], runs[1], runs[5]}) == 3
