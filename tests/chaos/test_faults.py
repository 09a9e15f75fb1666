"""Faults are drawn from a seed."""

import random
from collections import Counter
from typing import Any

from faults import KINDS, NEEDS_PROXY, SESSION_S, WEIGHTS, Fault, draw


def drawn(seed: int, **options: Any) -> list[Fault]:
    return draw(random.Random(seed), n=28, span_s=50.0, **options)


def test_a_seed_gives_the_same_faults_again() -> None:
    """So that a round can be repeated."""
    assert drawn(5) == drawn(5)
    assert drawn(5) != drawn(6)


def test_there_are_as_many_as_asked_for_in_order_of_time() -> None:
    """Those of the round's kind are in its middle."""
    faults = drawn(5, extra=["poison"])
    assert len(faults) == 28
    assert faults == sorted(faults, key=lambda fault: fault.at_s)
    (poison,) = [fault for fault in faults if fault.kind == "poison"]
    assert 15 <= poison.at_s <= 30


def test_impossible_kinds_are_left_out() -> None:
    """On a broker without a proxy nothing happens to the network."""
    kinds = Counter(fault.kind for seed in range(20) for fault in drawn(seed, without=NEEDS_PROXY))
    assert not NEEDS_PROXY & set(kinds)
    assert set(WEIGHTS) - NEEDS_PROXY == set(kinds)


def test_frozen_workers_outlast_their_session() -> None:
    """Otherwise they would be no zombies; every kind is explained."""
    faults = [fault for seed in range(20) for fault in drawn(seed)]
    assert all(fault.for_s > SESSION_S for fault in faults if fault.kind == "freeze")
    assert set(WEIGHTS) <= set(KINDS)
