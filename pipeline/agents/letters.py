"""The dead letters of the workers: what could not be judged, with its reason and where it was."""

import pyarrow as pa

from connectors.dead_letters import DeadLetter, fitting, origin_id
from connectors.errors import RecordError
from connectors.kafka_reader import Message
from connectors.records import BadRow
from connectors.topics import Topics
from connectors.wire import decode, encode, header_dict
from pipeline.agents.lane import Out

MAX_DIGITS = 10
"""Of a stated number of rows: what is longer is no number of rows, and may be none that Python reads."""


def letter_out(letter: DeadLetter, topics: Topics) -> Out:
    """Return the message that carries a dead letter."""
    return Out(
        topic=topics.dead_letters, key=letter.id.encode(), value=letter.value, headers=letter.to_kafka()
    )


def whole_letter(message: Message, stage: str, reason: str, detail: str, *, panel: str = "") -> DeadLetter:
    """Return the dead letter of a whole message; the same one each time a stage, or panel, reads it."""
    value, detail = fitting(message.value or b"", detail)
    return DeadLetter(
        id=origin_id(f"{stage} {panel}".strip(), message.topic, message.partition, message.offset),
        stage=stage,
        reason=reason,
        detail=detail,
        value=value,
        rows=_stated_rows(message),
        panel=panel,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
    )


def _stated_rows(message: Message) -> int:
    """Return how many rows a message holds: by its body, else by its header, else one."""
    try:
        return int(decode(message.value).num_rows)
    except RecordError:
        stated = header_dict(message.headers).get("weir-rows", b"1")
        return int(stated) if stated.isdigit() and len(stated) < MAX_DIGITS else 1


def row_letter(message: Message, stage: str, batch: pa.RecordBatch, row: int, bad: BadRow) -> DeadLetter:
    """Return the dead letter of one row, cut out of its batch with all its columns."""
    value, detail = fitting(encode(batch.slice(row, 1)), bad.detail)
    return DeadLetter(
        id=origin_id(stage, message.topic, message.partition, message.offset, row),
        stage=stage,
        reason=bad.reason,
        detail=detail,
        value=value,
        rows=1,
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        row=row,
        flow_id=_flow_id(batch, row),
    )


def _flow_id(batch: pa.RecordBatch, row: int) -> str:
    index = batch.schema.get_field_index("flow_id")
    value = batch.column(index)[row].as_py() if index >= 0 else None
    return value if isinstance(value, str) else ""
