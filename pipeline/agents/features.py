"""The features stage: flows in, the numbers that the models see out."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.records import Checked
from connectors.topics import Topics
from connectors.wire import FlowsHeaders, decode, encode
from pipeline.agents.journal import journal_tail
from pipeline.agents.lane import MACHINE_FAULTS, Incident, Out, Restored, Step, Tally, lost
from pipeline.agents.letters import letter_out, row_letter, whole_letter
from pipeline.agents.packing import packed
from pipeline.errors import JournalError
from pipeline.features.base import FeatureSet
from pipeline.features.lane import LaneFeatures
from pipeline.features.windows import LowMark
from pipeline.messages import FeaturesHeaders, Low
from pipeline.watch_metrics import Watched

STAGE = "features"

MARKS = 64
"""Sources whose positions a lane remembers; the one silent for longest is forgotten first."""


Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer(Generic[Value]):
    """What the windows make of one flows message."""

    headers: FeaturesHeaders
    value: Value
    letters: tuple[Out, ...]
    tally: Tally
    broken: bool = False  # the windows have seen what they should not have: rebuild them


@dataclass(frozen=True, slots=True)
class _Before:
    """The lane as it was before a flows message."""

    low: Low
    marks: dict[str, int]


class FlowsLane(Generic[Value]):
    """The windows of one lane: an answer for each flows message, in order.

    Parameters
    ----------
    role : FeaturesRole
        What to compute.
    partition : int
        The lane.
    finish : callable
        Makes the value of an answer from the features; may raise `RecordError`, which sets the
        message aside.
    done : int
        Flows offset of the last message that has its answer.
    journal : FeaturesHeaders, optional
        Of that answer: from where the windows can be rebuilt that are open after it.
    """

    def __init__(
        self,
        role: "FeaturesRole",
        finish: Callable[[pa.RecordBatch], Value],
        *,
        done: int = -1,
        journal: FeaturesHeaders | None = None,
    ) -> None:
        low = journal.low if journal else Low(offset=done + 1, clock_us=0, seq=0)
        self._resume = _Before(low, dict(journal.marks) if journal else {})
        self._role = role
        self._finish = finish
        self._features = LaneFeatures(role.feature_set, clock_us=low.clock_us, seq=low.seq)
        self._marks = dict(self._resume.marks)
        self._skipped = list(journal.skipped) if journal else []
        self._open = LowMark[_Before]()

    def warm(self, message: Message) -> None:
        """Take a message that has its answer into the windows again."""
        if message.offset not in self._skipped:
            with suppress(RecordError):  # it is in the dead letters, and took no place in the windows
                self._take(message, Tally())

    def answer(self, message: Message) -> Answer[Value]:
        """Return the features of a flows message, and the dead letters of its bad rows."""
        clock_us = self._features.clock_us
        tally = Tally()
        try:
            flush, rows, letters = self._take(message, tally)
        except RecordError as error:
            return self._whole(message, error.reason, error.detail)
        except MACHINE_FAULTS:
            raise
        except Exception as error:  # noqa: BLE001 - pure code: it would fail the same way for ever
            return self._undone(message, "failed", f"{type(error).__name__}: {error}", clock_us)
        try:
            value = self._finish(rows)
        except RecordError as error:
            return self._undone(message, error.reason, error.detail, clock_us)
        self._settle()
        headers = self._headers(
            message,
            clock_us,
            n_rows=rows.num_rows,
            dead=sum(tally.dead.values()),
            repeated=tally.repeated,
            flush=flush,
        )
        return Answer(headers=headers, value=value, letters=letters, tally=tally)

    def refuse(self, message: Message, reason: str, detail: str) -> Answer[Value]:
        """Dead-letter a message whole; the windows never see it, now or after a restart."""
        self._skipped.append(message.offset)
        return self._whole(message, reason, detail)

    def _take(self, message: Message, tally: Tally) -> tuple[bool, pa.RecordBatch, tuple[Out, ...]]:
        """Return whether it is a flush, the features and the dead letters; the windows have moved on."""
        headers = FlowsHeaders.from_kafka(message.headers)
        if headers.flush:
            return True, self._role.no_rows, ()
        batch = self._role.read(message, headers)
        kept = self._fresh(batch, headers)
        tally.repeated = batch.num_rows - kept.size
        fresh = batch if not tally.repeated else batch.take(pa.array(kept))
        checked = self._role.feature_set.check(fresh)
        rows = self._enter(message, checked.rows, tally)
        if headers.source:
            self._mark(headers.source, headers.next)
        return False, rows, self._row_letters(message, batch, checked, kept, tally)

    def _enter(self, message: Message, rows: pa.RecordBatch, tally: Tally) -> pa.RecordBatch:
        """Return the features of good rows, remembering where the lane stood before them."""
        lane = self._features
        low = Low(offset=message.offset, clock_us=lane.clock_us, seq=lane.seq)
        n_late, n_capped = lane.n_late, lane.n_capped
        features = lane.process(rows)
        tally.rows, tally.clock_us, tally.late_us = rows.num_rows, lane.clock_us, lane.late_us
        tally.late, tally.capped = lane.n_late - n_late, lane.n_capped - n_capped
        self._open.append(low.seq, _Before(low, dict(self._marks)))
        return features

    def _settle(self) -> None:
        """Move the place to resume from: the message in work has its answer, and stays in the windows."""
        if self._features.seq > self._resume.low.seq:
            self._resume = self._open.low(self._features.oldest_seq)
            first = self._resume.low.offset
            self._skipped = [offset for offset in self._skipped if offset >= first]

    def _fresh(self, batch: pa.RecordBatch, headers: FlowsHeaders) -> npt.NDArray[np.int64]:
        """Return the indices of rows that lie at or above the source's high-water mark."""
        everything = np.arange(batch.num_rows, dtype=np.int64)
        mark = self._marks.get(headers.source, 0) if headers.source else 0
        if headers.first >= mark:
            return everything
        if headers.next <= mark:
            return everything[:0]
        positions = self._role.positions(batch)
        return everything if positions is None else everything[positions >= mark]

    def _mark(self, source: str, position: int) -> None:
        position = max(position, self._marks.pop(source, 0))
        self._marks[source] = position  # last in the dict: most recently heard of
        while len(self._marks) > MARKS:
            del self._marks[next(iter(self._marks))]

    def _headers(
        self,
        message: Message,
        clock_us: int,
        *,
        n_rows: int = 0,
        dead: int = 0,
        repeated: int = 0,
        flush: bool = False,
        clock_end_us: int | None = None,
    ) -> FeaturesHeaders:
        return FeaturesHeaders(
            feature_set=self._role.feature_set.id,
            rows=n_rows,
            flows_offset=message.offset,
            clock_us=clock_us,
            clock_end_us=self._features.clock_us if clock_end_us is None else clock_end_us,
            low=self._resume.low,
            marks=self._resume.marks,
            dead=dead,
            repeated=repeated,
            skipped=tuple(self._skipped),
            flush=flush,
        )

    def _undone(self, message: Message, reason: str, detail: str, clock_us: int) -> Answer[Value]:
        """Dead-letter a message that the windows have seen, in part at least: they must be rebuilt."""
        self._skipped.append(message.offset)
        return replace(self._whole(message, reason, detail, clock_us=clock_us), broken=True)

    def _whole(
        self, message: Message, reason: str, detail: str, *, clock_us: int | None = None
    ) -> Answer[Value]:
        """Return a dead letter and an empty answer; the state, and so `low`, stay what they were."""
        clock_us = self._features.clock_us if clock_us is None else clock_us
        letter = whole_letter(message, STAGE, reason, detail)
        return Answer(
            headers=self._headers(message, clock_us, dead=letter.rows, clock_end_us=clock_us),
            value=self._finish(self._role.no_rows),
            letters=(letter_out(letter, self._role.topics),),
            tally=Tally(dead={reason: letter.rows}, clock_us=clock_us),
        )

    def _row_letters(
        self,
        message: Message,
        batch: pa.RecordBatch,
        checked: Checked,
        kept: npt.NDArray[np.int64],
        tally: Tally,
    ) -> tuple[Out, ...]:
        tally.dead = dict(Counter(bad.reason for bad in checked.bad))
        topics = self._role.topics
        return tuple(
            letter_out(row_letter(message, STAGE, batch, int(kept[bad.index]), bad), topics)
            for bad in checked.bad
        )


class FeaturesLane:
    """A lane whose answers are features messages.

    Its journal is the lane's partition of the features topic: one message for each flows message.
    """

    def __init__(
        self, role: "FeaturesRole", partition: int, *, done: int = -1, journal: FeaturesHeaders | None = None
    ) -> None:
        self.done = done
        self._role = role
        self._partition = partition
        self._flows = FlowsLane(role, self._packed, done=done, journal=journal)

    def warm(self, message: Message) -> None:
        """Take a message whose features are already published into the windows again."""
        self._flows.warm(message)

    def process(self, message: Message) -> Step:
        """Return the features message of a flows message, and the dead letters of its bad rows."""
        return self._step(self._flows.answer(message))

    def refuse(self, message: Message, reason: str, detail: str) -> Step:
        """Dead-letter a message whole; the windows never see it, now or after a restart."""
        return self._step(self._flows.refuse(message, reason, detail))

    def _packed(self, rows: pa.RecordBatch) -> bytes:
        return packed(rows) if rows.num_rows else self._role.no_rows_value

    def _step(self, answer: Answer[bytes]) -> Step:
        out = Out(
            topic=self._role.output_topic,
            partition=self._partition,
            value=answer.value,
            headers=answer.headers.to_kafka(),
        )
        return Step(outs=(*answer.letters, out), tally=answer.tally, broken=answer.broken)


class FeaturesRole:
    """The features stage over one feature set."""

    name = STAGE
    models: Sequence[Mapping[str, str]] = ()
    watched: Watched | None = None

    def __init__(self, feature_set: FeatureSet, topics: Topics, *, max_rows: int) -> None:
        self.feature_set = feature_set
        self.topics = topics
        self.input_topic = topics.flows
        self.output_topic = topics.features(feature_set.name)
        self.group = f"{topics.prefix}-features-{feature_set.name}"
        self.flows = topics.flows
        self.journals: tuple[str, ...] = (self.output_topic,)
        self.lane_topics: tuple[str, ...] = (self.input_topic, self.output_topic)
        self.topics_used: tuple[str, ...] = (*self.lane_topics, topics.dead_letters)
        self.no_rows = pa.RecordBatch.from_pylist([], schema=feature_set.schema)
        self.no_rows_value = encode(self.no_rows)
        self._max_rows = max_rows

    def first_marks(self, reader: KafkaReader) -> list[Out]:  # noqa: ARG002 the protocol's name
        """Return nothing: this stage begins with the log."""
        return []

    def restore(self, reader: KafkaReader, partition: int, upto: int) -> Restored:
        """Rebuild a lane from the last message of its journal."""
        tail = journal_tail(reader, self.output_topic, partition, FeaturesHeaders.from_kafka)
        # Asked for after the journal: a zombie may go on meanwhile, answering what comes now.
        begin, end = reader.offsets(self.input_topic)[partition]
        if not tail:
            return self._without_journal(partition, begin, upto)
        journal = max((headers for _, headers in tail), key=lambda headers: headers.flows_offset)
        self.agree(journal, self.output_topic, partition, end)
        lane = FeaturesLane(self, partition, done=journal.flows_offset, journal=journal)
        start = max(begin, journal.low.offset)
        return Restored(lane=lane, start=start, incidents=self.gaps(journal, partition, begin))

    def gaps(self, journal: FeaturesHeaders, partition: int, begin: int) -> tuple[Incident, ...]:
        """Return what of the flows after `journal`, or of its windows, the log no longer has."""
        if journal.flows_offset + 1 < begin:
            return (lost(self.input_topic, partition, journal.flows_offset + 1, begin),)
        if journal.low.offset < begin:
            where = f"{self.input_topic}/{partition}"
            detail = f"{where}: windows begin at offset {journal.low.offset}, the log only at {begin}"
            return (Incident(kind="lane_state_lost", detail=detail),)
        return ()

    def _without_journal(self, partition: int, begin: int, upto: int) -> Restored:
        """Begin at the log's start: nothing of this lane is known."""
        incidents: tuple[Incident, ...] = ()
        if upto > begin:
            detail = (
                f"{self.output_topic}/{partition} is empty but {self.input_topic}/{partition} was read up to "
                f"{upto}; windows and features are made again from offset {begin}"
            )
            incidents = (Incident(kind="lane_state_lost", detail=detail),)
        return Restored(lane=FeaturesLane(self, partition, done=begin - 1), start=begin, incidents=incidents)

    def agree(self, journal: FeaturesHeaders, topic: str, partition: int, end: int) -> None:
        """Refuse a journal, in `topic`, that contradicts this program or the flows, which end at `end`.

        Raises
        ------
        JournalError
            Saying what to do.
        """
        if journal.feature_set != self.feature_set.id:
            raise JournalError(
                f"{topic}/{partition} was written with feature set {journal.feature_set}, this worker has "
                f"{self.feature_set.id}; use another topics.prefix, or delete {topic} to have it made again"
            )
        if journal.flows_offset >= end:
            raise JournalError(
                f"{topic}/{partition} answers flows offset {journal.flows_offset}, but "
                f"{self.input_topic}/{partition} ends at {end}: the flows topic was created anew; delete the "
                "features and detections topics of this prefix as well, or use another prefix"
            )

    def try_out(self, message: Message) -> None:
        """Make the features of `message` with empty windows."""
        FeaturesLane(self, message.partition).process(message)

    def read(self, message: Message, headers: FlowsHeaders) -> pa.RecordBatch:
        """Return the rows of a flows message.

        Raises
        ------
        RecordError
            If it is of another record type, no Arrow, or too large.
        """
        expected = self.feature_set.record_type.id
        if headers.record != expected:
            detail = f"records of type {headers.record!r} on {message.topic}, expected {expected}"
            raise RecordError("other_record_type", detail)
        batch = decode(message.value)
        if batch.num_rows > self._max_rows:
            detail = (
                f"the message holds {batch.num_rows} rows, at most {self._max_rows} are taken; "
                "write smaller messages or raise features.max_message_rows"
            )
            raise RecordError("too_many_rows", detail)
        return batch

    @staticmethod
    def positions(batch: pa.RecordBatch) -> npt.NDArray[np.int64] | None:
        """Return the source positions of the rows, or None if they are not all there."""
        index = batch.schema.get_field_index("position")
        if index < 0 or batch.column(index).null_count or batch.column(index).type != pa.int64():
            return None
        found: npt.NDArray[np.int64] = batch.column(index).to_numpy()
        return found
