"""Live sources into Kafka: without an end, at the pace at which flows come."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from connectors.base import Chunk, Reject, Source
from connectors.kafka_writer import FlowsWriter
from connectors.pacer import Times
from connectors.wire import encode

AHEAD_S = 300.0
"""A flow that ended later than this from now has a wrong clock: it would make all later ones late."""


def ingest(
    source: Source,
    writer: FlowsWriter,
    *,
    stop: threading.Event,
    progress: Callable[[Chunk], None] = lambda _chunk: None,
    now: Callable[[], float] = time.time,
) -> int:
    """Write a live source from where the writer left it until it ends or a stop; return the position reached.

    Parameters
    ----------
    source : Source
        Yields an empty chunk now and then while nothing comes.
    writer : FlowsWriter
        Opened for this source's id; it is flushed at the end.
    stop : Event
        Ends it soon after it is set.
    progress : callable
        Called with each chunk that was taken over.
    now : callable
        Wall clock in seconds: flows from more than `AHEAD_S` ahead of it are rejected.
    """
    for chunk in source.chunks(writer.start):
        taken = without_future(chunk, now())
        writer.write(taken)
        progress(taken)
        if stop.is_set():
            break
    writer.finish()
    return writer.done


def without_future(chunk: Chunk, now_s: float) -> Chunk:
    """Return a chunk whose rows from the future are rejects, each with its row as an Arrow stream."""
    times = np.asarray(chunk.rows.column("event_time").cast(pa.int64()))
    ahead = times > (now_s + AHEAD_S) * 1e6
    if not ahead.any():
        return chunk
    rejects = [*chunk.rejects, *_rejects(chunk.rows, np.flatnonzero(ahead).tolist(), times, now_s)]
    rejects.sort(key=lambda reject: reject.position)
    return replace(chunk, rows=chunk.rows.filter(pa.array(~ahead)), rejects=tuple(rejects))


def _rejects(rows: pa.RecordBatch, ahead: list[int], times: Times, now_s: float) -> Iterator[Reject]:
    for row in ahead:
        yield Reject(
            position=rows.column("position")[row].as_py(),
            raw=encode(rows.slice(row, 1)),
            reason="future_time",
            detail=f"conn@1: event_time is {times[row] / 1e6 - now_s:.0f} s ahead of this machine's clock, "
            f"expected at most {AHEAD_S:g} s; set the clock of the sensor",
        )
