"""From what a step did to the metrics of its stage."""

import time

from pipeline.agents.lane import Incident, Tally
from pipeline.metrics import Metrics


class Meter:
    """The metrics of one stage, counted once a message."""

    def __init__(self, stage: str, metrics: Metrics) -> None:
        self._metrics = metrics
        self._stage = metrics.stage(stage)

    def step(self, tally: Tally, seconds: float, ingested_ms: int) -> None:
        """Count one message that is done.

        Parameters
        ----------
        tally : Tally
            What it held.
        seconds : float
            From its arrival to the durability of its output.
        ingested_ms : int
            Kafka's time stamp of the message, wall time.
        """
        metrics, stage = self._metrics, self._stage
        stage.consumed.inc(tally.rows + tally.repeated + sum(tally.dead.values()))
        stage.duration.observe(seconds)
        metrics.end_to_end_latency.observe(max(0.0, time.time() - ingested_ms / 1000))
        if tally.clock_us:
            metrics.event_time_lag.set(time.time() - tally.clock_us / 1e6)
        for reason, rows in tally.dead.items():
            stage.reject(reason, rows)
            stage.dead_letter(reason)
        self._decisions(tally)

    def _decisions(self, tally: Tally) -> None:
        metrics = self._metrics
        metrics.late_records.inc(tally.late)
        metrics.lateness.set(tally.late_us / 1e6)
        metrics.repeated_records.inc(tally.repeated)
        metrics.window_capped.inc(tally.capped)
        metrics.flagged_records.inc(tally.flagged)
        metrics.alerts_grouped.inc(tally.grouped)
        if tally.histogram:
            metrics.p_values.observe(tally.histogram)
        metrics.flagged_by(tally.by_model)
        if tally.lane >= 0:
            metrics.watch.set_last_hour(tally.lane, *tally.last_hour)
        for closed in tally.closed:
            metrics.watch.set_closed(closed)
        for reason, flows in tally.suppressed.items():
            metrics.alerts_suppressed.labels(reason).inc(flows)
        for severity, alerts in tally.severities.items():
            metrics.alerts_published.labels(severity).inc(alerts)

    def rebuilt(self, incidents: tuple[Incident, ...]) -> None:
        """Count a lane that came back from its journal, and what was lost with it."""
        self._metrics.rebuilds.labels("assigned").inc()
        for incident in incidents:
            self._metrics.incidents.labels(incident.kind).inc()
            self._metrics.lost_offsets.inc(incident.offsets)

    def forget(self) -> None:
        """Leave out of the gauges what was said of lanes: others may have them now."""
        self._metrics.watch.forget()

    def assigned(self, partitions: int) -> None:
        """Say how many lanes this process works on."""
        self._metrics.partitions_assigned.set(partitions)
