"""Dead letters brought back: what would be sent, and the sending."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pyarrow as pa

from connectors.base import Source
from connectors.dead_letters import DeadLetter
from connectors.kafka_reader import KafkaReader, Message
from connectors.lanes import LaneMap
from connectors.marks import Tail, read_tail
from connectors.publish import Publisher, Sending
from connectors.topics import Topics
from pipeline.agents.trial import survives
from pipeline.features.feature_sets import feature_set
from pipeline.redrive.contents import NotPossibleError, acceptable, flows_of
from pipeline.redrive.letters import Dead, Selection, each_letter
from pipeline.redrive.log import Key, Log, keys_of, left_out, read_log
from pipeline.redrive.packing import flows_messages, flush_message
from pipeline.redrive.records import Records
from pipeline.redrive.verdicts import Told, Verdicts, published_ids
from pipeline.settings import Settings
from pipeline.topic_plan import stages

LETTERS_AT_ONCE = 100
"""Letters sent together: what a kill leaves in doubt, until the log is read again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What becomes of one dead letter."""

    letter: DeadLetter
    lanes: Mapping[int, int] = field(default_factory=dict)  # lane -> flows that go there
    n_judged: int = 0  # flows that have passed the windows before: judged at once
    n_alerts: int = 0  # alerts of those
    n_known: int = 0  # flows, or alerts, that the log holds already
    why_not: str = ""  # of the flows that cannot be brought back

    @property
    def n_flows(self) -> int:
        """Flows that are brought back."""
        return sum(self.lanes.values()) or (self.n_judged if self.n_alerts or not self.n_known else 0)


OUT_OF_BAND = ("detect", "alerts")
"""Stages whose letters hold flows that the windows have counted."""

Step = tuple[Outcome, list[Sending]]


class Redrive:
    """Brings the chosen dead letters back into the stream, each flow once.

    A flow keeps its id, and so does its alert. It goes to the lane of its origin without its source
    position, or the source's high-water mark would drop it, and counts in the windows at the lane's
    clock, as any late flow. Letters of the detect and alerts stages hold flows that the windows have
    counted: those are judged at once, and only their alerts are published.

    What the log shows to be in the stream already, from an earlier redrive (header `weir-redriven`)
    or otherwise, is left out: it may be killed at any moment and run again. Only one redrive of an
    installation at a time.

    Parameters
    ----------
    settings : Settings
        Of the installation.
    selection : Selection
        Which letters.
    source : Source, optional
        The source of letters of the ingest stage, as it was replayed.
    """

    def __init__(self, settings: Settings, selection: Selection, source: Source | None = None) -> None:
        self._settings = settings
        self._selection = selection
        self._topics = Topics(settings.topics.prefix)
        self._feature_set = feature_set(settings.features.feature_set)
        self._source = source
        self._verdicts = Verdicts(settings)
        self._ids: set[str] = set()  # of the chosen letters, when they were first read
        self.reasons: set[str] = set()
        """Reasons of all dead letters, chosen or not, as far as they have been read."""

    def run(self, *, go: bool = False) -> Iterator[Outcome]:
        """Yield what becomes of each chosen letter; with `go`, its flows are durable by then.

        Raises
        ------
        BrokerError
            If the broker does not answer; run again, and it goes on.
        """
        # Two readers, since letters are read while others look up what they come from.
        with KafkaReader(self._settings.kafka) as letters, KafkaReader(self._settings.kafka) as reader:
            records = self._read_records(letters, reader)
            log = self._read_log(letters, reader, records)
            steps = self._steps(letters, reader, records, log)
            yield from self._sent(steps, log) if go else (outcome for outcome, _ in steps)

    def _chosen(self, reader: KafkaReader) -> Iterator[DeadLetter]:
        for written_ms, letter in each_letter(reader, self._topics.dead_letters):
            if self._selection.takes(written_ms, letter):
                yield letter

    def _read_records(self, letters: KafkaReader, reader: KafkaReader) -> Records:
        """Return the records of the chosen letters of the ingest stage."""
        flows, writer = self._topics.flows, self._settings.writer
        lanes = sorted(reader.partitions(flows))
        lane_map = LaneMap(n_lanes=len(lanes), lane_by=writer.lane_by, sensor_lanes=writer.sensor_lanes)
        if self._source is None:
            return Records(None, {}, lane_map)
        source_id = self._source.source_id
        tails: dict[int, Tail] = {lane: read_tail(reader, flows, lane, source_id) for lane in lanes}
        records = Records(self._source, tails, lane_map)
        records.read(replace(x, value=b"") for x in self._chosen(letters) if x.stage == "ingest")
        return records

    def _read_log(self, letters: KafkaReader, reader: KafkaReader, records: Records) -> Log:
        """Return what the log says of all flows of the chosen letters."""
        dead, candidates, alerts = Dead(), set[Key](), set[str]()
        for written_ms, letter in each_letter(letters, self._topics.dead_letters):
            self.reasons.add(letter.reason)
            dead.add(letter, self._topics.flows)
            if self._selection.takes(written_ms, letter):
                self._ids.add(letter.id)
                with suppress(NotPossibleError):  # told when its turn comes
                    if letter.stage in OUT_OF_BAND:
                        alerts.update(self._verdicts.told(letter, reader).alerts)
                    else:
                        candidates.update(keys_of(self._rows_of(letter, reader, records)))
        log = read_log(reader, self._topics.flows, candidates, dead)
        log.alerts = published_ids(reader, self._topics.alerts, alerts)
        return log

    def _rows_of(self, letter: DeadLetter, reader: KafkaReader, records: Records) -> pa.RecordBatch:
        if letter.stage == "ingest":
            return records.rows_of(letter)
        return flows_of(letter, self._topics.flows, reader, self._feature_set)

    def _steps(self, letters: KafkaReader, reader: KafkaReader, records: Records, log: Log) -> Iterator[Step]:
        for letter in self._chosen(letters):
            if letter.id not in self._ids:
                continue  # written meanwhile
            try:
                if letter.stage in OUT_OF_BAND:
                    yield self._judged(letter, self._verdicts.told(letter, reader), log)
                else:
                    yield self._step(letter, self._rows_of(letter, reader, records), records, log)
            except NotPossibleError as error:
                yield Outcome(letter=letter, why_not=str(error)), []

    def _judged(self, letter: DeadLetter, told: Told, log: Log) -> Step:
        fresh = {alert_id: sending for alert_id, sending in told.alerts.items() if alert_id not in log.alerts}
        log.alerts.update(fresh)
        n_known = len(told.alerts) - len(fresh)
        outcome = Outcome(letter=letter, n_judged=told.n_flows, n_alerts=len(fresh), n_known=n_known)
        return outcome, list(fresh.values())

    def _step(self, letter: DeadLetter, rows: pa.RecordBatch, records: Records, log: Log) -> Step:
        fresh = left_out(rows, (log.taken, log.sent[letter.id]))
        good, why_not = acceptable(fresh, self._feature_set)
        parts = list(records.lanes(good)) if letter.stage == "ingest" else _at_origin(letter, good, log)
        messages = [
            message
            for lane, part in parts
            for message in flows_messages(
                part, letter.id, self._settings, self._topics.flows, lane, log.tails[lane]
            )
        ]
        if letter.reason == "poison":
            self._check_poison(messages)
        log.taken.update(keys_of(good))
        lanes = {lane: part.num_rows for lane, part in parts}
        n_known = rows.num_rows - fresh.num_rows
        return Outcome(letter=letter, lanes=lanes, n_known=n_known, why_not=why_not), messages

    def _check_poison(self, messages: list[Sending]) -> None:
        """Refuse what still kills a process: workers would die over it twice more."""
        stage = stages(self._settings)[0]
        for topic, lane, value, headers in messages:
            message = Message(topic, lane or 0, 0, 0, None, value, tuple(headers))
            if not survives(stage, self._settings, message):
                raise NotPossibleError("it kills the process again")

    def _sent(self, steps: Iterator[Step], log: Log) -> Iterator[Outcome]:
        """Yield the outcomes as their messages become durable; close the alert groups of lanes at rest."""
        touched: set[int] = set()
        with Publisher(self._settings.kafka) as publisher:
            for some in _batched(steps):
                publisher.send([message for _, messages in some for message in messages])
                for outcome, _ in some:
                    touched.update(outcome.lanes)
                    yield outcome
            # In a lane with traffic its clock closes the groups; a flush would close those of others early.
            record = self._feature_set.record_type
            resting = sorted(lane for lane in touched if log.resting[lane])
            publisher.send(
                flush_message(record, self._topics.flows, lane, log.tails[lane]) for lane in resting
            )


def _at_origin(letter: DeadLetter, rows: pa.RecordBatch, log: Log) -> list[tuple[int, pa.RecordBatch]]:
    if letter.partition is None or letter.partition not in log.tails:
        raise NotPossibleError(f"its lane {letter.partition} is none of the flows topic's")
    return [(letter.partition, rows)] if rows.num_rows else []


def _batched(steps: Iterator[Step]) -> Iterator[list[Step]]:
    """Yield the steps in groups that go out together, bounded in letters and in bytes."""
    some: list[Step] = []
    size_bytes = 0
    for step in steps:
        some.append(step)
        size_bytes += sum(len(value) for _, _, value, _ in step[1])
        if len(some) >= LETTERS_AT_ONCE or size_bytes > LETTERS_AT_ONCE * 100_000:
            yield some
            some, size_bytes = [], 0
    if some:
        yield some
