"""Pacing of a replay by event time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.pacer import Pacer

SECOND = 1_000_000


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def test_rows_come_due_with_their_time() -> None:
    """At speed 2, four seconds of traffic take two."""
    clock = Clock()
    pacer = Pacer(2.0, clock=clock)
    times = np.array([10, 11, 12, 14]) * SECOND

    assert pacer.due(times) == (1, 0.5)
    clock.now_s += 1.0
    assert pacer.due(times) == (3, 1.0)
    clock.now_s += 1.0
    assert pacer.due(times) == (4, 0.0)


def test_a_late_row_waits_for_nothing() -> None:
    """A row older than those before it is due with them and changes no order."""
    clock = Clock()
    pacer = Pacer(1.0, clock=clock)
    clock.now_s += 1
    assert pacer.due(np.array([5, 3, 9]) * SECOND)[0] == 2


def test_nothing_to_pace() -> None:
    """No rows: none due, no wait, and time does not begin."""
    assert Pacer(1.0).due(np.array([], dtype=np.int64)) == (0, 0.0)


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_must_be_positive(speed: float) -> None:
    """Standing still is no replay."""
    with pytest.raises(ValueError, match="expected more than 0"):
        Pacer(speed)


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 100 * SECOND), min_size=1, max_size=50),
    st.floats(0.1, 1000),
    st.lists(st.floats(0, 20), max_size=10),
)
def test_all_rows_come_in_order_and_never_early(times: list[int], speed: float, waits: list[float]) -> None:
    """However often it is asked, a row is due no earlier than its time and at the latest by the end."""
    clock = Clock()
    pacer = Pacer(speed, clock=clock)
    rest = np.array(times, dtype=np.int64)
    begun = clock.now_s
    pacer.due(rest)
    for wait_s in waits:
        n_due, _ = pacer.due(rest)
        reached_us = times[0] + (clock.now_s - begun) * speed * 1e6
        assert (rest[:n_due] <= reached_us + 1).all()
        rest = rest[n_due:]
        clock.now_s += wait_s
    clock.now_s = begun + 200 / speed + 1000
    assert rest.size == pacer.due(rest)[0]
