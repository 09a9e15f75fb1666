"""The flows that a dead letter holds, as they may go into the stream again."""

import pyarrow as pa

from connectors.dead_letters import MAX_VALUE_BYTES, DeadLetter
from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader
from connectors.wire import decode
from pipeline.errors import PipelineError
from pipeline.features.base import FeatureSet


class NotPossibleError(PipelineError):
    """A dead letter cannot be brought back; the message says why, and what to do if anything helps."""


def flows_of(letter: DeadLetter, flows: str, reader: KafkaReader, feature_set: FeatureSet) -> pa.RecordBatch:
    """Return the rows of a letter of the features stage, as they stood in their flows message.

    Raises
    ------
    NotPossibleError
        If its bytes are no rows of this record type, or only a part of them is left.
    """
    if letter.topic != flows or letter.partition is None or letter.offset is None:
        raise NotPossibleError(f"it comes from {letter.topic or 'nowhere'}, expected from {flows}")
    if letter.reason == "other_record_type":
        raise NotPossibleError(
            f"its record type is not {feature_set.record_type.id}, which this prefix carries"
        )
    value = _original(letter, reader) if _is_cut(letter) else letter.value
    try:
        rows = decode(value)
        feature_set.record_type.select(rows)
    except RecordError as error:
        raise NotPossibleError(f"it would be refused again: {error.detail}") from error
    return rows


def acceptable(rows: pa.RecordBatch, feature_set: FeatureSet) -> tuple[pa.RecordBatch, str]:
    """Return the rows that the features stage takes today, and why not the first of the others."""
    checked = feature_set.check(rows)
    why = (
        f"{len(checked.bad)} of {rows.num_rows} would be refused again: {checked.bad[0].detail}"
        if checked.bad
        else ""
    )
    return rows.take(pa.array(checked.kept)), why


def _is_cut(letter: DeadLetter) -> bool:
    return len(letter.value) == MAX_VALUE_BYTES and letter.detail.endswith(" bytes)")


def _original(letter: DeadLetter, reader: KafkaReader) -> bytes:
    """Return the message that a letter holds only the beginning of, if the log still has it."""
    assert letter.partition is not None
    assert letter.offset is not None
    messages = reader.read_range(letter.topic, letter.partition, letter.offset, letter.offset + 1)
    message = next(iter(list(messages)), None)
    if message is None or not (message.value or b"").startswith(letter.value):
        raise NotPossibleError(
            f"the letter holds the first {MAX_VALUE_BYTES} bytes only, and its message has left the log"
        )
    return message.value or b""
