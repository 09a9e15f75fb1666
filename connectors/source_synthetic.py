"""A source of flows that never were: a small site on any number of days, generated from a seed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.base import ROWS_PER_CHUNK, Chunk
from connectors.errors import SourceError
from connectors.records import CONN, RecordType
from connectors.synthetic import attacks as attack_kinds
from connectors.synthetic import flows as tables
from connectors.synthetic import habits, site

START = date(2026, 3, 2)
"""A Monday."""
SENSOR = "site-1"

_EPOCH = date(1970, 1, 1).toordinal()
_DAY = timedelta(days=1)
_MOST_DAYS = 3660
_COUNTS, _CONTENT, _ATTACKS = range(3)  # purposes of the random numbers of a day


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedAttack:
    """An attack as it happened: what a run's closing summary looks for."""

    kind: str
    start: datetime  # when its first flow ended
    end: datetime
    source: str
    target: str
    n_flows: int


@dataclass(frozen=True, kw_only=True)
class _Day:
    """What has to be known of a day before its hours can be generated one by one."""

    visits: tuple[habits.Visits, ...]  # by hour
    attacks: dict[str, attack_kinds.Made]
    ends: npt.NDArray[np.int64]  # flows up to the end of each hour


class SyntheticSource:
    """Traffic of a small office, with or without attacks, as flows of type conn@1.

    The same arguments give the same flows, bit for bit (on one build of numpy). The site belongs to
    the seed and each day to seed and date: sources of one seed with other dates are other days of
    the same hosts, and the normal flows of a day are the same with and without attacks.
    Flows are in the order of their ends; generated hour by hour, so memory does not grow with
    `days`, only with `scale`.

    Parameters
    ----------
    seed : int
        At least 0.
    days : int
        How many days, from 00:00 UTC of `start`.
    start : date
        First day; Saturdays and Sundays are quiet.
    attacks : bool or tuple of str
        Which kinds of `synthetic.attacks.ATTACKS` happen, once each a day. True: all.
    scale : float
        Factor on the number of normal flows; 1 gives about 90,000 on a working day, 25,000 on a Sunday.
    workstations : int
        How many people work there, 1 to 1000.
    sensor : str
        Where the flows were observed.

    Raises
    ------
    SourceError
        If an argument is out of its range.

    Examples
    --------
    >>> source = SyntheticSource(seed=7, days=1, attacks=("port_scan",), scale=0.01)
    >>> [attack.kind for attack in source.attacks()]
    ['port_scan']
    >>> next(source.chunks(rows=5)).rows.num_rows
    5
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        days: int = 1,
        start: date = START,
        attacks: bool | tuple[str, ...] = True,
        scale: float = 1.0,
        workstations: int = habits.WORKSTATIONS,
        sensor: str = SENSOR,
    ) -> None:
        kinds = _kinds(attacks)
        _check(seed, days, start, scale, workstations)
        self.name = "synthetic"
        self.record_type: RecordType = CONN
        self.notes: tuple[str, ...] = (
            "Generated from a seed: no real traffic. Bytes include IP and transport headers.",
            "Labels are the kinds of attack, and normal.",
        )
        identity = f"synthetic,{sensor},{seed},{days},{start},{kinds},{scale!r},{workstations}"
        digest = hashlib.blake2b(identity.encode(), digest_size=10)
        self.source_id = digest.hexdigest()
        self._seed, self._days, self._first_day = seed, days, start
        self._kinds, self._sensor = kinds, sensor
        self._site = site.build(seed, workstations)
        self._habits = habits.Habits.of(self._site, seed, scale=scale)
        # The day being read: its hours come one by one, and all need what was drawn for the day.
        self._day = lru_cache(maxsize=1)(self._draw_day)
        self._day_ends = np.cumsum([self._day(i).ends[-1] for i in range(days)])
        self.n_records: int | None = int(self._day_ends[-1])

    def attacks(self) -> list[PlacedAttack]:
        """Return every attack of the source, in the order of their first flows."""
        placed = [
            self._placed(day, kind, made)
            for day in range(self._days)
            for kind, made in self._day(day).attacks.items()
        ]
        return sorted(placed, key=lambda attack: attack.start)

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield the records from position `start` on, at most `rows` positions a chunk."""
        first_day = int(np.searchsorted(self._day_ends, start, side="right"))
        for day in range(first_day, self._days):
            before = int(self._day_ends[day - 1]) if day else 0
            ends = before + self._day(day).ends
            for hour in range(int(np.searchsorted(ends, start, side="right")), 24):
                first = int(ends[hour - 1]) if hour else before
                yield from self._sliced(self._hour(day, hour), day, first, max(start, first), rows)

    def _sliced(self, flows: tables.Flows, day: int, first: int, start: int, rows: int) -> Iterator[Chunk]:
        """Yield the flows of an hour, of which the first one has position `first`, from `start` on."""
        day_us = (self._date(day).toordinal() - _EPOCH) * tables.DAY_US
        for at in range(start, first + len(flows), rows):
            part = flows[at - first : at - first + rows]
            ids = self._flow_ids(at, len(part))
            batch = tables.to_rows(part, day_us, ids, at, self._sensor)
            yield Chunk(rows=batch, first=at, next=at + len(part))

    def _hour(self, day: int, hour: int) -> tables.Flows:
        drawn = self._day(day)
        normal = habits.flows(self._habits, drawn.visits[hour], hour, self._rng(day, _CONTENT, hour))
        flows = np.concatenate([normal, *(_of_hour(made.flows, hour) for made in drawn.attacks.values())])
        ordered: tables.Flows = flows[np.argsort(flows["end_us"], kind="stable")]
        return ordered

    def _draw_day(self, day: int) -> _Day:
        rng = self._rng(day, _COUNTS)
        expected = self._habits.expected(rng, weekend=self._date(day).weekday() >= 5)
        visits = tuple(habits.visits(self._habits, expected[:, hour], rng) for hour in range(24))
        made = {
            kind: attack_kinds.place(kind, self._site, self._rng(day, _ATTACKS, tables.LABELS.index(kind)))
            for kind in self._kinds
        }
        counts = np.array([drawn.n_flows for drawn in visits])
        for attack in made.values():
            counts += np.bincount(attack.flows["end_us"] // habits.HOUR_US, minlength=24)
        return _Day(visits=visits, attacks=made, ends=np.cumsum(counts))

    def _placed(self, day: int, kind: str, made: attack_kinds.Made) -> PlacedAttack:
        midnight = datetime.combine(self._date(day), datetime.min.time(), UTC)
        first, last = made.flows["end_us"][[0, -1]].tolist()
        return PlacedAttack(
            kind=kind,
            start=midnight + timedelta(microseconds=first),
            end=midnight + timedelta(microseconds=last),
            source=made.source,
            target=made.target,
            n_flows=len(made.flows),
        )

    def _date(self, day: int) -> date:
        return self._first_day + day * _DAY

    def _rng(self, day: int, purpose: int, index: int = 0) -> np.random.Generator:
        key = (2, self._date(day).toordinal(), purpose, index)
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))

    def _flow_ids(self, first: int, n: int) -> pa.Array:
        """Return ids of 24 hex digits: 8 of the source, then 16 of a bijection of the position."""
        mixed = _splitmix64(
            np.arange(first, first + n, dtype=np.uint64) + np.uint64(int(self.source_id[8:16], 16))
        )
        prefix = np.tile(np.frombuffer(bytes.fromhex(self.source_id[:8]), np.uint8), (n, 1))
        digits = np.hstack([prefix, mixed.astype(">u8").view(np.uint8).reshape(n, 8)])
        text = _HEX[digits].tobytes()
        offsets = np.arange(0, 24 * (n + 1), 24, dtype=np.int32)
        return pa.StringArray.from_buffers(n, pa.py_buffer(offsets.tobytes()), pa.py_buffer(text))


_HEX = np.array([list(b"%02x" % i) for i in range(256)], dtype=np.uint8)


def _splitmix64(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Mix 64-bit numbers one to one (Steele, Lea, Flood 2014): different positions, different ids."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _of_hour(flows: tables.Flows, hour: int) -> tables.Flows:
    first, last = np.searchsorted(flows["end_us"], [hour * habits.HOUR_US, (hour + 1) * habits.HOUR_US])
    part: tables.Flows = flows[first:last]
    return part


def _kinds(attacks: bool | tuple[str, ...]) -> tuple[str, ...]:  # noqa: FBT001 (all, none or some)
    if isinstance(attacks, bool):
        return tuple(attack_kinds.ATTACKS) if attacks else ()
    unknown = [kind for kind in attacks if kind not in attack_kinds.ATTACKS]
    if unknown:
        raise SourceError(f"no attack {unknown[0]!r}; expected some of {', '.join(attack_kinds.ATTACKS)}")
    return tuple(kind for kind in attack_kinds.ATTACKS if kind in attacks)


def _check(seed: int, days: int, start: date, scale: float, workstations: int) -> None:
    ranges = {
        "seed": (seed, 0, 2**63),
        "days": (days, 1, _MOST_DAYS),
        "scale": (scale, 0.001, 10_000),
        "workstations": (workstations, 1, 1000),
        "year of start": (start.year, 1970, 2080),
    }
    for name, (value, least, greatest) in ranges.items():
        if not least <= value <= greatest:
            raise SourceError(f"{name} is {value}, expected {least} to {greatest}")
