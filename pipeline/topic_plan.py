"""Which topics an installation needs, and whether its settings fit together."""

import re
from collections.abc import Mapping

from connectors.topics import FOREVER, Topics, TopicSpec
from pipeline.errors import FeatureSetError
from pipeline.settings import Settings

MS_PER_HOUR = 3_600_000


def stages(settings: Settings) -> tuple[str, ...]:
    """Return the stages that an installation runs, each a worker process or several."""
    return ("detect", "alerts") if settings.features.inline else ("features", "detect", "alerts")


def topic_specs(settings: Settings) -> list[TopicSpec]:
    """Return the topics of the configured feature set and panel, in the order of a flow's way."""
    planned = settings.topics
    topics = Topics(planned.prefix)

    def spec(name: str, partitions: int, retention_h: float) -> TopicSpec:
        return TopicSpec(
            name=name,
            partitions=partitions,
            replication_factor=planned.replication_factor,
            retention_ms=round(retention_h * MS_PER_HOUR),
        )

    features = topics.features(settings.features.feature_set)
    detections = topics.detections(settings.panel.name)
    hop = [] if settings.features.inline else [spec(features, planned.lanes, planned.features_retention_h)]
    return [
        spec(topics.flows, planned.lanes, planned.flows_retention_h),
        *hop,
        spec(detections, planned.lanes, planned.detections_retention_h),
        # One partition each: few messages, and their readers want one order.
        spec(topics.alerts, 1, planned.alerts_retention_h),
        spec(topics.dead_letters, 1, planned.dead_letters_retention_h),
    ]


def owned(prefix: str, names: list[str]) -> list[str]:
    """Return the topics of an installation among `names`, those of every feature set and panel included.

    Examples
    --------
    >>> owned("weir", ["weir.flows.v1", "weir.test.flows.v1", "weir.features.conn.v1", "weirs.alerts.v1"])
    ['weir.flows.v1', 'weir.features.conn.v1']
    """
    kinds = r"(flows|alerts|dead-letters|(features|detections)\.[^/]+)"
    pattern = re.compile(rf"{re.escape(prefix)}\.{kinds}\.v1")
    return [name for name in names if pattern.fullmatch(name)]


def conflicts(settings: Settings) -> list[str]:
    """Return what cannot work together although each setting alone is good."""
    from pipeline.features.feature_sets import feature_set

    try:
        chosen = feature_set(settings.features.feature_set)
    except FeatureSetError as error:
        return [f"features.feature_set: {error}"]
    if settings.writer.lane_by != "sensor" and chosen.windows is not None:
        problem = (
            f"writer.lane_by: {settings.writer.lane_by} does not go with feature set {chosen.name}: it has "
            "windows by source, by destination and by pair, and each must see all its flows in one lane; "
            "set writer.lane_by to sensor, or use a feature set without windows"
        )
        return [problem]
    return []


def too_short(kept: Mapping[str, float], flows: str, journal: str) -> str:
    """Return what to do where a journal topic is kept shorter than its flows; "" where all is well."""
    if kept.get(journal, FOREVER) >= kept.get(flows, 0.0):
        return ""
    least = kept[flows] if kept[flows] != FOREVER else -1
    return f"set retention.ms of {journal} to at least {least:.0f}: it is the journal of its lanes"


def hours(ms: float) -> str:
    """Return a retention as people write it."""
    return "for ever" if ms == FOREVER else f"{ms / MS_PER_HOUR:g} h"
