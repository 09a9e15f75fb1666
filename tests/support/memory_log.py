"""A log in memory with the reading interface of `connectors.kafka_reader.KafkaReader`."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator

from connectors.kafka_reader import Message
from connectors.wire import Headers


class MemoryLog:
    """Topics of partitions of messages; offsets may have gaps, and the beginning may be cut off."""

    def __init__(self, partitions: int = 1) -> None:
        self._partitions = partitions
        self._logs: dict[tuple[str, int], list[Message]] = defaultdict(list)
        self._ends: dict[tuple[str, int], int] = defaultdict(int)
        self._begins: dict[tuple[str, int], int] = defaultdict(int)
        self._position = ("", 0, 0)

    def append(
        self, topic: str, partition: int, value: bytes, headers: Headers, key: bytes | None = None
    ) -> Message:
        at = (topic, partition)
        message = Message(
            topic=topic,
            partition=partition,
            offset=self._ends[at],
            timestamp_ms=0,
            key=key,
            value=value,
            headers=tuple(headers),
        )
        self._ends[at] += 1
        self._logs[at].append(message)
        return message

    def skip(self, topic: str, partition: int, n: int) -> None:
        """Leave a gap, as transaction markers do."""
        self._ends[topic, partition] += n

    def cut(self, topic: str, partition: int, begin: int) -> None:
        """Delete everything before `begin`, as retention does."""
        at = (topic, partition)
        self._begins[at] = begin
        self._logs[at] = [message for message in self._logs[at] if message.offset >= begin]

    def drop(self, topic: str) -> None:
        """Delete a topic and create it anew."""
        for at in [at for at in self._logs if at[0] == topic]:
            del self._logs[at], self._ends[at]

    def messages(self, topic: str, partition: int = 0) -> list[Message]:
        return list(self._logs[topic, partition])

    def offsets(self, topic: str) -> dict[int, tuple[int, int]]:
        return {p: (self._begins[topic, p], self._ends[topic, p]) for p in range(self._partitions)}

    def last_messages(self, topic: str, partition: int, n: int) -> list[Message]:
        return self._logs[topic, partition][-n:]

    def read_range(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Message]:
        """Read as `KafkaReader` does: with one position, which a later reading takes over."""
        self._position = (topic, partition, start)
        while True:
            topic, partition, start = self._position
            message = next((m for m in self._logs[topic, partition] if m.offset >= start), None)
            if message is None or message.offset >= stop:
                return
            self._position = (topic, partition, message.offset + 1)
            yield message

    def committed(self, group: str, topic: str) -> dict[int, int]:  # noqa: ARG002 the interface
        return {}


def durable() -> "asyncio.Future[None]":
    """Return what a producer gives for a message that is written at once."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future
