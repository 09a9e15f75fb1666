"""Groups of flagged flows: the first few one by one, then one summary.

A pure function of the log: no wall clock, no offsets, and the same publications however the log
is cut into messages.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from pipeline.group_keys import Entity, Indices, RowKey, codes, in_order, keyed, nth, spans
from pipeline.messages import DetectionsHeaders
from pipeline.publication import (
    OVERFLOW,
    FlaggedFlow,
    GroupView,
    Publication,
    address_text,
    digest,
    judges,
)

BUCKET_S = 60.0
FIRST = 3
MAX_GROUPS = 1000
"""Groups of one bucket; what comes after them shares one group a sensor and leading term."""
MAX_DISTINCT = 256
"""Distinct addresses and ports that a group remembers; its counts stop there."""

_Key = tuple[str, str, Entity, str]
"""Of a group within its bucket: who judged, sensor, entity, leading term."""

_Seen = TypeVar("_Seen", bytes, int)


def bucket_of(clock_us: int, bucket_s: float = BUCKET_S) -> int:
    """Return the number of the bucket in which a lane clock lies.

    Examples
    --------
    >>> bucket_of(119_999_999), bucket_of(120_000_000)
    (1, 2)
    """
    return clock_us // _width_us(bucket_s)


class Grouper:
    """What to publish of the flagged flows of one lane, for one panel.

    The first `first` flagged flows of a key are published one by one; a key with more gets one
    summary when the lane clock leaves its bucket or a flush arrives. A key is (panel with its model
    versions, lane, sensor, entity, leading term, bucket, part); the part counts the flushes that closed
    it. The clock never goes back: a message that says so counts in the current bucket.

    Only the groups of the current bucket are kept, at most `max_groups` plus one for each sensor and
    leading term, each of bounded size. So a lane is recovered by feeding, to a new Grouper, every message
    from the first one with ``bucket_of(clock_end_us) == bucket_of(clock_end_us of the last one done)``,
    and by discarding what `feed` returns for them; nothing else is needed.

    Parameters
    ----------
    lane : int
        Partition of the detections topic.
    bucket_s : float
        Width of a bucket, seconds of lane clock.
    first : int
        How many flows of a key are published one by one.
    enabled : bool
        If false, every flagged flow is published, without groups and summaries.
    max_groups : int
        How many keys a bucket may have before the rest is put together.
    """

    def __init__(
        self,
        lane: int,
        *,
        bucket_s: float = BUCKET_S,
        first: int = FIRST,
        enabled: bool = True,
        max_groups: int = MAX_GROUPS,
    ) -> None:
        self._lane = lane
        self._width_us = _width_us(bucket_s)
        self._first = first
        self._enabled = enabled
        self._max_groups = max_groups
        self._bucket = -1
        self._groups: dict[_Key, _Group] = {}

    @property
    def n_groups(self) -> int:
        """Number of groups that are kept."""
        return len(self._groups)

    def feed(self, rows: pa.RecordBatch, headers: DetectionsHeaders) -> list[Publication]:
        """Return what a detections message gives, in order.

        Parameters
        ----------
        rows : RecordBatch
            Flagged rows in log order, of schema `FLAGGED`.
        headers : DetectionsHeaders
            Of the same message.
        """
        if not self._enabled:
            return [
                Publication(panel=headers.panel, flow=_flow(rows, index), row=index, group=None)
                for index in range(rows.num_rows)
            ]
        published: list[Publication] = []
        judged_by = json.dumps(judges(headers.panel))
        clock = rows.column("clock_us").to_numpy() // self._width_us
        for bucket, begin, end in spans(np.maximum.accumulate(np.maximum(clock, self._bucket))):
            published += self._enter(bucket)
            published += self._add(rows.slice(begin, end - begin), begin, judged_by, headers.panel)
        published += self._enter(headers.clock_end_us // self._width_us)
        if headers.flush:
            published += self._flush()
        return published

    def _add(
        self, rows: pa.RecordBatch, first_index: int, judged_by: str, panel: Mapping[str, Any]
    ) -> list[Publication]:
        """Count rows of the current bucket and return what is published of them."""
        found = keyed(rows)
        of_key = [self._group(judged_by, key, panel) for key in found.keys]
        groups = list({id(group): group for group in of_key}.values())
        number = {id(group): at for at, group in enumerate(groups)}
        of_row = np.array([number[id(group)] for group in of_key], dtype=np.int64)[found.of_row]
        counts = np.array([group.count for group in groups])
        # Row by row while something of a group may be published, all others at once.
        single = counts[of_row] + nth(of_row) < max(self._first, 1)
        published: list[Publication] = []
        at = np.flatnonzero(single)
        for index, brief in zip(at.tolist(), _brief(rows.take(pa.array(at))), strict=True):
            group = groups[of_row[index]]
            group.add(brief)
            if group.count <= self._first:
                published.append(group.publish(_flow(rows, index), first_index + index))
            elif group.example is None:  # first = 0: something must stand for the group
                group.example = _flow(rows, index)
        if not single.all():
            rest = np.flatnonzero(~single)
            _count(rows.take(pa.array(rest)), of_row[rest], groups)
        return published

    def _flush(self) -> list[Publication]:
        summaries = self._summaries()
        for group in self._groups.values():
            group.close()
        return summaries

    def _enter(self, bucket: int) -> list[Publication]:
        if bucket <= self._bucket:
            return []
        summaries = self._summaries()
        self._bucket = bucket
        self._groups.clear()
        return summaries

    def _summaries(self) -> list[Publication]:
        return [group.summary() for group in self._groups.values() if group.count > self._first]

    def _group(self, judged_by: str, row: RowKey, panel: Mapping[str, Any]) -> "_Group":
        sensor, _, leading = row
        key = (judged_by, *row)
        if key not in self._groups and len(self._groups) >= self._max_groups:
            key = (judged_by, sensor, OVERFLOW, leading)
        if key not in self._groups:
            self._groups[key] = self._new(key, panel)
        return self._groups[key]

    def _new(self, key: _Key, panel: Mapping[str, Any]) -> "_Group":
        _, sensor, entity, leading = key
        # The kind keeps a sensor that is named like an address apart from that address.
        kind = "address" if isinstance(entity, bytes) else entity or "sensor"
        name = _named(entity, sensor)
        bucket = (self._bucket * self._width_us, self._width_us)
        parts = (judges(panel), self._lane, sensor, kind, name, leading, *bucket)
        return _Group(panel=panel, entity=name, key=parts)


@dataclass(slots=True)
class _Brief:
    """What a group counts of a row."""

    event_us: int
    p_value: float
    src_ip: bytes | None
    dst_ip: bytes | None
    dst_port: int | None


def _brief(rows: pa.RecordBatch) -> Iterator[_Brief]:
    def values(name: str) -> list[Any]:
        found: list[Any] = rows.column(name).to_pylist()
        return found

    events = rows.column("event_time").cast(pa.int64()).to_pylist()
    others = (values(name) for name in ("p_value", "src_ip", "dst_ip", "dst_port"))
    return map(_Brief, events, *others)


def _count(rows: pa.RecordBatch, of_row: Indices, groups: Sequence["_Group"]) -> None:
    """Add rows to their groups, each of which holds a row already; nothing of them is published."""
    order = np.argsort(of_row, kind="stable")
    borders = np.flatnonzero(np.diff(of_row[order], prepend=-1))
    events = rows.column("event_time").cast(pa.int64()).to_numpy()[order]
    p_values = rows.column("p_value").to_numpy()[order]
    counted = zip(
        of_row[order][borders].tolist(),
        np.diff(borders, append=order.size).tolist(),
        np.minimum.reduceat(events, borders).tolist(),
        np.maximum.reduceat(events, borders).tolist(),
        np.minimum.reduceat(p_values, borders).tolist(),
        strict=True,
    )
    for number, count, first_us, last_us, p_value in counted:
        groups[number].count_more(count, first_us, last_us, p_value)
    for name, of_group in (("src_ip", "sources"), ("dst_ip", "destinations"), ("dst_port", "ports")):
        _remember_all(rows.column(name), of_row, [getattr(group, of_group) for group in groups])


def _remember_all(column: pa.Array, of_row: Indices, seen: Sequence[dict[Any, None]]) -> None:
    """Remember the distinct values of each group, in order of appearance."""
    has_room = np.array([len(values) < MAX_DISTINCT for values in seen])
    rows = np.flatnonzero(has_room[of_row])
    if rows.size:
        part, values = codes(column.take(pa.array(rows)))
        first, _ = in_order(of_row[rows] * len(values) + part)
        for number, at in zip(of_row[rows][first].tolist(), part[first].tolist(), strict=True):
            _remember(seen[number], values[at])


def _named(entity: Entity, sensor: str) -> str:
    return address_text(entity) if isinstance(entity, bytes) else entity or sensor


def _flow(rows: pa.RecordBatch, index: int) -> FlaggedFlow:
    values = {name: rows.column(name)[index].as_py() for name in _FLOW_COLUMNS}
    return FlaggedFlow(
        **values,
        event_us=rows.column("event_time")[index].value,
        scores=tuple(rows.column("scores")[index].as_py()),
        p_values=tuple(rows.column("p_values")[index].as_py()),
    )


_FLOW_COLUMNS = tuple(
    name for name in FlaggedFlow.__dataclass_fields__ if name not in {"event_us", "scores", "p_values"}
)


@dataclass(slots=True, kw_only=True)
class _Group:
    """A key of the current bucket: what is published and counted of it since it was last closed."""

    panel: Mapping[str, Any]
    entity: str
    key: tuple[Any, ...]
    part: int = 0
    count: int = 0
    first_us: int = 0
    last_us: int = 0
    p_value: float = 1.0
    example: FlaggedFlow | None = None
    sources: dict[bytes, None] = field(default_factory=dict)
    destinations: dict[bytes, None] = field(default_factory=dict)
    ports: dict[int, None] = field(default_factory=dict)

    def add(self, row: _Brief) -> None:
        self.first_us = min(self.first_us, row.event_us) if self.count else row.event_us
        self.last_us = max(self.last_us, row.event_us) if self.count else row.event_us
        self.p_value = min(self.p_value, row.p_value)
        self.count += 1
        _remember(self.sources, row.src_ip)
        _remember(self.destinations, row.dst_ip)
        _remember(self.ports, row.dst_port)

    def count_more(self, count: int, first_us: int, last_us: int, p_value: float) -> None:
        """Add rows to a group that holds some."""
        self.first_us = min(self.first_us, first_us)
        self.last_us = max(self.last_us, last_us)
        self.p_value = min(self.p_value, p_value)
        self.count += count

    def publish(self, flow: FlaggedFlow, index: int) -> Publication:
        if self.example is None or flow.p_value < self.example.p_value:
            self.example = flow
        return Publication(panel=self.panel, flow=flow, row=index, group=self._view())

    def summary(self) -> Publication:
        assert self.example is not None
        return Publication(panel=self.panel, flow=self.example, row=None, group=self._view())

    def close(self) -> None:
        """Begin the next part, if there was anything in this one."""
        self.part += self.count > 0
        self.count, self.p_value, self.example = 0, 1.0, None
        for seen in (self.sources, self.destinations, self.ports):
            seen.clear()

    def _view(self) -> GroupView:
        return GroupView(
            id=digest("group", *self.key, self.part),
            entity=self.entity,
            count=self.count,
            first_us=self.first_us,
            last_us=self.last_us,
            p_value=self.p_value,
            sources=tuple(self.sources),
            destinations=tuple(self.destinations),
            ports=tuple(self.ports),
        )


def _remember(seen: dict[_Seen, None], value: _Seen | None) -> None:
    if value is not None and len(seen) < MAX_DISTINCT:
        seen[value] = None


def _width_us(bucket_s: float) -> int:
    return max(1, round(bucket_s * 1e6))
