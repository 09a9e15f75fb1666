"""The memory of the windows: a ring of rows and three hash tables, as arrays.

Keys are interned by levels, so that no collision of hashes can ever change a count: the sensor and the
16 bytes of an address are an entity, two entities are a pair, a pair and a port are a triple. A table
compares whole keys; the hash only says where to look first.

Nothing is deleted when a row leaves. What no open row refers to is dead, and a move carries the living
over into new arrays when a table is full or far too large (`window_kernels`).
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[np.void]
Counts = npt.NDArray[np.int32]
Integers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

CHUNK = 1024
"""Rows in one compiled call: enough to hide the call, few enough to stay in the cache."""

ROW = np.dtype(
    [
        ("clock", "i8"),
        ("bytes", "i8"),
        ("src", "i4"),  # entity
        ("dst", "i4"),  # entity
        ("pair", "i4"),
        ("failed", "i4"),  # 0 or 1
        ("pair_next", "i4"),  # rows to the next row of the same pair, 0 = none yet
        ("triple_next", "i4"),  # rows to the next row of the same triple, 0 = none yet
    ]
)
"""A row that is open in at least the widest window; it stands at `seq % len(ring)`."""

STATS = np.dtype(
    [
        ("bytes", "i8"),
        ("flows", "i4"),
        ("failed", "i4"),
        ("dsts", "i4"),
        ("dst_ports", "i4"),
        ("flows_in", "i4"),
        ("srcs", "i4"),
    ]
)
"""What one window holds of one entity, as source and (the last two) as destination."""

PAIR = np.dtype([("key", "u8"), ("last", "i8")])
"""Two entities, and the seq of their last row."""


class Tables(NamedTuple):
    """The state of all windows of a lane, changed in place."""

    ring: Records  # ROW (size,)
    entity_slots: Words  # (2 ** k,): tag << 32 | 1 + entity, 0 = empty
    entity_keys: Words  # (entities, 3): address in two words, sensor
    entity_stats: Records  # STATS (entities, widths)
    pair_slots: Words  # (2 ** k,): tag << 32 | 1 + pair, 0 = empty
    pairs: Records  # PAIR (pairs,)
    pair_flows: Counts  # (pairs, widths)
    triples: Words  # (2 ** k, 2): pair and port, 1 + seq of its last row or 0 = empty
    used: Integers  # (3,): entities, pairs, triples, the dead included
    lane: Integers  # (2,): the lane clock, and the seq of the next row
    tails: Integers  # (widths,): seq of the oldest row open in each window
    meters: Integers  # (3,): rows late, rows whose widest window was capped, largest lateness
    seed: Words  # (1,): of the hashes


class Rows(NamedTuple):
    """Rows to bring in: checked, contiguous, writeable, so that one compiled version serves all."""

    src: Words  # (n, 2)
    dst: Words  # (n, 2)
    sensor: Words  # (n,)
    dst_port: Integers  # (n,), -1 = none
    bytes: Integers  # (n,)
    failed: npt.NDArray[np.bool_]  # (n,)
    event_time: Integers  # (n,), not below 0


class Links(NamedTuple):
    """Where each of some rows belongs, while they are brought in."""

    src: Integers  # (n,), entity
    dst: Integers  # (n,), entity
    pair: Integers  # (n,)
    pair_before: Integers  # (n,): seq of the last row before of the same pair, -1 = none
    triple_before: Integers  # (n,): seq of the last row before of the same triple, -1 = none
    keys: Words  # (n,)
    hashes: Words  # (n,)
    fetched: Words  # (n,): what `fetch` leaves, in the first


class Limits(NamedTuple):
    """Which rows a window holds."""

    widths_us: Integers  # (widths,)
    capacity: int  # rows


class Sizes(NamedTuple):
    """How much tables hold."""

    ring: int
    entities: int
    pairs: int
    triples: int


class Sensors:
    """Lasting numbers of sensors, in place of their names: a number is never used twice."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}
        self._n_ever = 0

    def numbers(self, names: Sequence[str], codes: npt.NDArray[np.integer]) -> Words:
        """Return the number of each row's sensor, of which `codes` are indices into `names`."""
        numbers: Words = np.zeros(len(names), np.uint64)
        for code in np.flatnonzero(np.bincount(codes)).tolist():
            if names[code] not in self.names:
                self.names[names[code]] = self._n_ever
                self._n_ever += 1
            numbers[code] = self.names[names[code]]
        of_rows: Words = numbers[codes]
        return of_rows

    def keep(self, alive: Words) -> None:
        """Forget all sensors but those with these numbers."""
        numbers = set(alive.tolist())
        self.names = {name: number for name, number in self.names.items() if number in numbers}


def slots_for(entries: int) -> int:
    """Return the number of slots that hold `entries` at a load of 1/3 to 2/3.

    Examples
    --------
    >>> slots_for(1000), slots_for(1400)
    (2048, 4096)
    """
    return 1 << max(4, (entries + entries // 2).bit_length())


def new_tables(sizes: Sizes, n_widths: int) -> Tables:
    """Return empty tables of the given sizes."""
    return Tables(
        ring=np.zeros(sizes.ring, ROW),
        entity_slots=np.zeros(slots_for(sizes.entities), np.uint64),
        entity_keys=np.zeros((sizes.entities, 3), np.uint64),
        entity_stats=np.zeros((sizes.entities, n_widths), STATS),
        pair_slots=np.zeros(slots_for(sizes.pairs), np.uint64),
        pairs=np.zeros(sizes.pairs, PAIR),
        pair_flows=np.zeros((sizes.pairs, n_widths), np.int32),
        triples=np.zeros((slots_for(sizes.triples), 2), np.uint64),
        used=np.zeros(3, np.int64),
        lane=np.zeros(2, np.int64),
        tails=np.zeros(n_widths, np.int64),
        meters=np.zeros(3, np.int64),
        seed=np.zeros(1, np.uint64),
    )


def new_links(n: int = CHUNK) -> Links:
    """Return room for the links of n rows."""
    return Links(
        src=np.zeros(n, np.int64),
        dst=np.zeros(n, np.int64),
        pair=np.zeros(n, np.int64),
        pair_before=np.zeros(n, np.int64),
        triple_before=np.zeros(n, np.int64),
        keys=np.zeros(n, np.uint64),
        hashes=np.zeros(n, np.uint64),
        fetched=np.zeros(n, np.uint64),
    )


T = TypeVar("T", Rows, Links)


def part(columns: T, start: int, stop: int) -> T:
    """Return some of the rows."""
    return type(columns)._make(column[start:stop] for column in columns)


def sizes_of(tables: Tables) -> Sizes:
    """Return how much the tables hold before a move is due."""
    return Sizes(
        ring=tables.ring.size,
        entities=len(tables.entity_keys),
        pairs=len(tables.pairs),
        triples=len(tables.triples) * 2 // 3,
    )
