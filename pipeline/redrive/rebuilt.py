"""The features of a flows message as they were, where no features topic holds them."""

from contextlib import suppress

import pyarrow as pa

from connectors.kafka_reader import KafkaReader, Message
from connectors.topics import Topics
from pipeline.agents.features import FeaturesRole, FlowsLane
from pipeline.errors import JournalError
from pipeline.features.feature_sets import feature_set
from pipeline.messages import FeaturesHeaders
from pipeline.redrive.contents import NotPossibleError
from pipeline.settings import Settings


def features_again(
    message: Message, settings: Settings, reader: KafkaReader
) -> tuple[FeaturesHeaders, pa.RecordBatch]:
    """Return the features that an inline worker made of a flows message, with the windows of that time.

    Raises
    ------
    NotPossibleError
        If the log no longer reaches back to what the windows held.
    """
    topics = Topics(settings.topics.prefix)
    role = FeaturesRole(
        feature_set(settings.features.feature_set), topics, max_rows=settings.features.max_message_rows
    )
    before = _answer_before(message, topics.detections(settings.panel.name), reader)
    begin, _ = reader.offsets(topics.flows)[message.partition]
    first = before.low.offset if before else 0
    if first < begin:
        where = f"{topics.flows}/{message.partition}"
        raise NotPossibleError(f"its windows began at {where}/{first}, the log only at offset {begin}")
    lane = FlowsLane(role, _as_it_is, done=before.flows_offset if before else -1, journal=before)
    for earlier in reader.read_range(topics.flows, message.partition, first, message.offset):
        lane.warm(earlier)
    answer = lane.answer(message)
    return answer.headers, answer.value


def _as_it_is(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows


def _answer_before(message: Message, topic: str, reader: KafkaReader) -> FeaturesHeaders | None:
    """Return the journal entry that answers the flows message before this one; None if this is the first."""
    found: FeaturesHeaders | None = None
    begin, end = reader.offsets(topic)[message.partition]
    for answer in reader.read_range(topic, message.partition, begin, end):
        with suppress(JournalError):
            headers = FeaturesHeaders.from_kafka(answer.headers)
            if headers.flows_offset < message.offset and (
                found is None or headers.flows_offset > found.flows_offset
            ):
                found = headers
    if found is None and begin > 0:
        raise NotPossibleError(f"its journal {topic}/{message.partition} no longer reaches back to it")
    return found
