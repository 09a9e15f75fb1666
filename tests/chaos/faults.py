"""Which faults a round has, and when: drawn from a seed, so that a round can be repeated alone."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = {
    "kill": "kill -9 of a worker",
    "term": "SIGTERM to a worker, as a deployment does",
    "freeze": "SIGSTOP of a worker for longer than its session lasts, then SIGCONT: a zombie",
    "join": "another worker of a stage joins the group and leaves it, by SIGTERM or by kill -9",
    "disk": "a worker's disk is full: nothing can be written, its own log included",
    "connector-kill": "kill -9 of the connector in mid-file; run again",
    "connector-term": "SIGTERM to the connector in mid-file; run again",
    "connector-freeze": "SIGSTOP of the connector for some seconds",
    "broker-kill": "kill -9 of the broker, started again on its data",
    "net-hold": "the network stands still for some seconds",
    "net-drop": "what is sent is lost, and open connections stay silent for ever",
    "net-delay": "everything on the network comes late",
    "net-reset": "all connections are reset, and new ones for some seconds",
    "poison": "a message that kills every process that judges it",
    "segments": "the oldest flows leave the log before they were read",
}
"""Kind -> what happens."""

WEIGHTS = {
    "kill": 9,
    "term": 3,
    "freeze": 3,
    "join": 3,
    "disk": 2,
    "connector-kill": 4,
    "connector-term": 1,
    "connector-freeze": 1,
    "broker-kill": 2,
    "net-hold": 1,
    "net-drop": 1,
    "net-delay": 1,
    "net-reset": 2,
}
"""How often each kind comes among the faults that any round can have."""

NEEDS_PROXY = frozenset({"net-hold", "net-drop", "net-delay", "net-reset"})
NEEDS_DURABLE_BROKER = frozenset({"broker-kill"})
SESSION_S = 6.0
"""Session timeout of the workers: a frozen one must be silent for longer."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One disturbance."""

    at_s: float  # since the first flow was in the log
    kind: str
    pick: float  # in [0, 1): which of the processes that it can hit
    for_s: float = 0.0  # how long it lasts, where it lasts


def draw(
    rng: random.Random,
    *,
    n: int,
    span_s: float,
    without: frozenset[str] = frozenset(),
    extra: Sequence[str] = (),
) -> list[Fault]:
    """Return `n` faults over a span, in order of time; the kinds in `extra` are among them, in mid-span."""
    kinds = [kind for kind in WEIGHTS if kind not in without]
    drawn = rng.choices(kinds, [WEIGHTS[kind] for kind in kinds], k=n - len(extra))
    drawn = _spread_out(drawn, rng, kinds)
    faults = [
        Fault(at_s=rng.uniform(0, span_s), kind=kind, pick=rng.random(), for_s=_lasting(kind, rng))
        for kind in drawn
    ]
    middle = [
        Fault(at_s=rng.uniform(0.3, 0.6) * span_s, kind=kind, pick=rng.random(), for_s=_lasting(kind, rng))
        for kind in extra
    ]
    return sorted([*faults, *middle], key=lambda fault: fault.at_s)


def _spread_out(drawn: list[str], rng: random.Random, kinds: list[str]) -> list[str]:
    """Allow at most two broker restarts a round: more, and nothing else would be tried."""
    most = {"broker-kill": 2, "net-drop": 2, "freeze": 4}
    seen: Counter[str] = Counter()
    kept = []
    for kind in drawn:
        seen[kind] += 1
        kept.append(kind if seen[kind] <= most.get(kind, len(drawn)) else rng.choice(["kill", "term"]))
    return kept


def _lasting(kind: str, rng: random.Random) -> float:
    spans = {
        "freeze": (SESSION_S + 1.5, SESSION_S + 5),
        "connector-freeze": (1, 8),
        "join": (3, 10),
        "broker-kill": (0.2, 3),
        "disk": (3, 6),
    }
    if kind.startswith("net-"):
        spans[kind] = (1, 7)
    low, high = spans.get(kind, (0.0, 0.0))
    return rng.uniform(low, high)


def told(kinds: Sequence[str]) -> str:
    """Return how many there were of each kind, in one line."""
    counts = Counter(kinds)
    return ", ".join(f"{counts[kind]} {kind}" for kind in KINDS if counts[kind])
