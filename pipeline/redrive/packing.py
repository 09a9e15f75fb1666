"""Flows messages that carry what was in dead letters."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from connectors.dead_letters import REDRIVEN
from connectors.kafka_writer import MAX_VALUE_BYTES
from connectors.marks import HEADER, Tail, encode_marks
from connectors.publish import Sending
from connectors.records import RecordType
from connectors.wire import FlowsHeaders, encode
from pipeline.features.feature_sets import feature_set
from pipeline.redrive.contents import NotPossibleError
from pipeline.settings import Settings


def flows_messages(
    rows: pa.RecordBatch, letter_id: str, settings: Settings, topic: str, lane: int, tail: Tail
) -> Iterator[Sending]:
    """Yield the messages that carry the rows of a letter, which each names.

    They state no source positions. They hand on the lane's marks, so that a connector that resumes
    need not look back beyond them, and its clock, which `tail` takes over.

    Raises
    ------
    NotPossibleError
        If one row alone is too large for the topic.
    """
    record = feature_set(settings.features.feature_set).record_type
    most = min(settings.writer.rows, settings.features.max_message_rows)
    for start in range(0, rows.num_rows, most):
        for part, value in _fitting(rows.slice(start, most), settings.writer.size_bytes):
            latest_us = pc.max(part.column("event_time").cast(pa.int64())).as_py()
            tail.clock_us = max(tail.clock_us, latest_us)
            headers = FlowsHeaders(record=record.id, rows=part.num_rows, clock_us=tail.clock_us).to_kafka()
            yield topic, lane, value, [*headers, (REDRIVEN, letter_id.encode()), *_marks(tail)]


def flush_message(record: RecordType, topic: str, lane: int, tail: Tail) -> Sending:
    """Return the message without rows that closes the alert groups of a lane."""
    empty = encode(pa.RecordBatch.from_pylist([], schema=record.schema))
    headers = FlowsHeaders(record=record.id, rows=0, clock_us=tail.clock_us, flush=True).to_kafka()
    return topic, lane, empty, [*headers, *_marks(tail)]


def _marks(tail: Tail) -> list[tuple[str, bytes]]:
    return [(HEADER, encode_marks(tail.marks))] if tail.marks else []


def _fitting(rows: pa.RecordBatch, size_bytes: int) -> Iterator[tuple[pa.RecordBatch, bytes]]:
    """Yield rows with their encoding, halved until they fit `size_bytes`; one row may be larger."""
    value, n = encode(rows), rows.num_rows
    if len(value) > size_bytes and n > 1:
        yield from _fitting(rows.slice(0, n // 2), size_bytes)
        yield from _fitting(rows.slice(n // 2), size_bytes)
    elif len(value) > MAX_VALUE_BYTES:
        raise NotPossibleError(f"one flow takes {len(value)} bytes, expected at most {MAX_VALUE_BYTES}")
    else:
        yield rows, value
