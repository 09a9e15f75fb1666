"""Metrics of the watch: whether alarms keep to their budget, and whether normal traffic is still the same."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge

from pipeline.drift import Closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the metrics of a panel's watch are about."""

    alpha: float
    alarms_per_hour: float | None = None  # the panel's budget; None where alpha was given
    features: tuple[str, ...] = ()  # that are compared, in the order of `Closed.indices`
    models: tuple[tuple[str, str], ...] = ()  # name and version, in the order of `Closed.distances`


class WatchMetrics:
    """Gauges of the last hour of all lanes of a process, and of the window that was closed last."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._last_hour: dict[int, tuple[int, int]] = {}
        self._watched = Watched(alpha=0.0)
        self._budget(registry)
        self._drift(registry)

    def _budget(self, registry: CollectorRegistry) -> None:
        self._flagged = Gauge(
            "weir_flagged_records_per_hour",
            "Flagged flows in the last hour of lane clock, of all lanes of this process.",
            registry=registry,
        )
        self._allowed = Gauge(
            "weir_alert_budget_records_per_hour",
            "Flagged flows an hour that the panel's budget allows; without one, alpha times the flows of the "
            "last hour.",
            registry=registry,
        )
        self._used = Gauge(
            "weir_alert_budget_used_ratio",
            "Flagged flows in the last hour of lane clock over the budget; about 1 or less on normal "
            "traffic. With panel.budget the ratios of processes add up.",
            registry=registry,
        )

    def _drift(self, registry: CollectorRegistry) -> None:
        self._distance = Gauge(
            "weir_p_value_uniformity_distance",
            "Distance of a model's p-values above alpha to uniform, in the last window that was closed; 0 is "
            "uniform.",
            ("name", "version"),
            registry=registry,
        )
        self._distance_limit = Gauge(
            "weir_p_value_uniformity_limit",
            "Distance above which a window counts as drift: 0.1, or more where windows of calibration went "
            "farther.",
            ("name", "version"),
            registry=registry,
        )
        self._statistic = Gauge(
            "weir_drift_statistic",
            "How far a feature lay from the same hours of training in the last window that was closed; psi: "
            "population stability index.",
            ("monitor", "feature"),
            registry=registry,
        )
        self._limit = Gauge(
            "weir_drift_limit",
            "Statistic above which a window counts as drift: 0.25, or more where windows of training went "
            "farther.",
            ("monitor", "feature"),
            registry=registry,
        )
        self._detected = Counter(
            "weir_drift_detected", "Windows that a monitor found moved.", ("monitor",), registry=registry
        )
        for monitor in ("psi", "uniformity", "flagged"):
            self._detected.labels(monitor)  # shown as 0, so that an alarm can be set on it

    def set_panel(self, watched: Watched) -> None:
        """Say what is watched."""
        self._watched = watched

    def set_last_hour(self, lane: int, rows: int, flagged: int) -> None:
        """Say how many flows a lane had in the last hour of its clock, and how many were flagged."""
        self._last_hour[lane] = (rows, flagged)
        n_rows, n_flagged = map(sum, zip(*self._last_hour.values(), strict=True))
        budget = self._watched.alarms_per_hour
        allowed = self._watched.alpha * n_rows if budget is None else budget
        self._flagged.set(n_flagged)
        self._allowed.set(allowed)
        self._used.set(n_flagged / allowed if allowed else 0.0)

    def set_closed(self, closed: Closed) -> None:
        """Say what the window of a lane has shown."""
        for name, index, limit in zip(self._watched.features, closed.indices, closed.limits, strict=False):
            self._statistic.labels("psi", name).set(index)
            self._limit.labels("psi", name).set(limit)
        for labels, distance, limit in zip(
            self._watched.models, closed.distances, closed.p_limits, strict=False
        ):
            self._distance.labels(*labels).set(distance)
            self._distance_limit.labels(*labels).set(limit)
        for monitor in closed.drift.monitors if closed.drift else ():
            self._detected.labels(monitor).inc()

    def forget(self) -> None:
        """Drop the last hours of all lanes."""
        self._last_hour.clear()
