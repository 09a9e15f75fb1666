"""Groups of flagged flows: the first few one by one, then one summary.

A pure function of the log: no wall clock, no offsets, and the same publications however the log
is cut into messages.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.messages import DetectionsHeaders
from pipeline.publication import (
    OVERFLOW,
    FlaggedFlow,
    GroupView,
    Publication,
    address_text,
    digest,
    entity_of,
    judges,
)

BUCKET_S = 60.0
FIRST = 3
MAX_GROUPS = 1000
"""Groups of one bucket; what comes after them shares one group a sensor and leading term."""
MAX_DISTINCT = 256
"""Distinct addresses and ports that a group remembers; its counts stop there."""

Entity = bytes | str
"""An address (16 bytes), "" for the sensor itself, or OVERFLOW."""

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
        for index, brief in enumerate(_brief(rows)):
            published += self._enter(brief.clock_us)
            group = self._group(judged_by, brief, headers.panel)
            group.add(brief)
            if group.count <= self._first:
                published.append(group.publish(_flow(rows, index), index))
            elif group.example is None:  # first = 0: something must stand for the group
                group.example = _flow(rows, index)
        published += self._enter(headers.clock_end_us)
        if headers.flush:
            published += self._flush()
        return published

    def _flush(self) -> list[Publication]:
        summaries = self._summaries()
        for group in self._groups.values():
            group.close()
        return summaries

    def _enter(self, clock_us: int) -> list[Publication]:
        bucket = clock_us // self._width_us
        if bucket <= self._bucket:
            return []
        summaries = self._summaries()
        self._bucket = bucket
        self._groups.clear()
        return summaries

    def _summaries(self) -> list[Publication]:
        return [group.summary() for group in self._groups.values() if group.count > self._first]

    def _group(self, judged_by: str, row: "_Brief", panel: Mapping[str, Any]) -> "_Group":
        key = (judged_by, row.sensor, row.entity, row.leading)
        if key not in self._groups and len(self._groups) >= self._max_groups:
            key = (judged_by, row.sensor, OVERFLOW, row.leading)
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


def publishable(
    rows: pa.RecordBatch, *, first: int = FIRST, bucket_s: float = BUCKET_S
) -> npt.NDArray[np.int64]:
    """Return which rows of a message grouping could publish, so that these alone need full reasons.

    Parameters
    ----------
    rows : RecordBatch
        In log order, with the columns of `FLAGGED`; `reasons` is not read.

    Returns
    -------
    ndarray of shape (n,), int64
        Indices of the first `first` rows, at least one, of each sensor, entity, leading term and bucket.
    """
    width_us = _width_us(bucket_s)
    seen: dict[tuple[str, Entity, str, int], int] = {}
    found: list[int] = []
    for index, row in enumerate(_brief(rows)):
        key = (row.sensor, row.entity, row.leading, row.clock_us // width_us)
        seen[key] = seen.get(key, 0) + 1
        if seen[key] <= max(first, 1):
            found.append(index)
    return np.array(found, dtype=np.int64)


@dataclass(slots=True)
class _Brief:
    """What grouping needs of every row, also of those that are only counted."""

    sensor: str
    entity: Entity
    leading: str
    clock_us: int
    event_us: int
    p_value: float
    src_ip: bytes | None
    dst_ip: bytes | None
    dst_port: int | None


def _brief(rows: pa.RecordBatch) -> Iterator[_Brief]:
    def values(name: str) -> list[Any]:
        found: list[Any] = rows.column(name).to_pylist()
        return found

    abouts, sources, destinations = values("about"), values("src_ip"), values("dst_ip")
    entities = (entity_of(*row) or "" for row in zip(abouts, sources, destinations, strict=True))
    events = rows.column("event_time").cast(pa.int64()).to_pylist()
    plain = (values("sensor"), entities, values("leading"), values("clock_us"), events, values("p_value"))
    return map(_Brief, *plain, sources, destinations, values("dst_port"))


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
