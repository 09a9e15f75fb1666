"""Flow records written to Kafka: batched by lane, in order, once, and resumable."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Self

import kafka.errors
import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import Chunk, Reject
from connectors.dead_letters import DeadLetter
from connectors.errors import BrokerError
from connectors.kafka_client import producer, sentence
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.lane_buffer import LaneBuffer, Packed
from connectors.lanes import LaneBy, LaneMap
from connectors.marks import HEADER, Mark, Tail, encode_marks, read_tail, resume
from connectors.records import RecordType
from connectors.topics import MAX_MESSAGE_BYTES, Topics
from connectors.wire import FlowsHeaders, encode

BEHIND_US = 60 * 1_000_000
"""A source that begins further behind a lane's clock would count as late altogether."""
MAX_VALUE_BYTES = MAX_MESSAGE_BYTES - 65_536
"""Room is left for the headers and for Kafka's own framing."""

_MAX_READY = 8  # encoded messages held back before the source has to wait
_MAX_LETTERS = 1000  # dead letters on their way before the source has to wait


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """How records are packed and where they go."""

    rows: int = 4000
    size_bytes: int = 1_000_000
    linger_s: float = 0.5
    idle_s: float = 5.0  # silence after which the lanes are flushed
    lane_by: LaneBy = "sensor"
    sensor_lanes: Mapping[str, int] = field(default_factory=dict)
    late_ok: bool = False  # rows may begin behind a lane's clock: for live sources, never for a replay


@dataclass(slots=True)
class _Lane:
    """One lane: rows being gathered, messages waiting, and at most one on its way.

    One only, because a message that fails for good must not be overtaken: the rows behind it would
    hide at the next start that it is missing.
    """

    buffer: LaneBuffer
    clock_us: int
    ready: deque[Packed] = field(default_factory=deque)
    flight: Any = None
    flying: Packed | None = None
    n_rows: int = 0  # in the log
    dirty: bool = False  # rows have gone to it since the last flush message
    entered: bool = False

    @property
    def oldest(self) -> int | None:
        """Return the position of the first row that is not in the log yet."""
        if self.flying is not None:
            return self.flying.first
        if self.ready:
            return self.ready[0].first
        return self.buffer.first if len(self.buffer) else None


class FlowsWriter:
    """Writes the records of one source to the lanes of the flows topic, its rejects to the dead letters.

    At least once in the log, in source order within a lane; when run again it goes on behind what its
    lanes hold, so that after any crash only rejects may be repeated, under their old ids. `write`
    returns before the rows are durable, `drain` and `finish` after.

    Parameters
    ----------
    settings : KafkaSettings
        Where the brokers are.
    topics : Topics
        Names; the flows and dead-letter topics must exist.
    source_id : str
        Identity of the source's content.
    record_type : RecordType
        What its rows are.
    options : WriterOptions
        Sizes, waits and lanes.
    clock : callable
        Monotonic seconds.

    Raises
    ------
    BrokerError
        From every method, if the broker is gone, a topic is missing or holds another record type, or
        the source begins behind a lane's clock. Nothing is lost: run again, and it goes on.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Topics,
        *,
        source_id: str,
        record_type: RecordType,
        options: WriterOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._topics = topics
        self._source = source_id
        self._record = record_type
        self._options = options or WriterOptions()
        self._clock = clock
        tails = self._read_tails()
        self._tails = tails
        self._lane_map = LaneMap(
            n_lanes=len(tails), lane_by=self._options.lane_by, sensor_lanes=self._options.sensor_lanes
        )
        self._from = resume(tails, source_id, self._lane_map.id)
        self._lanes = {lane: self._new_lane(lane, tail) for lane, tail in tails.items()}
        self._letters: deque[tuple[int, Any]] = deque()
        self._read = self._from.start
        self._last_row = clock()
        self._shift_us = self._from.shift_us
        self._acked = threading.Event()
        self.n_rejected = 0
        self.n_known = 0  # rows read again that their lane holds already
        self._producer: Any = producer(settings, max_request_size=MAX_MESSAGE_BYTES)

    def _read_tails(self) -> dict[int, Tail]:
        flows = self._topics.flows
        with KafkaReader(self._settings) as reader:
            reader.partitions(self._topics.dead_letters)
            tails = {lane: read_tail(reader, flows, lane, self._source) for lane in reader.partitions(flows)}
        for tail in tails.values():
            if tail.record not in ("", self._record.id):
                raise BrokerError(
                    f"topic {flows} carries {tail.record} and this source is {self._record.id}; "
                    "one prefix carries one record type: take another prefix"
                )
        return tails

    def _new_lane(self, lane: int, tail: Tail) -> _Lane:
        return _Lane(
            buffer=LaneBuffer(rows=self._options.rows, size_bytes=self._options.size_bytes),
            clock_us=tail.clock_us,
            dirty=lane in self._from.unflushed,
            entered=lane in self._from.below,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.drain()
        finally:
            self.close()

    @property
    def start(self) -> int:
        """Position from which the source must be read."""
        return self._from.start

    @property
    def resumed(self) -> bool:
        """Whether the lanes hold records of this source already."""
        return self._from.resumed

    @property
    def shift_us(self) -> int:
        """What this source's event times are shifted by, in this run as in those before."""
        return self._shift_us

    @property
    def rows_by_lane(self) -> dict[int, int]:
        """Rows that this run has brought into the log, by lane."""
        return {number: lane.n_rows for number, lane in self._lanes.items() if lane.n_rows}

    @property
    def done(self) -> int:
        """Position before which every row and every reject is in its log."""
        waiting = [lane.oldest for lane in self._lanes.values()]
        letters = [self._letters[0][0]] if self._letters else []
        return min([self._read, *letters, *(at for at in waiting if at is not None)])

    def rebase(self, first_us: int) -> int:
        """Return what to add to all event times so that a source from `first_us` goes on from the clock.

        A source that has begun keeps the shift that it began with.
        """
        if not self.resumed:
            clock_us = max(lane.clock_us for lane in self._lanes.values())
            self._shift_us = max(0, clock_us - first_us)
        return self._shift_us

    def write(self, chunk: Chunk) -> None:
        """Take over the records of a chunk, which must begin where the last one ended."""
        if chunk.first != self._read:
            raise BrokerError(
                f"the chunk begins at position {chunk.first}, expected {self._read}; "
                "read the source from FlowsWriter.start on, without gaps"
            )
        now = self._clock()
        for number, rows in self._lane_map.split(chunk.rows):
            self._add(number, rows, now)
        for reject in chunk.rejects:
            self._reject(reject)
        self._read = chunk.next
        self.tick()
        self._wait_while(lambda: self._n_ready > _MAX_READY or len(self._letters) > _MAX_LETTERS)

    def _add(self, number: int, rows: pa.RecordBatch, now: float) -> None:
        lane = self._lanes[number]
        known = self._from.below.get(number, 0)
        if rows.column("position")[0].as_py() < known:
            kept = rows.filter(pc.greater_equal(rows.column("position"), known))
            self.n_known += rows.num_rows - kept.num_rows
            rows = kept
        if rows.num_rows == 0:
            return
        if not lane.entered:
            self._check_clock(number, rows.column("event_time")[0].value)
            lane.entered = True
        lane.buffer.add(rows, now)
        lane.dirty = True
        self._last_row = now
        self._cut(lane, now)

    def _check_clock(self, number: int, first_us: int) -> None:
        behind_us = self._lanes[number].clock_us - first_us
        if behind_us > BEHIND_US and not self._options.late_ok:
            raise BrokerError(
                f"this source begins {behind_us / 1e6:.0f} s behind the clock of lane {number} of "
                f"{self._topics.flows}, where all of it would count as late; replay it under a prefix of "
                "its own, or with --rebase, which shifts its times to go on from that clock"
            )

    def _cut(self, lane: _Lane, now: float, *, everything: bool = False) -> None:
        for packed in lane.buffer.take(now, everything=everything):
            lane.clock_us = max(lane.clock_us, packed.latest_us)
            message = replace(packed, latest_us=lane.clock_us)
            if len(packed.value) > MAX_VALUE_BYTES:
                detail = f"the row takes {len(packed.value)} bytes, expected at most {MAX_VALUE_BYTES}"
                self._reject(
                    Reject(position=packed.first, raw=packed.value, reason="too_large", detail=detail)
                )
            else:
                lane.ready.append(message)

    def _reject(self, reject: Reject) -> None:
        letter = DeadLetter.from_reject(reject, self._source)
        future = self._send(
            self._topics.dead_letters, letter.value, letter.to_kafka(), key=letter.id.encode()
        )
        self._letters.append((reject.position, future))

    def tick(self) -> None:
        """Send what has waited for `linger_s`, and flush the lanes when the source is idle.

        To be called a few times a second while no rows come.
        """
        now = self._clock()
        for lane in self._lanes.values():
            if len(lane.buffer) and now - lane.buffer.since >= self._options.linger_s:
                self._cut(lane, now, everything=True)
        self._pump()
        if now - self._last_row >= self._options.idle_s and any(x.dirty for x in self._lanes.values()):
            self.finish()

    def drain(self) -> None:
        """Return when every row and reject that was written is durable."""
        now = self._clock()
        for lane in self._lanes.values():
            self._cut(lane, now, everything=True)
        self._pump()
        self._wait_while(lambda: self._busy or bool(self._letters))

    def finish(self) -> None:
        """Make everything durable and write a flush message to each lane with rows of this source."""
        self.drain()
        empty, at = encode(_no_rows(self._record)), self._read
        for lane in self._lanes.values():
            if lane.dirty:
                lane.ready.append(Packed(value=empty, rows=0, first=at, next=at, latest_us=lane.clock_us))
                lane.dirty = False
        self.drain()

    @property
    def _n_ready(self) -> int:
        return sum(len(lane.ready) for lane in self._lanes.values())

    @property
    def _busy(self) -> bool:
        return any(lane.ready or lane.flying for lane in self._lanes.values())

    def _pump(self) -> None:
        """Take in what has been acknowledged and send what may go next."""
        while self._letters and self._letters[0][1].is_done:
            self._check(self._letters.popleft()[1], self._topics.dead_letters)
            self.n_rejected += 1
        for number, lane in self._lanes.items():
            if lane.flying is not None and lane.flight.is_done:
                self._check(lane.flight, f"{self._topics.flows}/{number}")
                lane.n_rows += lane.flying.rows
                lane.flying = None
            if lane.flying is None and lane.ready:
                self._send_next(number, lane)

    def _send_next(self, number: int, lane: _Lane) -> None:
        packed = lane.ready[0]
        headers = FlowsHeaders(
            record=self._record.id,
            rows=packed.rows,
            source=self._source,
            first=packed.first,
            next=packed.next,
            clock_us=packed.latest_us,
            flush=packed.rows == 0,
        ).to_kafka()
        mark = Mark(next=packed.next, done=self.done, lane_map=self._lane_map.id, shift_us=self._shift_us)
        marks = self._tails[number].marks
        marks.pop(self._source, None)
        marks[self._source] = mark
        headers.append((HEADER, encode_marks(marks)))
        lane.flight = self._send(self._topics.flows, packed.value, headers, partition=number)
        lane.flying = lane.ready.popleft()

    def _send(self, topic: str, value: bytes, headers: list[tuple[str, bytes]], **where: Any) -> Any:
        try:
            future = self._producer.send(topic, value, headers=headers, **where)
        except kafka.errors.KafkaError as error:
            raise self._gone(topic, error) from error
        future.add_both(lambda _: self._acked.set())
        return future

    def _check(self, future: Any, where: str) -> None:
        if future.failed():
            raise self._gone(where, future.exception) from future.exception

    def _gone(self, where: str, error: BaseException) -> BrokerError:
        return BrokerError(
            f"{sentence(self._settings, f'write to {where}', error)}; "
            f"what was written is safe up to position {self.done}: run again to go on from there"
        )

    def _wait_while(self, busy: Callable[[], bool]) -> None:
        while busy():
            self._acked.wait(0.1)
            self._acked.clear()
            self._pump()

    def close(self) -> None:
        """End the connection; what has not been drained stays with the source."""
        with suppress(kafka.errors.KafkaError):
            if self._busy or self._letters:
                # close(timeout=0) flushes first, and raises before it ends its thread, which
                # would go on sending beside the writer that resumes.
                self._producer._sender.force_close()  # noqa: SLF001
            self._producer.close(timeout=5)


def _no_rows(record: RecordType) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], schema=record.schema)
