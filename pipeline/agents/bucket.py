"""The way back to the group bucket that is open at some place of a detections log."""

from collections.abc import Iterator
from contextlib import suppress

from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.wire import decode
from pipeline.agents.journal import newest_first
from pipeline.errors import JournalError
from pipeline.grouping import bucket_of
from pipeline.messages import DetectionsHeaders
from pipeline.told import Told

READ_BACK = 64
"""Messages read at a time on the way back."""


def bucket_start(
    reader: KafkaReader, topic: str, partition: int, upto: int, bucket_s: float
) -> tuple[int, int]:
    """Return the offset at which the bucket begins that is open before `upto`, and the flows answered then.

    The way back ends at the first message that lies wholly in an earlier bucket and directly before
    the rest by its flows offset: a zombie's late repeat is old but not the border. Where the log ends
    before that, all of it is taken, and -1 flows are answered.
    """
    begin, _ = reader.offsets(topic)[partition]
    open_bucket, lowest = -1, 0  # the greatest bucket seen, and the smallest flows offset in it
    for message, headers in _backwards(reader, topic, partition, begin, upto):
        bucket = bucket_of(headers.clock_end_us, bucket_s)
        if bucket > open_bucket:
            open_bucket, lowest = bucket, headers.flows_offset
        elif bucket == open_bucket:
            lowest = min(lowest, headers.flows_offset)
        elif headers.flows_offset + 1 >= lowest:
            return message.offset + 1, headers.flows_offset
    return begin, -1


def _backwards(
    reader: KafkaReader, topic: str, partition: int, begin: int, stop: int
) -> Iterator[tuple[Message, DetectionsHeaders]]:
    """Yield the answers of the log from before `stop` back to `begin`, without what is none."""
    for message in newest_first(reader, topic, partition, begin, stop, block=READ_BACK):
        with suppress(JournalError):
            headers = DetectionsHeaders.from_kafka(message.headers)
            if not headers.begins:
                yield message, headers


def told_so_far(reader: KafkaReader, at: Message, fresh: Told | None) -> Told | None:
    """Return what the verdicts of a lane up to the message `at` have told in the bucket open then.

    So a worker that goes on in the middle of a bucket explains the same rows as one that never
    stopped, though a zombie goes on as well and its verdicts stand behind.
    """
    if fresh is None:
        return None
    end = at.offset + 1
    start, answered = bucket_start(reader, at.topic, at.partition, end, fresh.width_us / 1e6)
    told = fresh
    for message in reader.read_range(at.topic, at.partition, start, end):
        with suppress(JournalError, RecordError):
            headers = DetectionsHeaders.from_kafka(message.headers)
            if headers.flows_offset > answered and not headers.begins:
                answered = headers.flows_offset
                _, told = told.behind(decode(message.value), headers.clock_us)
                told = told.closed(headers.clock_end_us, flush=headers.flush)
    return told
