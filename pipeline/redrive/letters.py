"""The dead letters of an installation: which are chosen, and which rows of the log are dead."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from connectors.dead_letters import DeadLetter
from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader

Place = tuple[int, int]
"""Partition and offset in the flows topic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which dead letters are meant; what is left out does not matter."""

    stage: str | None = None
    reason: str | None = None
    ids: tuple[str, ...] = ()  # beginnings of ids
    since_ms: float | None = None
    until_ms: float | None = None

    def takes(self, written_ms: int, letter: DeadLetter) -> bool:
        """Return whether a letter is chosen.

        Examples
        --------
        >>> letter = DeadLetter(id="ab12", stage="ingest", reason="bad", detail="", value=b"")
        >>> Selection(stage="ingest", ids=("ab",)).takes(0, letter)
        True
        >>> Selection(since_ms=1).takes(0, letter)
        False
        """
        return (
            self.stage in (None, letter.stage)
            and self.reason in (None, letter.reason)
            and (not self.ids or letter.id.startswith(self.ids))
            and (self.since_ms is None or written_ms >= self.since_ms)
            and (self.until_ms is None or written_ms < self.until_ms)
        )


@dataclass(slots=True)
class Dead:
    """What the flows topic holds that no window has seen: it is in the dead letters."""

    messages: set[Place] = field(default_factory=set)
    rows: set[tuple[int, int, int]] = field(default_factory=set)  # partition, offset, row

    def add(self, letter: DeadLetter, flows: str) -> None:
        """Take in a letter; of later stages the windows have seen the rows."""
        if letter.stage != "features" or letter.topic != flows:
            return
        if letter.partition is None or letter.offset is None:
            return
        if letter.row is None:
            self.messages.add((letter.partition, letter.offset))
        else:
            self.rows.add((letter.partition, letter.offset, letter.row))


def each_letter(reader: KafkaReader, topic: str) -> Iterator[tuple[int, DeadLetter]]:
    """Yield when each letter was first written, and the letter; repeats and what is none are left out."""
    seen: set[str] = set()
    for partition, (begin, end) in reader.offsets(topic).items():
        for message in reader.read_range(topic, partition, begin, end):
            try:
                letter = DeadLetter.from_kafka(message.headers, message.value)
            except RecordError:
                continue  # `list` tells of it
            if letter.id not in seen:
                seen.add(letter.id)
                yield message.timestamp_ms, letter
