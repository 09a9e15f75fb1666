"""A source fed into the flows topic: how much of it, and how fast."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from connectors.base import Chunk, Source
from connectors.kafka_writer import FlowsWriter, WriterOptions
from connectors.topics import Topics
from pipeline.settings import Settings

TICK_S = 0.1
"""Longest sleep while the next flow is not due: the writer's linger runs on meanwhile."""

OpenSource = Callable[[int, int], Source]
"""Opens the source anew for a run number and a shift of its times in microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a replay brought into the log."""

    source: str
    topic: str
    run: int
    start: int  # position from which it went on
    next: int  # position after the last record
    flows: int
    rejects: int
    known: int  # rows that their lanes held already
    seconds: float
    lanes: dict[int, int]  # flows by lane

    @property
    def flows_per_s(self) -> float:
        """Flows brought into the log in a second, the wait for the last acknowledgement included."""
        return self.flows / self.seconds if self.seconds else 0.0


def cut(chunk: Chunk, position: int) -> tuple[Chunk, Chunk]:
    """Split a chunk into the records before `position` and those from it on."""
    n_rows = int(np.searchsorted(_column(chunk, "position"), position))
    before = tuple(reject for reject in chunk.rejects if reject.position < position)
    return (
        replace(chunk, rows=chunk.rows.slice(0, n_rows), next=position, rejects=before),
        replace(chunk, rows=chunk.rows.slice(n_rows), first=position, rejects=chunk.rejects[len(before) :]),
    )


def _column(chunk: Chunk, name: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.asarray(chunk.rows.column(name).cast(pa.int64()), dtype=np.int64)


class Pacer:
    """Hands records out as their event times come due.

    Parameters
    ----------
    speed : float
        Seconds of event time a second; infinity waits for nothing.
    waiting : callable
        Called a few times a second while nothing is due.
    clock, sleep : callable
        Monotonic seconds, and how to wait.
    """

    def __init__(
        self,
        speed: float,
        waiting: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._speed = speed
        self._waiting = waiting
        self._clock = clock
        self._sleep = sleep
        self._begun: tuple[int, float] | None = None

    def due(self, chunk: Chunk) -> Iterator[Chunk]:
        """Yield all of `chunk`, piece by piece, no record before its time; a late one at once."""
        if self._speed == float("inf") or chunk.rows.num_rows == 0:
            yield chunk
            return
        times_us = np.maximum.accumulate(_column(chunk, "event_time"))
        positions = _column(chunk, "position")
        if self._begun is None:
            self._begun = int(times_us[0]), self._clock()
        n_done = 0
        while True:
            n_due = int(np.searchsorted(times_us, self._now_us(), side="right"))
            if n_due == times_us.size:
                yield chunk
                return
            if n_due > n_done:
                ready, chunk = cut(chunk, int(positions[n_due]))
                n_done = n_due
                yield ready
            wait_s = (int(times_us[n_due]) - self._now_us()) / 1e6 / self._speed
            self._sleep(min(TICK_S, max(wait_s, 0.001)))
            self._waiting()

    def _now_us(self) -> float:
        assert self._begun is not None
        first_us, began = self._begun
        return first_us + (self._clock() - began) * self._speed * 1e6


def pieces(source: Source, start: int, limit: int | None, pacer: Pacer) -> Iterator[Chunk]:
    """Yield the records of a source from `start` on, up to position `limit`, as they come due."""
    if limit is not None and start >= limit:
        return
    for chunk in source.chunks(start):
        if limit is not None and chunk.next >= limit:
            yield from pacer.due(cut(chunk, limit)[0])
            return
        yield from pacer.due(chunk)


def opened(
    settings: Settings, open_source: OpenSource, *, again: bool, rebase: bool, limit: int | None
) -> tuple[Source, FlowsWriter, int]:
    """Return the source at its times, a writer that stands where it goes on, and the run number.

    `again` takes the first run from 1 on that is not in the log as a whole, so that an interrupted
    one is resumed.
    """
    run = int(again)
    while True:
        source = open_source(run, 0)
        writer = _writer(settings, source)
        if not again or not _complete(source, writer.start, limit):
            break
        writer.close()
        run += 1
    shift_us = writer.rebase(_first_us(source)) if rebase or again else writer.shift_us
    return (open_source(run, shift_us) if shift_us else source), writer, run


def _writer(settings: Settings, source: Source) -> FlowsWriter:
    chosen = settings.writer
    options = WriterOptions(
        rows=chosen.rows,
        size_bytes=chosen.size_bytes,
        linger_s=chosen.linger_s,
        lane_by=chosen.lane_by,
        sensor_lanes=chosen.sensor_lanes,
    )
    topics = Topics(settings.topics.prefix)
    return FlowsWriter(
        settings.kafka, topics, source_id=source.source_id, record_type=source.record_type, options=options
    )


def _complete(source: Source, start: int, limit: int | None) -> bool:
    if limit is not None and start >= limit:
        return True
    return start > 0 and next(iter(source.chunks(start)), None) is None


def _first_us(source: Source) -> int:
    for chunk in source.chunks():
        if chunk.rows.num_rows:
            return int(_column(chunk, "event_time")[0])
    return 0


def feed(
    settings: Settings,
    open_source: OpenSource,
    *,
    speed: float = float("inf"),
    limit: int | None = None,
    again: bool = False,
    rebase: bool = False,
    begun: Callable[[Source, int], None] = lambda _source, _position: None,
    progress: Callable[[int], None] = lambda _position: None,
) -> Sent:
    """Bring a source into the flows topic and return what was sent, all of it durable.

    Parameters
    ----------
    settings : Settings
        Where to, and how records are packed.
    open_source : callable
        Opens the source.
    speed : float
        Seconds of event time a second.
    limit : int, optional
        Position of the source before which to end.
    again, rebase : bool
        Under new ids, and with times shifted to go on from the lanes' clock.
    begun, progress : callable
        Told the source and where it begins, and then the position reached.

    Raises
    ------
    ConnectorError
        If the source cannot be read or the broker is gone; run again, and it goes on.
    """
    source, writer, run = opened(settings, open_source, again=again, rebase=rebase, limit=limit)
    with writer:
        position = writer.start
        begun(source, position)
        began = time.monotonic()
        for chunk in pieces(source, position, limit, Pacer(speed, writer.tick)):
            writer.write(chunk)
            position = chunk.next
            progress(position)
        writer.finish()
        return Sent(
            source=source.name,
            topic=Topics(settings.topics.prefix).flows,
            run=run,
            start=writer.start,
            next=position,
            flows=sum(writer.rows_by_lane.values()),
            rejects=writer.n_rejected,
            known=writer.n_known,
            seconds=time.monotonic() - began,
            lanes=writer.rows_by_lane,
        )
