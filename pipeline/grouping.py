"""Groups of flagged flows: the first few one by one, then one summary.

A pure function of the log: no wall clock, no offsets, and the same publications however the log
is cut into messages.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.group_keys import Entity, RowKey, keyed, keyed_suppressed, spans
from pipeline.groups import Group, count_in, flagged_flow
from pipeline.messages import DetectionsHeaders
from pipeline.publication import OVERFLOW, Publication, address_text, judges
from pipeline.suppressions import Suppressed, is_suppressed

BUCKET_S = 60.0
FIRST = 3
MAX_GROUPS = 1000
"""Groups of one bucket; what comes after them shares one group a sensor and leading term."""
REPORT_S = 3600.0
"""What is suppressed is told once for so many seconds of lane clock, or for a bucket if that is longer."""

_Key = tuple[str, str, Entity, str]
"""Of a group within its bucket: who judged, sensor, entity, leading term."""


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

    Suppressed flows are in no group: what a suppression kept back within `REPORT_S` of lane clock, of a
    sensor, is one summary that says so.

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
        self._groups: dict[_Key, Group] = {}
        self._reported = 0  # buckets of one report of what is suppressed
        self._buckets_a_report = buckets_a_report(bucket_s)
        self._suppressed: dict[_Key, Group] = {}

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
        suppressed = is_suppressed(rows)
        if suppressed.any():
            self._suppress(rows.filter(pa.array(suppressed)), judged_by, panel)
        at = first_index + np.flatnonzero(~suppressed)
        rows = rows.filter(pa.array(~suppressed))
        if not self._enabled:
            return [
                Publication(panel=panel, flow=flagged_flow(rows, index), row=row, group=None)
                for index, row in enumerate(at.tolist())
            ]
        found = keyed(rows)
        groups = [self._group(judged_by, key, panel) for key in found.keys]
        return count_in(rows, at, groups, found.of_row, self._first)

    def _suppress(self, rows: pa.RecordBatch, judged_by: str, panel: Mapping[str, Any]) -> None:
        """Count rows that make no alert, for the report of the sensor and suppression."""
        found = keyed_suppressed(rows)
        groups = []
        for sensor, text in found.keys:
            key = (judged_by, sensor, "", text)
            if key not in self._suppressed:
                self._suppressed[key] = self._report(sensor, text, panel)
            groups.append(self._suppressed[key])
        count_in(rows, np.arange(rows.num_rows), groups, found.of_row, 0)

    def _report(self, sensor: str, text: str, panel: Mapping[str, Any]) -> Group:
        suppressed = Suppressed.from_json(text)
        width = self._buckets_a_report * self._width_us
        parts = (
            judges(panel),
            self._lane,
            sensor,
            "suppressed",
            suppressed.id,
            self._reported * width,
            width,
        )
        return Group(panel=panel, entity=sensor, key=parts, suppressed=suppressed)

    def _flush(self) -> list[Publication]:
        published = self._summaries() + self._reports()
        for group in (*self._groups.values(), *self._suppressed.values()):
            group.close()
        return published

    def _enter(self, bucket: int) -> list[Publication]:
        if bucket <= self._bucket:
            return []
        published = self._summaries()
        self._bucket = bucket
        self._groups.clear()
        if bucket // self._buckets_a_report > self._reported:
            published += self._reports()
            self._reported = bucket // self._buckets_a_report
            self._suppressed.clear()
        return published

    def _summaries(self) -> list[Publication]:
        return [group.summary() for group in self._groups.values() if group.count > self._first]

    def _reports(self) -> list[Publication]:
        return [group.summary() for group in self._suppressed.values() if group.count]

    def _group(self, judged_by: str, row: RowKey, panel: Mapping[str, Any]) -> Group:
        sensor, _, leading = row
        key = (judged_by, *row)
        if key not in self._groups and len(self._groups) >= self._max_groups:
            key = (judged_by, sensor, OVERFLOW, leading)
        if key not in self._groups:
            self._groups[key] = self._new(key, panel)
        return self._groups[key]

    def _new(self, key: _Key, panel: Mapping[str, Any]) -> Group:
        _, sensor, entity, leading = key
        # The kind keeps a sensor that is named like an address apart from that address.
        kind = "address" if isinstance(entity, bytes) else entity or "sensor"
        name = _named(entity, sensor)
        bucket = (self._bucket * self._width_us, self._width_us)
        parts = (judges(panel), self._lane, sensor, kind, name, leading, *bucket)
        return Group(panel=panel, entity=name, key=parts)


def _named(entity: Entity, sensor: str) -> str:
    return address_text(entity) if isinstance(entity, bytes) else entity or sensor


def report_s(bucket_s: float) -> float:
    """Return of how many seconds of lane clock one report of what was suppressed tells."""
    return buckets_a_report(bucket_s) * _width_us(bucket_s) / 1e6


def buckets_a_report(bucket_s: float) -> int:
    """Return how many buckets one report of what was suppressed takes: an hour of them, at least one.

    Examples
    --------
    >>> buckets_a_report(60), buckets_a_report(7), buckets_a_report(86_400)
    (60, 515, 1)
    """
    return max(1, -(-round(REPORT_S * 1e6) // _width_us(bucket_s)))


def _width_us(bucket_s: float) -> int:
    return max(1, round(bucket_s * 1e6))
