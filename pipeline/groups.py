"""One alert group: what is published and counted of its flagged flows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from pipeline.group_keys import Indices, codes, in_order, nth
from pipeline.publication import FlaggedFlow, GroupView, Publication, digest
from pipeline.suppressions import Suppressed

MAX_DISTINCT = 256
"""Distinct addresses and ports that a group remembers; its counts stop there."""


_Seen = TypeVar("_Seen", bytes, int)


@dataclass(slots=True)
class _Brief:
    """What a group counts of a row."""

    event_us: int
    p_value: float
    src_ip: bytes | None
    dst_ip: bytes | None
    dst_port: int | None


@dataclass(slots=True, kw_only=True)
class Group:
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
    suppressed: Suppressed | None = None
    sources: dict[bytes, None] = field(default_factory=dict)
    destinations: dict[bytes, None] = field(default_factory=dict)
    ports: dict[int, None] = field(default_factory=dict)

    def add(self, row: _Brief) -> None:
        """Add a row."""
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
        """Return the alert of the row just added, which is at `index` of its message."""
        if self.example is None or flow.p_value < self.example.p_value:
            self.example = flow
        return Publication(panel=self.panel, flow=flow, row=index, group=self._view())

    def summary(self) -> Publication:
        """Return what stands for all rows since the group was last closed."""
        assert self.example is not None
        return Publication(
            panel=self.panel, flow=self.example, row=None, group=self._view(), suppressed=self.suppressed
        )

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


def count_in(
    rows: pa.RecordBatch, numbers: Indices, of_key: Sequence[Group], of_row: Indices, first: int
) -> list[Publication]:
    """Count rows in their groups and return what is published of them.

    Parameters
    ----------
    rows : RecordBatch
        Of the current bucket.
    numbers : ndarray of shape (n,)
        Of each row, its index in the message.
    of_key : sequence of Group
        Groups; several keys may have the same.
    of_row : ndarray of shape (n,)
        Of each row, the index of its key.
    first : int
        How many flows of a group are published one by one.
    """
    groups = list({id(group): group for group in of_key}.values())
    number = {id(group): at for at, group in enumerate(groups)}
    of_row = np.array([number[id(group)] for group in of_key], dtype=np.int64)[of_row]
    counts = np.array([group.count for group in groups])
    # Row by row while something of a group may be published, all others at once.
    single = counts[of_row] + nth(of_row) < max(first, 1)
    published: list[Publication] = []
    at = np.flatnonzero(single)
    for index, brief in zip(at.tolist(), _brief(rows.take(pa.array(at))), strict=True):
        group = groups[of_row[index]]
        group.add(brief)
        if group.count <= first:
            published.append(group.publish(flagged_flow(rows, index), int(numbers[index])))
        elif group.example is None:  # first = 0: something must stand for the group
            group.example = flagged_flow(rows, index)
    if not single.all():
        rest = np.flatnonzero(~single)
        _count(rows.take(pa.array(rest)), of_row[rest], groups)
    return published


def _brief(rows: pa.RecordBatch) -> Iterator[_Brief]:
    def values(name: str) -> list[Any]:
        found: list[Any] = rows.column(name).to_pylist()
        return found

    events = rows.column("event_time").cast(pa.int64()).to_pylist()
    others = (values(name) for name in ("p_value", "src_ip", "dst_ip", "dst_port"))
    return map(_Brief, events, *others)


def _count(rows: pa.RecordBatch, of_row: Indices, groups: Sequence[Group]) -> None:
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


def flagged_flow(rows: pa.RecordBatch, index: int) -> FlaggedFlow:
    """Return a row of a detections message in Python values."""
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
