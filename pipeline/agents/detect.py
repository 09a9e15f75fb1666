"""The detect stage: features in, verdicts out."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.topics import Topics
from connectors.wire import decode, encode
from pipeline.agents.bucket import READ_BACK, told_so_far
from pipeline.agents.journal import journal_tail, newest_first
from pipeline.agents.lane import MACHINE_FAULTS, Incident, Out, Restored, Role, Step, Tally, lost
from pipeline.agents.letters import letter_out, whole_letter
from pipeline.agents.packing import packed
from pipeline.drift import drifts_text
from pipeline.errors import FeatureSetError, JournalError
from pipeline.features.base import FeatureSet
from pipeline.history import Past
from pipeline.judge import Judge, Verdict
from pipeline.messages import DetectionsHeaders, FeaturesHeaders
from pipeline.told import Told
from pipeline.verdict import FLAGGED
from pipeline.watch import Watch
from pipeline.watch_metrics import Watched

STAGE = "detect"

NO_FLAGGED = encode(pa.RecordBatch.from_pylist([], schema=FLAGGED))
"""The body of a detections message without flagged rows."""

NO_FEATURES = -1
"""`input_offset` of a verdict that was made from flows directly: no features message has it."""


Entry = tuple[Message, DetectionsHeaders]
"""A message of a lane's journal, and its headers read."""


@dataclass(frozen=True, slots=True)
class State:
    """What a lane's next verdict depends on beside its message and the rows looked back on."""

    told: Told | None
    watch: Watch


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict on some features, and the message that carries it."""

    verdict: Verdict
    value: bytes
    state: State  # of the lane, this verdict included

    def tally(self, headers: FeaturesHeaders, lane: int) -> Tally:
        """Return what the metrics count."""
        return Tally(
            rows=self.verdict.n_scored,
            flagged=self.verdict.flagged.num_rows,
            histogram=self.verdict.histogram,
            by_model=self.verdict.by_model,
            clock_us=headers.clock_end_us,
            lane=lane,
            last_hour=self.state.watch.last_hour,
            closed=self.verdict.closed,
        )


class DetectLane:
    """The verdicts of one lane.

    Its state is how far it has come, which groups it has explained, what it has watched, and the rows that
    its panel may look back on: of those that have had a verdict the last ones, of the lane or of each source.

    A features message is answered once for each flows offset; repeats of a dead worker or a zombie
    are skipped.
    """

    def __init__(
        self,
        role: "DetectRole",
        partition: int,
        *,
        done: int,
        answered: int,
        state: State | None = None,
        past: Past | None = None,
    ) -> None:
        self.done = done
        self._role = role
        self._partition = partition
        self._answered = answered  # greatest flows offset that has its verdict
        self._state = state or role.nothing_seen()
        self._past = past

    def warm(self, message: Message) -> None:
        """Do nothing: all that a verdict depends on beside its message is read when the lane is restored."""

    def process(self, message: Message) -> Step:
        """Return the detections message of a features message."""
        try:
            headers = FeaturesHeaders.from_kafka(message.headers)
        except JournalError as error:
            # Not written by a features worker: no flows message answers to it, so no journal entry.
            letter = whole_letter(
                message, STAGE, "not_features", str(error), panel=self._role.judge.panel.name
            )
            outs = (letter_out(letter, self._role.topics),)
            return Step(outs=outs, tally=Tally(dead={"not_features": letter.rows}))
        if headers.flows_offset <= self._answered:
            return Step()
        return self._answer(message, headers)

    def _answer(self, message: Message, headers: FeaturesHeaders) -> Step:
        self._role.agree(headers)
        try:
            rows = decode(message.value) if headers.rows else self._role.no_rows
            ruling = self._role.rule(rows, headers, self._state, self._past)
        except RecordError as error:
            return self._refuse(message, headers, error.reason, error.detail)
        except MACHINE_FAULTS:
            raise
        except Exception as error:  # noqa: BLE001 - pure code: it would fail the same way for ever
            return self._refuse(message, headers, "failed", f"{type(error).__name__}: {error}")
        self._answered, self._state = headers.flows_offset, ruling.state
        self._past = self._role.judge.depth.past(self._past, rows)
        tally = ruling.tally(headers, self._partition)
        return Step(outs=(self._out(message, headers, ruling),), tally=tally)

    def refuse(self, message: Message, reason: str, detail: str) -> Step:
        """Dead-letter a features message whole and answer with no rows."""
        return self._refuse(message, FeaturesHeaders.from_kafka(message.headers), reason, detail)

    def _refuse(self, message: Message, headers: FeaturesHeaders, reason: str, detail: str) -> Step:
        letter = whole_letter(message, STAGE, reason, detail, panel=self._role.judge.panel.name)
        ruling = self._role.rule(self._role.no_rows, headers, self._state)
        self._answered, self._state = headers.flows_offset, ruling.state
        out = self._out(message, headers, ruling, dead=letter.rows)
        outs = (letter_out(letter, self._role.topics), out)
        return Step(outs=outs, tally=Tally(dead={reason: letter.rows}, clock_us=headers.clock_end_us))

    def _out(self, message: Message, headers: FeaturesHeaders, ruling: Ruling, dead: int = 0) -> Out:
        answer = self._role.headers(headers, ruling, input_offset=message.offset, dead=dead)
        return Out(
            topic=self._role.output_topic,
            partition=self._partition,
            value=ruling.value,
            headers=answer.to_kafka(),
        )


class DetectRole:
    """The detect stage with one panel of models."""

    name = STAGE

    def __init__(
        self,
        feature_set: FeatureSet,
        judge: Judge,
        topics: Topics,
        *,
        begin: Literal["latest", "earliest"] = "latest",
    ) -> None:
        self.judge = judge
        self.topics = topics
        self.card = judge.panel.card()
        self.models: Sequence[Mapping[str, str]] = self.card["models"]
        self.watched: Watched | None = judge.watcher.watched
        self.input_topic = topics.features(feature_set.name)
        self.output_topic = topics.detections(judge.panel.name)
        self.group = f"{topics.prefix}-detect-{judge.panel.name}"
        self.flows = topics.flows
        self.journals: tuple[str, ...] = (self.input_topic, self.output_topic)
        self.lane_topics: tuple[str, ...] = (self.input_topic, self.output_topic)
        self.topics_used: tuple[str, ...] = (*self.lane_topics, topics.dead_letters)
        self.no_rows = pa.RecordBatch.from_pylist([], schema=feature_set.schema)
        self._feature_set = feature_set
        self.begin = begin

    def rule(
        self,
        rows: pa.RecordBatch,
        headers: FeaturesHeaders,
        state: State,
        before: Past | None = None,
    ) -> Ruling:
        """Return the verdict on the features of one message, behind what the lane has seen and held.

        Raises
        ------
        RecordError
            If the flagged rows do not fit a message.
        """
        verdict = self.judge.judge(rows, headers.clock_us, state.told, before, state.watch)
        told = verdict.told and verdict.told.closed(headers.clock_end_us, flush=headers.flush)
        return Ruling(verdict, packed(verdict.flagged), State(told, verdict.watch or state.watch))

    def headers(
        self, headers: FeaturesHeaders, ruling: Ruling, *, input_offset: int, dead: int
    ) -> DetectionsHeaders:
        """Return what a detections message says of itself; `dead` rows have died at this stage."""
        verdict = ruling.verdict
        drifts = [closed.drift for closed in verdict.closed if closed.drift]
        return DetectionsHeaders(
            panel=self.card,
            rows=verdict.n_scored,
            flagged=verdict.flagged.num_rows,
            input_offset=input_offset,
            flows_offset=headers.flows_offset,
            clock_us=headers.clock_us,
            clock_end_us=headers.clock_end_us,
            histogram=verdict.histogram,
            dead=headers.dead + dead,
            flush=headers.flush,
            watch=self.judge.watcher.written(ruling.state.watch),
            drift=drifts_text(drifts),
        )

    def nothing_seen(self) -> State:
        """Return what a lane has seen at its beginning."""
        return State(self.judge.nothing_told(), self.judge.watcher.fresh)

    def agree(self, headers: FeaturesHeaders) -> None:
        """Refuse features of another set: the models would read other columns.

        Raises
        ------
        FeatureSetError
            Naming both; the offset stays where it is.
        """
        if headers.feature_set != self._feature_set.id:
            raise FeatureSetError(
                f"{self.input_topic} carries feature set {headers.feature_set}, the models of panel "
                f"{self.card['name']} were trained on {self._feature_set.id}; deploy models of the set that "
                "the features workers run, or upgrade those"
            )

    def first_marks(self, reader: KafkaReader) -> list[Out]:
        """Return the empty first message of each lane that this panel has never read.

        It fixes where the panel begins, whatever happens before its first verdict.
        """
        inputs = reader.offsets(self.input_topic)
        fresh = fresh_lanes(reader, self)
        return [self._first_mark(reader, partition, *inputs[partition]) for partition in fresh]

    def _first_mark(self, reader: KafkaReader, partition: int, begin: int, end: int) -> Out:
        input_offset, flows_offset, clock_us = begin - 1, -1, 0
        if self.begin == "latest" and end > begin:
            input_offset = end - 1
            tail = journal_tail(reader, self.input_topic, partition, FeaturesHeaders.from_kafka)
            if tail:
                flows_offset, clock_us = max((last.flows_offset, last.clock_end_us) for _, last in tail)
        mark = DetectionsHeaders(
            panel=self.card,
            rows=0,
            flagged=0,
            input_offset=input_offset,
            flows_offset=flows_offset,
            clock_us=clock_us,
            clock_end_us=clock_us,
            begins=True,
        )
        return Out(topic=self.output_topic, partition=partition, value=NO_FLAGGED, headers=mark.to_kafka())

    def restore(self, reader: KafkaReader, partition: int, upto: int) -> Restored:
        """Go on behind the last message of the lane's journal."""
        found = furthest(journal_tail(reader, self.output_topic, partition, DetectionsHeaders.from_kafka))
        # Asked for after the journal: a zombie may go on meanwhile, answering what comes now.
        begin, end = reader.offsets(self.input_topic)[partition]
        if found is None:
            return self._without_journal(partition, begin, upto)
        at, journal = found
        if journal.input_offset >= end:
            raise JournalError(
                f"{self.output_topic}/{partition} answers offset {journal.input_offset} of "
                f"{self.input_topic}/{partition}, which ends at {end}: the features topic was created anew; "
                "delete the detections topic as well, or use another prefix or panel name"
            )
        done = journal.input_offset
        is_gap = done + 1 < begin and done != NO_FEATURES
        incidents = (lost(self.input_topic, partition, done + 1, begin),) if is_gap else ()
        state = self.seen(reader, at, journal)
        past = self._past(reader, at)
        lane = DetectLane(self, partition, done=done, answered=journal.flows_offset, state=state, past=past)
        return Restored(lane=lane, start=max(begin, done + 1), incidents=incidents)

    def seen(self, reader: KafkaReader, at: Message, journal: DetectionsHeaders) -> State:
        """Return what a lane's verdicts up to `at` have told in the bucket open then, and its watch."""
        told = told_so_far(reader, at, self.judge.nothing_told())
        return State(told, self.judge.watcher.read(journal.watch))

    def _past(self, reader: KafkaReader, at: Message) -> Past | None:
        """Return what a lane keeps of its rows with a verdict up to `at`, for its panel to look back on."""
        missing, offsets = self.judge.depth.rows, list[int]()
        for entry in self._newest_answers(reader, at):
            if missing <= 0:
                break
            if entry.rows and entry.input_offset != NO_FEATURES:
                offsets.append(entry.input_offset)
                missing -= entry.rows
        if not offsets:
            return None
        found = self._bodies(reader, at.partition, offsets)
        rows = [decode(found[offset]) for offset in reversed(offsets) if offset in found]
        return self.judge.depth.past(None, pa.concat_batches(rows)) if rows else None

    def _bodies(self, reader: KafkaReader, partition: int, offsets: Sequence[int]) -> dict[int, bytes]:
        """Return the features messages at some offsets, read at one go; what has left the log is left out."""
        wanted = set(offsets)
        messages = reader.read_range(self.input_topic, partition, min(wanted), max(wanted) + 1)
        return {message.offset: message.value or b"" for message in messages if message.offset in wanted}

    def _newest_answers(self, reader: KafkaReader, at: Message) -> Iterator[DetectionsHeaders]:
        """Yield the answers of a lane's journal from `at` back, without repeats of dead workers."""
        begin, _ = reader.offsets(at.topic)[at.partition]
        lowest = sys.maxsize
        for message in newest_first(reader, at.topic, at.partition, begin, at.offset + 1, block=READ_BACK):
            with suppress(JournalError):
                entry = DetectionsHeaders.from_kafka(message.headers)
                if not entry.begins and entry.flows_offset < lowest:
                    lowest = entry.flows_offset
                    yield entry

    def _without_journal(self, partition: int, begin: int, upto: int) -> Restored:
        detail = (
            f"{self.output_topic}/{partition} is empty but {self.input_topic}/{partition} was read up to "
            f"{upto}; verdicts are made again from offset {begin}"
        )
        incidents = (Incident(kind="lane_state_lost", detail=detail),) if upto > begin else ()
        lane = DetectLane(self, partition, done=begin - 1, answered=-1)
        return Restored(lane=lane, start=begin, incidents=incidents)

    def try_out(self, message: Message) -> None:
        """Judge `message`."""
        DetectLane(self, message.partition, done=-1, answered=-1).process(message)


def fresh_lanes(reader: KafkaReader, role: Role) -> list[int]:
    """Return the lanes that a panel has never read: nothing answered, nothing committed."""
    (output,) = role.journals[-1:]
    committed = reader.committed(role.group, role.input_topic)
    return sorted(p for p, (_, end) in reader.offsets(output).items() if not end and p not in committed)


def furthest(journal: Sequence[Entry]) -> Entry | None:
    """Return the journal entry that is furthest on; of several first marks the earliest counts."""
    answers = [entry for entry in journal if not entry[1].begins]
    if answers:
        return max(answers, key=lambda entry: entry[1].flows_offset)
    return min(journal, key=lambda entry: entry[1].input_offset, default=None)
