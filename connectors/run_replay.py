"""A source replayed into Kafka: at full speed or paced by event time, stopped at any moment."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from connectors.base import Chunk, Source
from connectors.kafka_writer import FlowsWriter
from connectors.pacer import Pacer, Times
from connectors.replay import rebased

_LEAST_WAIT_S = 0.02
"""Rows due within this time go together."""
_MOST_WAIT_S = 0.1
"""How long a stop, or the writer's linger, may have to wait."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySummary:
    """What a replay has brought into the log, and what was there already."""

    n_sent: int  # rows that this run has written
    n_rejected: int  # dead letters that this run has written
    n_skipped: int  # records written by an earlier run
    lanes: dict[int, int]  # lane -> rows that this run has written
    first: int  # position where this run began
    next: int  # position before which everything is in the log
    seconds: float


def replay(
    source: Source,
    writer: FlowsWriter,
    *,
    speed: float | None = None,
    limit: int | None = None,
    rebase: bool = False,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
    progress: Callable[[int], None] = lambda _: None,
) -> ReplaySummary:
    """Write a source from where the writer left it, flush its lanes, and return what was done.

    Parameters
    ----------
    source : Source
        Read from the writer's start.
    writer : FlowsWriter
        Opened for this source's id.
    speed : float, optional
        Seconds of event time a second; as fast as it goes where left out.
    limit : int, optional
        Only the first so many records of the source, those of earlier runs included.
    rebase : bool
        Shift event times so that they go on from the lanes' clock; a source that began shifted
        goes on so without being told.
    stop : Event, optional
        Ends the replay soon after it is set; run again, and it goes on.
    clock : callable
        Monotonic seconds, for `speed`.
    progress : callable
        Called with the position reached.
    """
    stop = stop or threading.Event()
    begun = time.monotonic()
    pacer = None if speed is None else Pacer(speed, clock=clock)
    shift_us = writer.rebase(_first_time(source)) if rebase else writer.shift_us
    source = rebased(source, shift_us) if shift_us else source
    progress(writer.start)
    for chunk in _limited(source, writer.start, limit):
        for part in _paced(chunk, pacer, stop, writer.tick):
            writer.write(part)
            progress(part.next)
        if stop.is_set():
            break
    writer.finish()
    return ReplaySummary(
        n_sent=sum(writer.rows_by_lane.values()),
        n_rejected=writer.n_rejected,
        n_skipped=writer.start + writer.n_known,
        lanes=writer.rows_by_lane,
        first=writer.start,
        next=writer.done,
        seconds=time.monotonic() - begun,
    )


def _first_time(source: Source) -> int:
    for chunk in source.chunks():
        if chunk.rows.num_rows:
            return int(chunk.rows.column("event_time")[0].value)
    return 0


def _limited(source: Source, start: int, limit: int | None) -> Iterator[Chunk]:
    if limit is not None and start >= limit:
        return
    for chunk in source.chunks(start):
        if limit is not None and chunk.next >= limit:
            yield _split_at(chunk, limit)[0]
            return
        yield chunk


def _paced(
    chunk: Chunk, pacer: Pacer | None, stop: threading.Event, tick: Callable[[], None]
) -> Iterator[Chunk]:
    """Yield parts of a chunk as they come due, all of it at once without a pacer."""
    while pacer is not None and chunk.rows.num_rows and not stop.is_set():
        n_due, wait_s = pacer.due(_times(chunk.rows))
        if n_due == chunk.rows.num_rows:
            break
        if n_due:
            part, chunk = _split_at(chunk, chunk.rows.column("position")[n_due].as_py())
            yield part
        tick()
        stop.wait(min(max(wait_s, _LEAST_WAIT_S), _MOST_WAIT_S))
    if not stop.is_set():
        yield chunk


def _times(rows: pa.RecordBatch) -> Times:
    return np.asarray(rows.column("event_time").cast(pa.int64()))


def _split_at(chunk: Chunk, position: int) -> tuple[Chunk, Chunk]:
    """Return the records before `position` and the others."""
    if position >= chunk.next:
        return chunk, replace(chunk, rows=chunk.rows.slice(0, 0), first=chunk.next, rejects=())
    n_rows = int(np.searchsorted(np.asarray(chunk.rows.column("position")), position))
    before = tuple(reject for reject in chunk.rejects if reject.position < position)
    return (
        replace(chunk, rows=chunk.rows.slice(0, n_rows), next=position, rejects=before),
        replace(chunk, rows=chunk.rows.slice(n_rows), first=position, rejects=chunk.rejects[len(before) :]),
    )
