"""Alerts of flows that the windows have counted but no model has judged, or no alert has told of.

Such flows must not pass through the flows topic again: the windows would count them twice. They are
judged and worded here, by the same functions as in the workers, and their alerts are published one by
one. The journals stay as they are: the letters go on standing for the flows in every balance.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from connectors.dead_letters import REDRIVEN, DeadLetter
from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.publish import Sending
from connectors.topics import Topics
from connectors.wire import decode, header_dict
from pipeline.agents.roles import build_judge
from pipeline.agents.trial import survives
from pipeline.alert import alert_headers, make_alert
from pipeline.errors import JournalError, PipelineError
from pipeline.grouping import Grouper
from pipeline.judge import Judge
from pipeline.messages import DetectionsHeaders, FeaturesHeaders
from pipeline.redrive.contents import NotPossibleError, message_of
from pipeline.redrive.rebuilt import features_again
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a letter of the detect or alerts stage gives."""

    n_flows: int  # judged
    alerts: dict[str, Sending]  # by id, those of the flagged flows


class Verdicts:
    """Judges and words what letters of the detect and alerts stages hold, with the configured panel."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._topics = Topics(settings.topics.prefix)

    @cached_property
    def _judge(self) -> Judge:
        """Return the panel's judge, which gives every flagged flow its reasons."""
        grouping = self._settings.grouping.model_copy(update={"enabled": False})
        return build_judge(self._settings.model_copy(update={"grouping": grouping}))

    def told(self, letter: DeadLetter, reader: KafkaReader) -> Told:
        """Return the alerts of a letter.

        Raises
        ------
        NotPossibleError
            If its message has left the log, or fails again as it did before.
        """
        panel = self._settings.panel.name
        if letter.panel not in ("", panel):
            raise NotPossibleError(f"it is of panel {letter.panel}, these settings are of {panel}")
        try:
            if letter.stage == "alerts":
                return self._worded(letter, reader)
            return self._judged(letter, reader)
        except (RecordError, JournalError) as error:
            raise NotPossibleError(f"it would be refused again: {error}") from error

    def _judged(self, letter: DeadLetter, reader: KafkaReader) -> Told:
        message, headers, rows = self._features(letter, reader)
        if headers.feature_set != self._judge.panel.feature_set_id:
            raise NotPossibleError(
                f"its features are of set {headers.feature_set}, but the models of panel "
                f"{self._settings.panel.name} were trained on {self._judge.panel.feature_set_id}"
            )
        if self._judge.depth.rows:
            raise NotPossibleError(
                f"the panel looks back on {self._judge.depth}: alone it would get another verdict"
            )
        self._check_poison(letter, message)
        try:
            verdict = self._judge.judge(rows, headers.clock_us)
        except Exception as error:  # pure code: what fails, fails again
            raise NotPossibleError(f"it fails again: {type(error).__name__}: {error}") from error
        said = DetectionsHeaders(
            panel=self._judge.panel.card(),
            rows=verdict.n_scored,
            flagged=verdict.flagged.num_rows,
            input_offset=message.offset,
            flows_offset=headers.flows_offset,
            clock_us=headers.clock_us,
            clock_end_us=headers.clock_end_us,
        )
        alerts = dict(_alerts(letter, message, verdict.flagged, said, self._topics.alerts))
        return Told(n_flows=verdict.n_scored, alerts=alerts)

    def _features(
        self, letter: DeadLetter, reader: KafkaReader
    ) -> tuple[Message, FeaturesHeaders, pa.RecordBatch]:
        """Return the features of a letter: from the features topic, or from the flows of an inline worker."""
        if letter.topic == self._topics.flows:
            message = message_of(letter, self._topics.flows, reader)
            return message, *features_again(message, self._settings, reader)
        message = message_of(letter, self._topics.features(self._settings.features.feature_set), reader)
        return message, FeaturesHeaders.from_kafka(message.headers), decode(message.value)

    def _worded(self, letter: DeadLetter, reader: KafkaReader) -> Told:
        message = message_of(letter, self._topics.detections(self._settings.panel.name), reader)
        headers = DetectionsHeaders.from_kafka(message.headers)
        self._check_poison(letter, message)
        rows = decode(message.value)
        alerts = dict(_alerts(letter, message, rows, headers, self._topics.alerts))
        return Told(n_flows=rows.num_rows, alerts=alerts)

    def _check_poison(self, letter: DeadLetter, message: Message) -> None:
        if letter.reason == "poison" and not survives(letter.stage, self._settings, message):
            raise NotPossibleError("it kills the process again")


def _alerts(
    letter: DeadLetter, message: Message, rows: pa.RecordBatch, headers: DetectionsHeaders, topic: str
) -> Iterator[tuple[str, Sending]]:
    """Yield the alert of each flagged flow, by its id."""
    try:
        for publication in Grouper(message.partition, enabled=False).feed(rows, headers):
            alert = make_alert(publication)
            said = alert_headers(alert.id, message, publication.row)
            yield alert.id, (topic, None, alert.body, [*said, (REDRIVEN, letter.id.encode())])
    except (PipelineError, KeyError, ValueError, TypeError) as error:
        raise NotPossibleError(f"its alerts cannot be worded: {type(error).__name__}: {error}") from error


def published_ids(reader: KafkaReader, topic: str, candidates: set[str]) -> set[str]:
    """Return which of some alerts stand in the alerts topic."""
    found: set[str] = set()
    if candidates:
        for partition, (begin, end) in reader.offsets(topic).items():
            for message in reader.read_range(topic, partition, begin, end):
                alert_id = header_dict(message.headers).get("weir-id", b"").decode(errors="replace")
                if alert_id in candidates:
                    found.add(alert_id)
    return found
