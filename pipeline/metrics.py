"""Prometheus metrics of one process.

Labels are bounded: stages, reasons, partitions; never an address, a sensor or a flow.
"""

import platform
import re
from collections import Counter as Totals
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from pipeline.version import version
from pipeline.watch_metrics import WatchMetrics

DURATIONS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the time that one message takes in a stage."""

LATENCIES_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the time from a flow's ingest to its verdict; the writer's linger is part of it."""

P_VALUE_BINS = 12
"""Decades of p-values: 1 to 0.1, 0.1 to 0.01 ... the last one open."""

MOST_REASONS = 64
OTHER = "other"
REASON = re.compile(r"[a-z][a-z0-9_]{0,39}")


class PValues(Collector):
    """Histogram of p-values, fed with whole batches: `observe` on each row would cost more than scoring."""

    def __init__(self) -> None:
        self._counts = [0] * P_VALUE_BINS

    def observe(self, counts: Sequence[int]) -> None:
        """Add the p-values of a batch.

        Parameters
        ----------
        counts : sequence of int
            Rows by decade: `counts[k]` have 10^-(k+1) < p <= 10^-k; the last counts all below, too.
        """
        for decade, count in enumerate(counts):
            self._counts[min(decade, P_VALUE_BINS - 1)] += int(count)

    def collect(self) -> Iterator[Metric]:
        """Yield the histogram as Prometheus wants it: cumulative, smallest bound first; no sum is kept."""
        family = HistogramMetricFamily(
            "weir_score_p_value", "P-values of all scored flows; flat on normal traffic."
        )
        buckets, at_most = [], 0
        for decade in reversed(range(P_VALUE_BINS)):
            at_most += self._counts[decade]
            buckets.append((f"1e-{decade:02d}" if decade else "1.0", float(at_most)))
        family.add_metric([], [*buckets, ("+Inf", float(at_most))], sum_value=None)
        yield family


Counted = Callable[[], Mapping[str, int]]
"""Returns counts by name."""


class SourceEvents(Collector):
    """Counters that live sources keep themselves, asked for when they are scraped."""

    def __init__(self) -> None:
        self._sources: dict[str, tuple[str, Counted]] = {}  # by id: kind, and what tells

    def watch(self, source_id: str, kind: str, counters: Counted) -> None:
        """Tell of a source from now on; those of one kind, as the partitions of a topic, are added up."""
        self._sources[source_id] = kind, counters

    def collect(self) -> Iterator[Metric]:
        """Yield one counter for each source and event."""
        family = CounterMetricFamily(
            "weir_source_events", "What else a live source has seen.", labels=("source", "event")
        )
        totals: Totals[tuple[str, str]] = Totals()
        for kind, counters in tuple(self._sources.values()):
            totals.update({(kind, event): count for event, count in counters().items()})
        for labels, count in sorted(totals.items()):
            family.add_metric(labels, float(count))
        yield family


class StageMetrics:
    """The metrics of one stage, with its label looked up once."""

    def __init__(self, metrics: "Metrics", stage: str) -> None:
        self._metrics = metrics
        self._stage = stage
        self.consumed = metrics.records_consumed.labels(stage)
        self.duration = metrics.stage_duration.labels(stage)

    def reject(self, reason: str, n: int = 1) -> None:
        """Count records that could not be read or judged."""
        self._metrics.records_rejected.labels(self._stage, self._metrics.bounded(reason)).inc(n)

    def dead_letter(self, reason: str, n: int = 1) -> None:
        """Count messages written to the dead-letter topic."""
        self._metrics.dead_letters.labels(self._stage, self._metrics.bounded(reason)).inc(n)


class Metrics:
    """All metrics of a process, in a registry of their own.

    Examples
    --------
    >>> metrics = Metrics()
    >>> metrics.stage("detect").consumed.inc(4000)
    >>> metrics.registry.get_sample_value("weir_records_consumed_total", {"stage": "detect"})
    4000.0
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = registry or CollectorRegistry()
        self._reasons: set[str] = set()
        self._records(registry)
        self._times(registry)
        self._decisions(registry)
        self._state(registry)
        self.watch = WatchMetrics(registry)
        ProcessCollector(registry=registry)
        build = Gauge("weir_build_info", "Always 1.", ("version", "python"), registry=registry)
        build.labels(version(), platform.python_version()).set(1)

    def _records(self, registry: CollectorRegistry) -> None:
        self.records_consumed = Counter(
            "weir_records_consumed", "Records read, bad ones included.", ("stage",), registry=registry
        )
        self.records_rejected = Counter(
            "weir_records_rejected", "Records not judged.", ("stage", "reason"), registry=registry
        )
        self.dead_letters = Counter(
            "weir_dead_letters", "Messages sent to the dead letters.", ("stage", "reason"), registry=registry
        )
        self.late_records = Counter(
            "weir_late_records", "Records whose event time lay behind the lane clock.", registry=registry
        )
        self.lateness = Gauge(
            "weir_lateness_seconds",
            "Lateness of the latest record of the message last read, behind the lane clock.",
            registry=registry,
        )
        self.source_events = SourceEvents()
        registry.register(self.source_events)
        self.repeated_records = Counter(
            "weir_repeated_records", "Records dropped because they had been seen.", registry=registry
        )

    def _times(self, registry: CollectorRegistry) -> None:
        self.stage_duration = Histogram(
            "weir_stage_duration_seconds",
            "Time that one message takes, sends awaited.",
            ("stage",),
            buckets=DURATIONS_S,
            registry=registry,
        )
        self.end_to_end_latency = Histogram(
            "weir_end_to_end_latency_seconds",
            "Time from a message's ingest to the publication of what became of it.",
            buckets=LATENCIES_S,
            registry=registry,
        )
        self.event_time_lag = Gauge(
            "weir_event_time_lag_seconds",
            "Wall time minus lane clock, of the lane last seen; large in a replay of old traffic.",
            registry=registry,
        )
        self.consumer_lag = Gauge(
            "weir_consumer_lag_messages",
            "Messages in the log that were not yet read.",
            ("topic", "partition"),
            registry=registry,
        )

    def _decisions(self, registry: CollectorRegistry) -> None:
        self.p_values = PValues()
        registry.register(self.p_values)
        self.flagged_records = Counter(
            "weir_flagged_records", "Flows with a p-value of at most alpha.", registry=registry
        )
        self.alerts_published = Counter(
            "weir_alerts_published", "Alerts published.", ("severity",), registry=registry
        )
        self.alerts_grouped = Counter(
            "weir_alerts_grouped", "Flagged flows counted in a summary only.", registry=registry
        )
        self.alerts_suppressed = Counter(
            "weir_alerts_suppressed",
            "Flagged flows that a suppression kept from being alerts.",
            ("reason",),
            registry=registry,
        )
        self._model_info = Gauge(
            "weir_model_info",
            "Always 1; the models in use.",
            ("name", "version", "sha256", "detector"),
            registry=registry,
        )
        self._models: list[Counter] = []
        self._model_flagged = Counter(
            "weir_model_flagged_records",
            "Flows that a model alone would have flagged, shadows included.",
            ("name", "version"),
            registry=registry,
        )

    def _state(self, registry: CollectorRegistry) -> None:
        self.window_capped = Counter(
            "weir_window_capped",
            "Rows that left a window because its capacity was used up.",
            registry=registry,
        )
        self.rebuilds = Counter("weir_rebuilds", "Lane states rebuilt.", ("reason",), registry=registry)
        self.incidents = Counter(
            "weir_incidents", "Losses that a person must know of.", ("kind",), registry=registry
        )
        self.lost_offsets = Counter(
            "weir_lost_offsets", "Offsets gone from the log before they were read.", registry=registry
        )
        self.partitions_assigned = Gauge(
            "weir_partitions_assigned", "Lanes that this process works on.", registry=registry
        )
        for kind in ("lane_state_lost", "offsets_lost"):
            self.incidents.labels(kind)  # shown as 0, so that an alarm can be set on it

    def stage(self, name: str) -> StageMetrics:
        """Return the metrics of one stage: ingest, features, detect, alerts."""
        return StageMetrics(self, name)

    def bounded(self, reason: str) -> str:
        """Return `reason`, or "other" where it is no short word or there are too many."""
        if reason not in self._reasons:
            if len(self._reasons) >= MOST_REASONS or not REASON.fullmatch(reason):
                return OTHER
            self._reasons.add(reason)
        return reason

    def set_models(self, models: Iterable[Mapping[str, str]]) -> None:
        """Say which models are in use: mappings with name, version, sha256 and detector."""
        self._model_info.clear()
        self._models = []
        for model in models:
            self._models.append(self._model_flagged.labels(str(model["name"]), str(model["version"])))
            labels = (str(model[key]) for key in ("name", "version", "sha256", "detector"))
            self._model_info.labels(*labels).set(1)

    def flagged_by(self, counts: Sequence[int]) -> None:
        """Count what each of the models in use would have flagged alone, in their order."""
        for counter, count in zip(self._models, counts, strict=False):
            counter.inc(count)

    def set_lag(self, lags: Mapping[tuple[str, int], int]) -> None:
        """Say how many messages of each (topic, partition) lie ahead; others are forgotten."""
        self.consumer_lag.clear()
        for (topic, partition), messages in lags.items():
            self.consumer_lag.labels(topic, str(partition)).set(messages)
