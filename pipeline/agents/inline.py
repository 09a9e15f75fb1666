"""Features and verdicts in one process: flows in, verdicts out, without a features topic between.

The same functions as in the two stages, so the same verdicts to the bit. The journal of a lane is its
partition of the detections topic: each message says both what it answers and, as a features message
would, from where the windows can be rebuilt.
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pyarrow as pa

from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.wire import FlowsHeaders, Headers, RawHeaders, decode
from pipeline.agents.detect import (
    NO_FEATURES,
    NO_FLAGGED,
    STAGE,
    DetectRole,
    Ruling,
    State,
    fresh_lanes,
    furthest,
)
from pipeline.agents.features import Answer, FeaturesRole, FlowsLane
from pipeline.agents.journal import journal_tail, newest_first
from pipeline.agents.lane import MACHINE_FAULTS, Incident, Out, Restored, Step, Tally
from pipeline.agents.letters import letter_out, whole_letter
from pipeline.errors import JournalError
from pipeline.features.arrays import times_us
from pipeline.messages import DetectionsHeaders, FeaturesHeaders, Low

READ_BACK = 16
"""Flows messages read at a time on the way back to what a new panel's windows hold."""


class InlineLane:
    """The windows and the verdicts of one lane."""

    def __init__(
        self,
        role: "InlineRole",
        partition: int,
        *,
        done: int = -1,
        journal: FeaturesHeaders | None = None,
        state: State | None = None,
    ) -> None:
        self.done = done
        self._role = role
        self._partition = partition
        self._flows = FlowsLane(role.features, _as_it_is, done=done, journal=journal)
        self._state = state or role.detect.nothing_seen()

    def warm(self, message: Message) -> None:
        """Take a message whose verdicts are already published into the windows again."""
        self._flows.warm(message)

    def process(self, message: Message) -> Step:
        """Return the detections message of a flows message, and the dead letters of its bad rows."""
        return self._judged(message, self._flows.answer(message))

    def refuse(self, message: Message, reason: str, detail: str) -> Step:
        """Dead-letter a message whole; the windows never see it, now or after a restart."""
        return self._judged(message, self._flows.refuse(message, reason, detail))

    def _judged(self, message: Message, answer: Answer[pa.RecordBatch]) -> Step:
        headers = answer.headers
        try:
            ruling = self._role.detect.rule(answer.value, headers, self._state)
        except RecordError as error:
            return self._unjudged(message, answer, error.reason, error.detail)
        except MACHINE_FAULTS:
            raise
        except Exception as error:  # noqa: BLE001 - pure code: it would fail the same way for ever
            return self._unjudged(message, answer, "failed", f"{type(error).__name__}: {error}")
        self._state = ruling.state
        tally = _both(answer.tally, ruling.tally(headers, self._partition))
        outs = (*answer.letters, self._out(answer, ruling))
        return Step(outs=outs, tally=tally, broken=answer.broken)

    def _unjudged(self, message: Message, answer: Answer[pa.RecordBatch], reason: str, detail: str) -> Step:
        """Dead-letter the good rows of a message, which stay in the windows."""
        rows = answer.headers.rows
        panel = self._role.detect.judge.panel.name
        letter = replace(whole_letter(message, STAGE, reason, detail, panel=panel), rows=rows)
        ruling = self._role.detect.rule(self._role.features.no_rows, answer.headers, self._state)
        self._state = ruling.state
        outs = (*answer.letters, letter_out(letter, self._role.detect.topics))
        tally = replace(answer.tally, rows=0, dead={**answer.tally.dead, reason: rows})
        return Step(outs=(*outs, self._out(answer, ruling, dead=rows)), tally=tally, broken=answer.broken)

    def _out(self, answer: Answer[pa.RecordBatch], ruling: Ruling, dead: int = 0) -> Out:
        said = self._role.detect.headers(answer.headers, ruling, input_offset=NO_FEATURES, dead=dead)
        return Out(
            topic=self._role.detect.output_topic,
            partition=self._partition,
            value=ruling.value,
            headers=_merged(answer.headers, said),
        )


def _as_it_is(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows


def _both(features: Tally, detect: Tally) -> Tally:
    return replace(
        features,
        flagged=detect.flagged,
        histogram=detect.histogram,
        by_model=detect.by_model,
        lane=detect.lane,
        last_hour=detect.last_hour,
        closed=detect.closed,
    )


def _merged(features: FeaturesHeaders, detections: DetectionsHeaders) -> Headers:
    """Return the headers of both; what both say, the detections say of the verdict."""
    return list({**dict(features.to_kafka()), **dict(detections.to_kafka())}.items())


def _read(headers: RawHeaders) -> tuple[DetectionsHeaders, FeaturesHeaders | None]:
    """Return a journal entry; one of the two stages says nothing of the windows."""
    features = None
    with suppress(JournalError):
        features = FeaturesHeaders.from_kafka(headers)
    return DetectionsHeaders.from_kafka(headers), features


class InlineRole:
    """Features and detect stage in one."""

    name = STAGE

    def __init__(self, features: FeaturesRole, detect: DetectRole) -> None:
        self.features = features
        self.detect = detect
        self.input_topic = features.input_topic
        self.group = f"{detect.topics.prefix}-inline-{detect.judge.panel.name}"
        self.flows = features.flows
        self.models = detect.models
        self.watched = detect.watched
        self.journals: tuple[str, ...] = (detect.output_topic,)
        self.lane_topics: tuple[str, ...] = (self.input_topic, detect.output_topic)
        self.topics_used: tuple[str, ...] = (*self.lane_topics, detect.topics.dead_letters)

    def first_marks(self, reader: KafkaReader) -> list[Out]:
        """Return the empty first message of each lane that this panel has never read."""
        inputs = reader.offsets(self.input_topic)
        return [self._first_mark(reader, p, *inputs[p]) for p in fresh_lanes(reader, self)]

    def _first_mark(self, reader: KafkaReader, partition: int, begin: int, end: int) -> Out:
        latest = self.detect.begin == "latest"
        start, clock_us = self._window_start(reader, partition, begin, end) if latest else (begin, 0)
        done = end - 1 if latest else begin - 1
        panel = DetectionsHeaders(
            panel=self.detect.card,
            rows=0,
            flagged=0,
            input_offset=NO_FEATURES,
            flows_offset=done,
            clock_us=clock_us,
            clock_end_us=clock_us,
            begins=True,
        )
        windows = self._windows(done, clock_us, low=start)
        return Out(
            topic=self.detect.output_topic,
            partition=partition,
            value=NO_FLAGGED,
            headers=_merged(windows, panel),
        )

    def _window_start(self, reader: KafkaReader, partition: int, begin: int, end: int) -> tuple[int, int]:
        """Return from where the flows lie that windows hold at the log's end, and the clock there."""
        spec = self.features.feature_set.windows
        width_us = spec.widths_s[-1] * 1_000_000 if spec else 0
        clock_us, start = 0, end
        for message, newest_us in self._backwards(reader, partition, begin, end):
            clock_us = max(clock_us, newest_us)
            if newest_us <= clock_us - width_us:
                break
            start = message.offset
        return start, clock_us

    def _backwards(
        self, reader: KafkaReader, partition: int, begin: int, stop: int
    ) -> Iterator[tuple[Message, int]]:
        """Yield the flows messages before `stop`, newest first, each with its greatest event time."""
        for message in newest_first(reader, self.input_topic, partition, begin, stop, block=READ_BACK):
            with suppress(RecordError):
                headers = FlowsHeaders.from_kafka(message.headers)
                if not headers.flush:
                    good = self.features.feature_set.check(decode(message.value)).rows
                    yield message, int(np.max(times_us(good), initial=0))

    def restore(self, reader: KafkaReader, partition: int, upto: int) -> Restored:
        """Rebuild a lane from the furthest message of its journal."""
        topic = self.detect.output_topic
        entries = journal_tail(reader, topic, partition, _read)
        # Asked for after the journal: a zombie may go on meanwhile, answering what comes now.
        begin, end = reader.offsets(self.input_topic)[partition]
        found = furthest([(message, said) for message, (said, _) in entries])
        if found is None:
            return self._without_journal(partition, begin, upto)
        at, journal = found
        windows = next(windows for message, (_, windows) in entries if message is at)
        if windows is None:
            # Written by a detect worker behind a features worker: every flow of the log warms the windows.
            windows = self._windows(journal.flows_offset, journal.clock_end_us, low=begin)
        self.features.agree(windows, topic, partition, end)
        state = self.detect.seen(reader, at, journal)
        lane = InlineLane(self, partition, done=journal.flows_offset, journal=windows, state=state)
        return Restored(
            lane=lane,
            start=max(begin, windows.low.offset),
            incidents=self.features.gaps(windows, partition, begin),
        )

    def _windows(self, done: int, clock_us: int, *, low: int) -> FeaturesHeaders:
        """Return a journal entry after which windows are rebuilt from the flows message at `low`."""
        return FeaturesHeaders(
            feature_set=self.features.feature_set.id,
            rows=0,
            flows_offset=done,
            clock_us=clock_us,
            clock_end_us=clock_us,
            low=Low(offset=low, clock_us=0, seq=0),
        )

    def _without_journal(self, partition: int, begin: int, upto: int) -> Restored:
        detail = (
            f"{self.detect.output_topic}/{partition} is empty but {self.input_topic}/{partition} was read up "
            f"to {upto}; windows and verdicts are made again from offset {begin}"
        )
        incidents = (Incident(kind="lane_state_lost", detail=detail),) if upto > begin else ()
        return Restored(lane=InlineLane(self, partition, done=begin - 1), start=begin, incidents=incidents)

    def try_out(self, message: Message) -> None:
        """Judge `message` with empty windows."""
        InlineLane(self, message.partition).process(message)
