"""Flows as JSON in the messages of a Kafka topic, mapped to conn@1 by a mapping file.

A message holds one JSON object; arrays, several lines and empty messages are rejects. Which end of a flow
is its source, and which bytes are counted, is as the records have it: the notes of the mapping say so.

Positions are offsets. An offset without a message (left by compaction, by a transaction, by retention) and
one whose message is no flow by the mapping's `where` are positions without a row or a reject. There is no
consumer group and nothing is committed: how far the topic was read stands in the lanes that it was
written to.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa
import structlog

from connectors.base import ROWS_PER_CHUNK, Chunk, Reject
from connectors.json_flows import FlowReader, flow_ids, mapping_notes
from connectors.json_paths import Fault
from connectors.kafka_reader import KafkaReader, Lost, Message
from connectors.kafka_settings import KafkaSettings
from connectors.mapping import FlowMapping
from connectors.records import CONN
from connectors.topics import TopicAdmin

NAME = "topic"

log = structlog.get_logger()

_NO_ROWS = pa.RecordBatch.from_pylist([], schema=CONN.schema)
_NO_VALUE: Fault = ("no_value", "a message without a value, expected one JSON object")


def topic_sources(
    settings: KafkaSettings,
    topic: str,
    mapping: FlowMapping,
    *,
    sensor: str | None = None,
    from_end: bool = False,
) -> "list[TopicSource]":
    """Return a source for each partition that a topic has now, to be read side by side.

    Parameters
    ----------
    settings : KafkaSettings
        Where the brokers are, if the mapping does not say.
    topic : str
        Its name.
    mapping : FlowMapping
        What stands where.
    sensor : str, optional
        Where all flows were observed; it wins over what the mapping takes from the records.
    from_end : bool
        Whether the first reading begins at the end of the log instead of its beginning.

    Raises
    ------
    BrokerError
        If the brokers do not answer or have no such topic.
    """
    settings = mapping.kafka or settings
    with TopicAdmin(settings) as admin:
        identity = admin.identity(topic)
        n_partitions = admin.partitions([topic])[topic]
    reader = FlowReader(mapping, sensor=sensor, default_sensor=NAME)
    return [
        TopicSource(
            settings, topic, partition, identity=identity, mapping=mapping, reader=reader, from_end=from_end
        )
        for partition in range(n_partitions)
    ]


class TopicSource:
    """One partition of a topic, without an end: while nothing comes, `chunks` yields empty chunks.

    A reading that starts at 0 begins where the log does. What retention took away before it was read is
    counted, and warned of, as lost.

    The source's id comes from the topic's own id, not from the brokers' addresses, which change: a topic
    that was made anew is another source, and so is one that is read by another mapping or for another
    sensor. Flows without an id get one from topic, partition, offset and text.

    Raises
    ------
    BrokerError
        While reading: if the brokers are away for longer than some seconds, or the log ends before the start.
    """

    name = NAME
    record_type = CONN
    n_records: int | None = None

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        partition: int,
        *,
        identity: str,
        mapping: FlowMapping,
        reader: FlowReader,
        from_end: bool,
    ) -> None:
        self.notes = mapping_notes(mapping)
        place = f"{identity},{partition},{reader.sensor}".encode()
        self.source_id = hashlib.blake2b(place + mapping.digest, digest_size=10).hexdigest()
        self._salt = hashlib.blake2b(place, digest_size=16).digest()
        self._settings = settings
        self._topic = topic
        self._partition = partition
        self._flows = reader
        self._from_end = from_end
        self._counters: Counter[str] = Counter(
            messages=0, rows=0, rejects=0, other_messages=0, lost_offsets=0
        )

    def counters(self) -> dict[str, int]:
        """Return what was read so far: messages, rows, rejects, messages of other kinds, lost offsets."""
        return dict(self._counters)

    def chunks(self, start: int = 0, *, rows: int = ROWS_PER_CHUNK) -> Iterator[Chunk]:
        """Yield what comes from offset `start` on, at most `rows` messages a chunk, without an end."""
        with KafkaReader(self._settings, committed=True) as reader:
            begin, end = reader.offsets(self._topic)[self._partition]
            if start == 0 and self._from_end:
                yield Chunk(rows=_NO_ROWS, first=0, next=end)
                start = position = end
            else:
                position, start = start, start or begin
            for messages in reader.batches(self._topic, {self._partition: start}, n=rows):
                while reader.lost:
                    self._tell(reader.lost.pop())
                following = messages[-1].offset + 1 if messages else position
                yield self._chunk(messages, position, following)
                position = following

    def _tell(self, lost: Lost) -> None:
        self._counters["lost_offsets"] += lost.next - lost.first
        log.warning(
            "offsets_lost", topic=lost.topic, partition=lost.partition, first=lost.first, next=lost.next
        )

    def _chunk(self, messages: Sequence[Message], first: int, following: int) -> Chunk:
        if not messages:
            return Chunk(rows=_NO_ROWS, first=first, next=following)
        rows, faults = self._records([m for m in messages if m.value is not None])
        faults |= {message.offset: _NO_VALUE for message in messages if message.value is None}
        rejects = tuple(self._reject(m, *faults[m.offset]) for m in messages if m.offset in faults)
        n_other = len(messages) - rows.num_rows - len(rejects)
        self._counters.update(
            messages=len(messages), rows=rows.num_rows, rejects=len(rejects), other_messages=n_other
        )
        return Chunk(rows=rows, first=first, next=following, rejects=rejects)

    def _records(self, messages: Sequence[Message]) -> tuple[pa.RecordBatch, dict[int, Fault]]:
        """Return the flows among some messages, and what is wrong with others, by offset."""
        texts = [message.value or b"" for message in messages]
        flows = self._flows.parse(texts)
        offsets = [messages[row].offset for row in flows.rows]
        ids = flow_ids(flows.columns["flow_id"], offsets, [texts[row] for row in flows.rows], self._salt)
        identity = {"flow_id": ids, "position": pa.array(offsets, pa.int64())}
        checked = CONN.check(pa.RecordBatch.from_pydict({**flows.columns, **identity}))
        faults = {messages[row].offset: fault for row, fault in flows.faults.items()}
        return checked.rows, faults | {offsets[bad.index]: (bad.reason, bad.detail) for bad in checked.bad}

    def _reject(self, message: Message, reason: str, detail: str) -> Reject:
        where = f"{self._topic}/{self._partition} offset {message.offset}"
        return Reject(
            position=message.offset, raw=message.value or b"", reason=reason, detail=f"{where}: {detail}"
        )
