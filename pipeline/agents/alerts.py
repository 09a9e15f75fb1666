"""The alerts stage: verdicts in, grouped and worded alerts out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import structlog

from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.topics import Topics
from connectors.wire import decode
from pipeline.agents.bucket import bucket_start
from pipeline.agents.lane import MACHINE_FAULTS, Out, Restored, Step, Tally
from pipeline.agents.letters import letter_out, whole_letter
from pipeline.alert import alert_headers, make_alert, severity
from pipeline.drift import Drift, drift_alert, read_drifts
from pipeline.errors import JournalError
from pipeline.grouping import Grouper, report_s
from pipeline.messages import DetectionsHeaders
from pipeline.publication import Publication
from pipeline.settings_sections import GroupingSettings
from pipeline.suppressions import suppressed_by
from pipeline.watch_metrics import Watched

log = structlog.get_logger()

STAGE = "alerts"


class AlertsLane:
    """The open alert groups of one lane.

    Alerts have ids that follow from the log, so the topic needs no journal: after a restart the
    groups of the current bucket are fed again and what they publish is thrown away.
    """

    def __init__(self, role: "AlertsRole", partition: int, *, done: int, answered: int) -> None:
        self.done = done
        self._role = role
        self._partition = partition
        self._answered = answered  # greatest flows offset that has been fed
        settings = role.grouping
        self._grouper = Grouper(
            partition, bucket_s=settings.bucket_s, first=settings.first, enabled=settings.enabled
        )

    def warm(self, message: Message) -> None:
        """Feed a message whose alerts are already published, or which is in the dead letters."""
        try:
            self._feed(message)
        except MACHINE_FAULTS:
            raise
        except Exception as error:  # noqa: BLE001 - pure code: it failed the same way when it was processed
            log.info("dead_letter_passed", stage=STAGE, offset=message.offset, kind=type(error).__name__)

    def process(self, message: Message) -> Step:
        """Return the alerts that a detections message brings about."""
        try:
            return self._feed(message)
        except RecordError as error:
            return self.refuse(message, error.reason, error.detail)
        except JournalError as error:
            return self.refuse(message, "not_detections", str(error))
        except MACHINE_FAULTS:
            raise
        except Exception as error:  # noqa: BLE001 - pure code: it would fail the same way for ever
            step = self.refuse(message, "failed", f"{type(error).__name__}: {error}")
            return replace(step, broken=True)

    def refuse(self, message: Message, reason: str, detail: str) -> Step:
        """Dead-letter a detections message whole."""
        letter = whole_letter(message, STAGE, reason, detail, panel=self._role.panel)
        outs = (letter_out(letter, self._role.topics),)
        return Step(outs=outs, tally=Tally(dead={reason: letter.rows}))

    def _feed(self, message: Message) -> Step:
        headers = DetectionsHeaders.from_kafka(message.headers)
        if headers.begins or headers.flows_offset <= self._answered:
            return Step()
        rows = decode(message.value)
        published = self._grouper.feed(rows, headers)
        self._answered = headers.flows_offset
        outs = tuple(self._out(publication, message) for publication in published)
        tally = _tally(published, rows, headers)
        drifts = read_drifts(headers.drift) if self._role.drift_alerts else ()
        told = tuple(self._drift(drift, headers, message) for drift in drifts)
        return Step(outs=(*outs, *told), tally=tally)

    def _drift(self, drift: Drift, headers: DetectionsHeaders, message: Message) -> Out:
        alert = drift_alert(drift, headers.panel, self._partition)
        said = alert_headers(alert.id, message, None)
        return Out(topic=self._role.topics.alerts, key=alert.id.encode(), value=alert.body, headers=said)

    def _out(self, publication: Publication, message: Message) -> Out:
        alert = make_alert(publication)
        headers = alert_headers(alert.id, message, publication.row)
        return Out(topic=self._role.topics.alerts, key=alert.id.encode(), value=alert.body, headers=headers)


def _tally(published: list[Publication], rows: pa.RecordBatch, headers: DetectionsHeaders) -> Tally:
    alerts = [publication for publication in published if publication.suppressed is None]
    severities = Counter(str(severity(publication.flow.p_value)) for publication in alerts)
    single = sum(not publication.is_summary for publication in alerts)
    suppressed = suppressed_by(rows)
    return Tally(
        rows=rows.num_rows,
        clock_us=headers.clock_end_us,
        grouped=rows.num_rows - single - sum(suppressed.values()),
        severities=dict(severities),
        suppressed=suppressed,
    )


class AlertsRole:
    """The alerts stage of one panel."""

    name = STAGE
    models: Sequence[Mapping[str, str]] = ()
    watched: Watched | None = None

    def __init__(
        self,
        panel: str,
        topics: Topics,
        grouping: GroupingSettings,
        *,
        drift_alerts: bool = True,
        suppresses: bool = False,
    ) -> None:
        self.topics = topics
        self.panel = panel
        self.grouping = grouping
        self.drift_alerts = drift_alerts
        self.suppresses = suppresses
        self.input_topic = topics.detections(panel)
        self.group = f"{topics.prefix}-alerts-{panel}"
        self.flows = topics.flows
        self.journals: tuple[str, ...] = (self.input_topic,)
        self.lane_topics: tuple[str, ...] = (self.input_topic,)
        self.topics_used: tuple[str, ...] = (self.input_topic, topics.alerts, topics.dead_letters)

    def first_marks(self, reader: KafkaReader) -> list[Out]:  # noqa: ARG002 the protocol's name
        """Return nothing: this stage begins with the log."""
        return []

    @property
    def _back_s(self) -> float:
        """Seconds of lane clock of which a lane keeps something: a bucket, or a report of suppressions."""
        return report_s(self.grouping.bucket_s) if self.suppresses else self.grouping.bucket_s

    def restore(self, reader: KafkaReader, partition: int, upto: int) -> Restored:
        """Read back to the beginning of the bucket, or report, that is open before `upto`."""
        start, answered = bucket_start(reader, self.input_topic, partition, upto, self._back_s)
        lane = AlertsLane(self, partition, done=upto - 1, answered=answered)
        return Restored(lane=lane, start=start)

    def try_out(self, message: Message) -> None:
        """Group and word `message`."""
        AlertsLane(self, message.partition, done=-1, answered=-1).process(message)
