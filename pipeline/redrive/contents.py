"""The flows that a dead letter holds, as they may go into the stream again."""

import pyarrow as pa

from connectors.dead_letters import MAX_VALUE_BYTES, DeadLetter
from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
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
    # A letter holds the first 4 MiB; the rest is in the log, if anywhere.
    value = message_of(letter, flows, reader).value if _is_cut(letter) else letter.value
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


def message_of(letter: DeadLetter, topic: str, reader: KafkaReader) -> Message:
    """Return the message that a letter stands for, from the log.

    Raises
    ------
    NotPossibleError
        If it comes from another topic, or the log has it no more, or another one in its place.
    """
    if letter.topic != topic or letter.partition is None or letter.offset is None:
        raise NotPossibleError(f"it comes from {letter.topic or 'nowhere'}, expected from {topic}")
    found = list(reader.read_range(topic, letter.partition, letter.offset, letter.offset + 1))
    if not found or not (found[0].value or b"").startswith(letter.value):
        raise NotPossibleError(f"its message has left the log: {topic}/{letter.partition}/{letter.offset}")
    return found[0]
