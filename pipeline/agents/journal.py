"""The end of an output topic as its writer's journal, past messages that others wrote into it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TypeVar

from connectors.kafka_reader import KafkaReader, Message
from connectors.wire import RawHeaders
from pipeline.errors import JournalError

JOURNAL_TAIL = 4
"""Messages read back at a restart: a zombie's late repeat may be the very last one."""

Entry = TypeVar("Entry")


def journal_tail(
    reader: KafkaReader, topic: str, partition: int, read: Callable[[RawHeaders], Entry]
) -> list[tuple[Message, Entry]]:
    """Return the last entries of a journal, oldest first; none only if the whole log holds none."""
    n = JOURNAL_TAIL
    while True:
        messages = reader.last_messages(topic, partition, n)
        entries: list[tuple[Message, Entry]] = []
        for message in messages:
            with suppress(JournalError):
                entries.append((message, read(message.headers)))
        if entries or len(messages) < n:
            return entries
        n *= 4


def newest_first(
    reader: KafkaReader, topic: str, partition: int, begin: int, stop: int, *, block: int
) -> Iterator[Message]:
    """Yield the messages from before `stop` back to `begin`, read `block` offsets at a time."""
    while stop > begin:
        start = max(begin, stop - block)
        yield from reversed(list(reader.read_range(topic, partition, start, stop)))
        stop = start
