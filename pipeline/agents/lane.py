"""What an agent of any stage carries: a lane takes messages in order and says what to publish."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from connectors.kafka_reader import KafkaReader, Message
from connectors.wire import Headers
from pipeline.drift import Closed
from pipeline.watch_metrics import Watched

MACHINE_FAULTS = (OSError, MemoryError)
"""Not the message's doing, even in pure code (a kernel that cannot be cached on a full disk): they must
end the process, not make a dead letter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Out:
    """A message to publish."""

    topic: str
    value: bytes
    headers: Headers
    partition: int | None = None  # None: by key
    key: bytes | None = None


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one step did, for the metrics."""

    rows: int = 0
    late: int = 0
    late_us: int = 0  # of the latest row, behind the lane clock
    capped: int = 0
    repeated: int = 0
    flagged: int = 0
    grouped: int = 0  # flagged flows that a summary alone will tell of
    clock_us: int = 0
    histogram: tuple[int, ...] = ()  # of -log10(p)
    by_model: tuple[int, ...] = ()  # rows that each model alone would flag, in the role's order
    dead: dict[str, int] = field(default_factory=dict)  # reason -> rows
    severities: dict[str, int] = field(default_factory=dict)  # severity -> alerts
    suppressed: dict[str, int] = field(default_factory=dict)  # label of the reason -> flagged flows
    lane: int = -1  # whose last hour this is
    last_hour: tuple[int, int] = (0, 0)  # rows and flagged rows of it, on the lane clock
    closed: tuple[Closed, ...] = ()  # windows that ended in this step


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """All that one input message gives: durable before its offset moves."""

    outs: tuple[Out, ...] = ()
    tally: Tally = field(default_factory=Tally)
    broken: bool = False  # the lane's state may be half changed: rebuild it before the next message


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A lane rebuilt from its journal, and where its input is to be read again from."""

    lane: "Lane"
    start: int  # input offset to read from, to warm state and to catch up
    incidents: tuple["Incident", ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Something was lost before we could read it: reported, never silent."""

    kind: str  # lane_state_lost, offsets_lost
    detail: str
    offsets: int = 0  # how many were lost


def lost(topic: str, partition: int, first: int, begin: int) -> Incident:
    """Return the incident of offsets that the log no longer had when they were wanted."""
    detail = f"{topic}/{partition}: offsets {first} to {begin - 1} left the log before they were read"
    return Incident(kind="offsets_lost", detail=detail, offsets=begin - first)


class Lane(Protocol):
    """One partition's state. Everything it decides follows from the log alone."""

    done: int
    """Input offset of the last message whose output is published: up to here messages only warm."""

    def warm(self, message: Message) -> None:
        """Take `message` into the state again, without publishing."""
        ...

    def process(self, message: Message) -> Step:
        """Take `message` into the state and return what to publish; never raises for bad data."""
        ...

    def refuse(self, message: Message, reason: str, detail: str) -> Step:
        """Dead-letter `message` whole, leaving the state as if it had held nothing."""
        ...


class Role(Protocol):
    """One stage of the stream: which topic it reads and how its lanes come back after a restart."""

    name: str
    input_topic: str
    group: str
    flows: str  # topic that the whole stream begins with
    lane_topics: tuple[str, ...]  # with one partition a lane: input and journal
    journals: tuple[str, ...]  # must be kept as long as the flows
    topics_used: tuple[str, ...]
    models: Sequence[Mapping[str, str]]  # name, version, sha256 and detector of each, for the metrics
    watched: Watched | None  # what the metrics of the watch are about; None: nothing is watched here

    def first_marks(self, reader: KafkaReader) -> list[Out]:
        """Return what fixes where this stage begins, for the lanes that it has never read."""
        ...

    def restore(self, reader: KafkaReader, partition: int, upto: int) -> Restored:
        """Rebuild the lane for the input message at `upto`, which comes next; may block."""
        ...

    def try_out(self, message: Message) -> None:
        """Do all that could kill the process on `message`, with a fresh state (in a child)."""
        ...
