"""What a lane remembers of its sources: how far each was read, so that a writer resumes there."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from connectors.errors import BrokerError, RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.wire import FlowsHeaders, decode, header_dict

HEADER = "weir-marks"
MAX_SOURCES = 64
"""Sources remembered in a lane; the one written longest ago is forgotten first."""

_LOOK_BACK = (1, 16, 64)
"""Messages read back, in steps, until one of our source turns up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How far a source has been written to a lane."""

    next: int  # every row of this lane before this position is in the log
    done: int  # every row of any lane, and every reject, before this position is in its log
    lane_map: str = ""  # LaneMap.id, where the writer was ours
    shift_us: int = 0  # added to the source's event times
    flushed: bool = True  # whether a flush message followed it, as far as is known


Marks = Mapping[str, Mark]
"""Source id -> mark, the latest written last."""


def encode_marks(marks: Marks) -> bytes:
    """Return the value of the header."""
    latest = list(marks.items())[-MAX_SOURCES:]
    return json.dumps({key: [m.next, m.done, m.lane_map, m.shift_us] for key, m in latest}).encode()


def decode_marks(text: bytes) -> dict[str, Mark]:
    """Read the header; what is no such header holds no marks."""
    try:
        return {
            str(key): Mark(next=int(n), done=int(done), lane_map=str(lane_map), shift_us=int(shift))
            for key, (n, done, lane_map, shift) in json.loads(text).items()
        }
    except (ValueError, TypeError, AttributeError):
        return {}


@dataclass(slots=True)
class Tail:
    """What the last messages of a lane say."""

    marks: dict[str, Mark] = field(default_factory=dict)
    clock_us: int = 0
    record: str = ""  # record type of the last message that stated one

    def add(self, message: Message) -> str:
        """Take in the next message and return the source that it came from."""
        try:
            headers = FlowsHeaders.from_kafka(message.headers)
        except RecordError:
            return ""  # not ours to judge: the features workers dead-letter it
        for source, mark in decode_marks(header_dict(message.headers).get(HEADER, b"")).items():
            self._note(source, mark)
        if headers.source:
            own = self.marks.pop(headers.source, Mark(next=0, done=0))
            self.marks[headers.source] = replace(own, next=max(own.next, headers.next), flushed=headers.flush)
        self.clock_us = max(self.clock_us, headers.clock_us or _latest(message))
        self.record = headers.record
        return headers.source

    def _note(self, source: str, mark: Mark) -> None:
        """Keep the mark that is further on: writers side by side carry old marks of each other."""
        known = self.marks.pop(source, mark)
        self.marks[source] = max(known, mark, key=lambda m: (m.next, m.done))


def _latest(message: Message) -> int:
    """Return the greatest event time in a message that does not state a clock."""
    try:
        times = decode(message.value).column("event_time").cast(pa.int64())
        return pc.max(times).as_py() or 0
    except (RecordError, KeyError, pa.ArrowException):
        return 0


def read_tail(reader: KafkaReader, topic: str, lane: int, source_id: str) -> Tail:
    """Return what the last messages of a lane say, read back far enough to find the source."""
    tail = Tail()
    for n in _LOOK_BACK:
        messages = reader.last_messages(topic, lane, n)
        tail = Tail()
        sources = [tail.add(message) for message in messages]
        if source_id in sources or len(messages) < n:
            break
    return tail


def known_sources(reader: KafkaReader, topic: str) -> frozenset[str]:
    """Return the ids of the sources that the lanes of a flows topic remember."""
    tails = (read_tail(reader, topic, lane, "") for lane in reader.partitions(topic))
    return frozenset(source for tail in tails for source in tail.marks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """Where a source goes on."""

    start: int  # first position to read
    below: Mapping[int, int]  # lane -> position before which its rows are in the log
    shift_us: int
    unflushed: frozenset[int]  # lanes whose last message of this source was no flush

    @property
    def resumed(self) -> bool:
        """Whether the source has been written before."""
        return bool(self.below)


def resume(tails: Mapping[int, Tail], source_id: str, lane_map: str) -> Resumption:
    """Return where a source goes on, from the tails of all lanes.

    A lane without a mark does not say that none of its rows were read: `done` does.

    Raises
    ------
    BrokerError
        If rows in doubt were mapped to lanes in another way.
    """
    own = {lane: tail.marks[source_id] for lane, tail in tails.items() if source_id in tail.marks}
    if not own:
        return Resumption(start=0, below={}, shift_us=0, unflushed=frozenset())
    done = max(mark.done for mark in own.values())
    everywhere = min(own[lane].next if lane in own else 0 for lane in tails)
    if any(mark.lane_map not in ("", lane_map) for mark in own.values()):
        _check_settled(own.values(), done)
    return Resumption(
        start=max(done, everywhere),
        below={lane: mark.next for lane, mark in own.items()},
        shift_us=max((mark.shift_us for mark in own.values()), key=abs),
        unflushed=frozenset(lane for lane, mark in own.items() if not mark.flushed),
    )


def _check_settled(own: Iterable[Mark], done: int) -> None:
    ahead = max(mark.next for mark in own)
    if ahead > done:
        raise BrokerError(
            f"this source was interrupted between positions {done} and {ahead} while its rows went to "
            "lanes in another way; set lane_by and sensor_lanes as they were, let it finish, then change them"
        )
