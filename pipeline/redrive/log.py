"""What the flows log holds already: the flows that have been taken, and what earlier redrives sent."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.dead_letters import REDRIVEN
from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.marks import Tail
from connectors.wire import FlowsHeaders, decode, header_dict
from pipeline.redrive.letters import Dead

Key = tuple[str, str]
"""Sensor and flow id: the same flow, wherever it stands."""


def keys_of(rows: pa.RecordBatch) -> list[Key]:
    """Return the key of each row; of a batch that lacks the columns none."""
    names = rows.schema.names
    if "sensor" not in names or "flow_id" not in names:
        return []
    return list(zip(rows.column("sensor").to_pylist(), rows.column("flow_id").to_pylist(), strict=True))


@dataclass(slots=True)
class Log:
    """The flows log as it bears on some flows, the candidates."""

    taken: set[Key] = field(default_factory=set)  # candidates that a window has seen or is going to see
    sent: dict[str, set[Key]] = field(default_factory=lambda: defaultdict(set))  # by letter id
    tails: dict[int, Tail] = field(default_factory=dict)
    resting: dict[int, bool] = field(default_factory=dict)  # lanes that end with a flush, redriven rows aside
    alerts: set[str] = field(default_factory=set)  # ids of alerts that are published


def read_log(reader: KafkaReader, topic: str, candidates: set[Key], dead: Dead) -> Log:
    """Return what the flows topic says of `candidates`, all of it read once."""
    log = Log()
    ids = pa.array({flow_id for _, flow_id in candidates}, pa.string())
    for lane, (begin, end) in reader.offsets(topic).items():
        log.tails[lane], log.resting[lane] = Tail(), True
        marks: dict[str, int] = {}
        for message in reader.read_range(topic, lane, begin, end):
            _take(log, message, marks, ids, dead)
    log.taken &= candidates
    return log


def _take(log: Log, message: Message, marks: dict[str, int], ids: pa.Array, dead: Dead) -> None:
    """Take in one message as the features worker does: what lies below its source's mark is dropped."""
    lane, letter_id = message.partition, header_dict(message.headers).get(REDRIVEN)
    log.tails[lane].add(message)
    try:
        headers = FlowsHeaders.from_kafka(message.headers)
        if letter_id is None:
            log.resting[lane] = headers.flush
        if headers.flush:
            return
        rows = decode(message.value) if len(ids) or letter_id else None
    except RecordError:
        return
    if letter_id is not None and rows is not None:
        log.sent[letter_id.decode(errors="replace")].update(keys_of(rows))
    if (lane, message.offset) in dead.messages:
        return
    if rows is not None:
        log.taken.update(_living(message, rows, marks.get(headers.source, 0), ids, dead))
    if headers.source:
        marks[headers.source] = max(headers.next, marks.get(headers.source, 0))


def _living(message: Message, rows: pa.RecordBatch, mark: int, ids: pa.Array, dead: Dead) -> Iterator[Key]:
    """Yield the candidates among the rows of a message that are neither repeats nor dead."""
    at = rows.schema.get_field_index("flow_id")
    if at < 0 or rows.column(at).type != ids.type:
        return
    hits = np.flatnonzero(np.asarray(pc.is_in(rows.column(at), value_set=ids)))
    for row, key in zip(hits.tolist(), keys_of(rows.take(pa.array(hits))), strict=False):
        where = (message.partition, message.offset, row)
        if where not in dead.rows and not _below(rows, row, mark):
            yield key


def _below(rows: pa.RecordBatch, row: int, mark: int) -> bool:
    index = rows.schema.get_field_index("position")
    if not mark or index < 0 or rows.column(index).type != pa.int64() or rows.column(index).null_count:
        return False
    position: int = rows.column(index)[row].as_py()
    return position < mark


def left_out(rows: pa.RecordBatch, known: Sequence[set[Key]]) -> pa.RecordBatch:
    """Return the rows whose keys are in none of the sets, each key once; rows without an id stay."""
    seen: set[Key] = set()
    kept = []
    for row, key in enumerate(keys_of(rows)):
        if not all(key) or (key not in seen and not any(key in keys for keys in known)):
            kept.append(row)
        seen.add(key)
    return rows.take(pa.array(kept, pa.int64()))
