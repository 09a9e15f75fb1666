"""Messages read without a consumer group: for recovery, for tools, and to follow a topic."""

import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import kafka.errors
from kafka import TopicPartition

from connectors.errors import BrokerError
from connectors.kafka_client import admin, broker_errors, consumer
from connectors.kafka_settings import KafkaSettings
from connectors.topics import MAX_MESSAGE_BYTES

POLL_MS = 250
ALIVE_S = 10.0
"""Silence after which `follow` asks whether the broker is still there."""

_COORDINATOR_AWAY = (
    kafka.errors.CoordinatorLoadInProgressError,
    kafka.errors.CoordinatorNotAvailableError,
    kafka.errors.NotCoordinatorError,
)

Start = Literal["beginning", "latest"] | Mapping[int, int]
"""Where to begin: at the log's start, at its end, or at an offset for each partition."""


@dataclass(frozen=True, slots=True)
class Lost:
    """Offsets that a log gave up before they were read."""

    topic: str
    partition: int
    first: int
    next: int


@dataclass(frozen=True, slots=True)
class Message:
    """A Kafka message as it stands in its log."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


class KafkaReader:
    """Reads any part of any topic, without a group and without commits.

    Offsets may have gaps (transaction markers, compaction) and logs may lose their beginning while
    they are read: reading goes on behind. One reading at a time, by one thread at a time.

    Parameters
    ----------
    settings : KafkaSettings
        Where the brokers are.
    timeout_s : float
        Longest time without any progress before a bounded reading fails.
    committed : bool
        Whether messages of transactions that were given up, or have not ended, are left out.

    Raises
    ------
    BrokerError
        From every method, in one sentence, if the broker does not answer or the topic is missing.
    """

    def __init__(self, settings: KafkaSettings, *, timeout_s: float = 30.0, committed: bool = False) -> None:
        self.lost: list[Lost] = []
        self._settings = settings
        self._timeout_s = timeout_s
        self._consumer = consumer(
            settings,
            fetch_max_wait_ms=POLL_MS,
            max_partition_fetch_bytes=MAX_MESSAGE_BYTES,
            isolation_level="read_committed" if committed else "read_uncommitted",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close(timeout_ms=1000)

    def partitions(self, topic: str) -> tuple[int, ...]:
        """Return the partitions of a topic, in order."""
        with broker_errors(self._settings, f"read {topic}"):
            found = self._consumer.partitions_for_topic(topic)
        if not found:
            raise BrokerError(f"topic {topic} does not exist at {self._settings.servers}; create it first")
        return tuple(sorted(found))

    def offsets(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return for each partition the offset of its first message and the one after its last."""
        tps = [TopicPartition(topic, partition) for partition in self.partitions(topic)]
        return {tp.partition: span for tp, span in self._spans(tps).items()}

    def _spans(self, tps: list[TopicPartition]) -> dict[TopicPartition, tuple[int, int]]:
        timeout_ms = round(self._settings.request_timeout_s * 1000)
        with broker_errors(self._settings, f"read {tps[0].topic}"):
            begins = self._consumer.beginning_offsets(tps, timeout_ms=timeout_ms)
            ends = self._consumer.end_offsets(tps, timeout_ms=timeout_ms)
            ends |= self._true_ends({tp: ends[tp] for tp in tps if ends[tp] > begins[tp]})
        return {tp: (begins[tp], ends[tp]) for tp in tps}

    def _true_ends(self, listed: dict[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Return the ends that fetching shows.

        Tansu lists the first offset of the last batch plus one; Kafka lists the end itself.
        """
        self._assign({tp: end - 1 for tp, end in listed.items()})
        deadline = time.monotonic() + self._settings.request_timeout_s
        waiting = set(listed)
        while waiting and time.monotonic() < deadline:
            self._poll(POLL_MS)
            waiting = {tp for tp in waiting if self._position(tp) < listed[tp]}
        return {tp: max(end, self._consumer.highwater(tp) or 0) for tp, end in listed.items()}

    def read_range(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Message]:
        """Yield the messages with offsets from `start` up to, not including, `stop`.

        What the log no longer has is left out, as is what it does not have yet; compare with
        `offsets` to see either.
        """
        tp = TopicPartition(topic, partition)
        self._check_partition(tp)
        begin, end = self._spans([tp])[tp]
        start, stop = max(start, begin), min(stop, end)
        if start < stop:
            self._assign({tp: start})
            yield from self._read_until(tp, stop)

    def _read_until(self, tp: TopicPartition, stop: int) -> Iterator[Message]:
        deadline = time.monotonic() + self._timeout_s
        position = self._position(tp)
        while position < stop:
            with broker_errors(self._settings, f"read {tp.topic}/{tp.partition}"):
                messages = self._poll(POLL_MS)
                now_at = self._position(tp)
            for message in messages:
                if message.offset >= stop:
                    return
                yield message
            if now_at > position:
                position, deadline = now_at, time.monotonic() + self._timeout_s
            elif time.monotonic() > deadline:
                raise BrokerError(
                    f"cannot read {tp.topic}/{tp.partition} at {self._settings.servers}: stuck at offset "
                    f"{position} of {stop} for {self._timeout_s:g} s; is the broker up?"
                )

    def last_messages(self, topic: str, partition: int, n: int) -> list[Message]:
        """Return the last `n` messages, or all if there are fewer, oldest first."""
        tp = TopicPartition(topic, partition)
        self._check_partition(tp)
        begin, end = self._spans([tp])[tp]
        back = n
        while True:
            start = max(begin, end - back)
            found = list(self.read_range(topic, partition, start, end)) if start < end else []
            if len(found) >= n or start == begin:
                return found[-n:] if n else []
            back *= 4  # gaps: look further back

    def follow(
        self,
        topic: str,
        start: Start = "latest",
        *,
        stop: threading.Event | None = None,
        idle_timeout_s: float | None = None,
    ) -> Iterator[Message]:
        """Yield messages as they come, in order within a partition.

        Ends when `stop` is set or after `idle_timeout_s` without a message; waits for ever if
        neither is given, but not for a broker that is gone.
        """
        batches = self.batches(topic, start)
        last = time.monotonic()
        while stop is None or not stop.is_set():
            messages = next(batches)
            now = time.monotonic()
            if messages:
                last = now
            if idle_timeout_s is not None and now - last > idle_timeout_s:
                return
            for message in messages:
                yield message
                if stop is not None and stop.is_set():
                    return

    def batches(
        self, topic: str, start: Start = "latest", *, n: int | None = None
    ) -> Iterator[list[Message]]:
        """Return an endless iterator over what comes, at most `n` messages a batch, in order of a partition.

        A batch is empty when nothing came for `POLL_MS`. What the log gave up is added to `lost`.
        """
        self._assign(self._starts(topic, start))
        return self._batches(topic, n)

    def _batches(self, topic: str, n: int | None) -> Iterator[list[Message]]:
        asked = time.monotonic()
        while True:
            with broker_errors(self._settings, f"follow {topic}"):
                messages = self._poll(POLL_MS, n)
                now = time.monotonic()
                if messages:
                    asked = now
                elif now - asked > ALIVE_S:
                    self._ask()
                    asked = time.monotonic()
            yield messages

    def _ask(self) -> None:
        """Fail if the broker does not answer, or has lost the log; polling alone would wait in silence."""
        timeout_ms = round(self._settings.connect_timeout_s * 1000)
        ends = self._consumer.end_offsets(list(self._consumer.assignment()), timeout_ms=timeout_ms)
        for tp, end in ends.items():
            # Not any end before us: Tansu lists the first offset of the last batch plus one.
            if end == 0 and (position := self._position(tp)) > 0:
                raise _made_anew(tp, position)

    def _starts(self, topic: str, start: Start) -> dict[TopicPartition, int]:
        spans = self.offsets(topic)
        if isinstance(start, str):
            which = {"beginning": 0, "latest": 1}[start]
            return {TopicPartition(topic, partition): span[which] for partition, span in spans.items()}
        for partition, offset in start.items():
            begin, end = spans.get(partition, (0, 0))
            if partition not in spans or offset > end:
                raise BrokerError(
                    f"offset {offset} of {topic}/{partition} lies beyond the log, which holds {begin} to "
                    f"{end}; the topic was made anew: follow it from the beginning or the latest"
                )
        return {TopicPartition(topic, partition): offset for partition, offset in start.items()}

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """Return the offset that `group` has committed for each partition where it has one."""
        client = admin(self._settings)
        try:
            with broker_errors(self._settings, f"read the offsets of group {group}"):
                found = self._group_offsets(client, group)
        except BrokerError as error:
            if isinstance(error.__cause__, kafka.errors.GroupIdNotFoundError):
                return {}
            raise
        finally:
            client.close()
        offsets = {tp.partition: at.offset for tp, at in found.items() if tp.topic == topic}
        return {partition: offset for partition, offset in sorted(offsets.items()) if offset >= 0}

    def _group_offsets(self, client: Any, group: str) -> Mapping[TopicPartition, Any]:
        """Ask again while the coordinator is being found: the first group of a new cluster waits for it."""
        deadline = time.monotonic() + self._settings.request_timeout_s
        while True:
            try:
                found: Mapping[TopicPartition, Any] = client.list_group_offsets({group: None}).get(group, {})
            except _COORDINATOR_AWAY:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_MS / 1000)
            else:
                return found

    def _check_partition(self, tp: TopicPartition) -> None:
        if tp.partition not in self.partitions(tp.topic):
            raise BrokerError(f"topic {tp.topic} has no partition {tp.partition}")

    def _assign(self, starts: Mapping[TopicPartition, int]) -> None:
        self._consumer.assign([])  # forgets what was fetched and known of earlier assignments
        self._consumer.assign(list(starts))
        for tp, offset in starts.items():
            self._consumer.seek(tp, offset)

    def _position(self, tp: TopicPartition) -> int:
        position: int | None = self._consumer.position(tp, timeout_ms=POLL_MS)
        return -1 if position is None else position

    def _poll(self, timeout_ms: int, n: int | None = None) -> list[Message]:
        try:
            polled = self._consumer.poll(timeout_ms, max_records=n)
        except kafka.errors.OffsetOutOfRangeError as error:
            self._skip_lost(list(error.args[0]))
            return []
        return [_message(record) for records in polled.values() for record in records]

    def _skip_lost(self, tps: list[TopicPartition]) -> None:
        """Go on at the log's start where retention has overtaken us."""
        begins = self._consumer.beginning_offsets(tps)
        for tp in tps:
            position = self._position(tp)
            if position > begins[tp]:
                raise _made_anew(tp, position)
            self.lost.append(Lost(tp.topic, tp.partition, position, begins[tp]))
            self._consumer.seek(tp, begins[tp])


def _made_anew(tp: TopicPartition, position: int) -> BrokerError:
    return BrokerError(
        f"offset {position} lies beyond the end of {tp.topic}/{tp.partition}; "
        "the topic was made anew: begin again"
    )


def _message(record: Any) -> Message:
    return Message(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        tuple(record.headers or ()),
    )
