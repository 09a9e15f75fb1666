"""What the load benchmarks say of memory and windows."""

from dataclasses import replace

import pytest
from load import Load
from workers import CAP, Memory, full_window


def test_growth_is_that_of_the_second_half() -> None:
    """Filling up first and then flat is no growth; 2 MB a million flows is."""
    at = [1e6 * step for step in range(20)]
    filling = [100.0 + 10 * min(step, 8) for step in range(20)]
    growing = [100.0 + 2 * step for step in range(20)]
    memory = Memory({}, lambda: 0.0, at=at, mb={"filling": filling, "growing": growing})

    assert memory.slope("filling") == pytest.approx(0.0, abs=1e-9)
    assert memory.slope("growing") == pytest.approx(2.0)
    assert memory.peak("growing") == 138.0


def test_a_full_window_is_a_minute_or_the_cap() -> None:
    """Of the flows of one lane."""
    assert full_window(Load(rate=1_000.0)) == 60_000
    assert full_window(Load(rate=16_000.0, lanes=16)) == 60_000
    assert full_window(replace(Load(), rate=1e6)) == CAP
