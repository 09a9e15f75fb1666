"""What became of the flows: counted from the topics themselves, not from what workers say."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from connectors.dead_letters import DeadLetter
from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.topics import Topics
from connectors.wire import decode
from pipeline.errors import JournalError
from pipeline.messages import DetectionsHeaders
from pipeline.settings import Settings


@dataclass(slots=True)
class Account:
    """The verdicts and dead letters so far; repeats count once.

    A flow that `weir dead-letters redrive` brought back from the ingest or features stage counts twice,
    as the letter that it was and as the flow that it is: when nothing is on its way, *scored + dead =
    sent + redriven*. Letters of the detect stage stay the answer for their flows: redriving them gives
    alerts, and moves nothing here. Letters of the alerts stage hold flows that are scored, and count as
    no flow.
    """

    scored: dict[tuple[int, int], int] = field(default_factory=dict)  # (lane, flows offset) -> rows
    flagged: dict[str, int] = field(default_factory=dict)  # flow id -> event time, microseconds
    dead: dict[str, int] = field(default_factory=dict)  # id of a dead letter -> rows

    @property
    def n_scored(self) -> int:
        """Flows that have a verdict."""
        return sum(self.scored.values())

    @property
    def n_dead(self) -> int:
        """Flows that could not be read or judged."""
        return sum(self.dead.values())

    @property
    def n_accounted(self) -> int:
        """Flows that are scored or in the dead letters: all that were sent or redriven, at rest."""
        return self.n_scored + self.n_dead


class Accountant:
    """Reads the detections of the panel and the dead letters of an installation, each message once.

    Close it after use.
    """

    def __init__(self, settings: Settings) -> None:
        topics = Topics(settings.topics.prefix)
        self._detections = topics.detections(settings.panel.name)
        self._dead_letters = topics.dead_letters
        self._reader = KafkaReader(settings.kafka)
        self._next: dict[tuple[str, int], int] = {}
        self.account = Account()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()

    def update(self) -> Account:
        """Read what is new and return the account."""
        for topic in (self._detections, self._dead_letters):
            for partition, (begin, end) in self._reader.offsets(topic).items():
                start = max(begin, self._next.get((topic, partition), begin))
                for message in self._reader.read_range(topic, partition, start, end):
                    with suppress(RecordError, JournalError):  # a message of somebody else
                        self._take(message)
                self._next[topic, partition] = max(start, end)
        return self.account

    def _take(self, message: Message) -> None:
        if message.topic == self._dead_letters:
            self._dead(DeadLetter.from_kafka(message.headers, message.value))
        else:
            self._judged(message.partition, DetectionsHeaders.from_kafka(message.headers), message.value)

    def _dead(self, letter: DeadLetter) -> None:
        if letter.stage != "alerts":  # those flows are scored; only their alerts are missing
            self.account.dead[letter.id] = letter.rows

    def _judged(self, lane: int, headers: DetectionsHeaders, value: bytes | None) -> None:
        if headers.begins or (lane, headers.flows_offset) in self.account.scored:
            return
        self.account.scored[lane, headers.flows_offset] = headers.rows
        if headers.flagged:
            rows = decode(value)
            ids = rows.column("flow_id").to_pylist()
            times = rows.column("event_time").cast("int64").to_pylist()
            self.account.flagged.update(zip(ids, times, strict=True))
