"""Which stages there are, and how each is built from the settings."""

from typing import Literal

import structlog

from connectors.topics import Topics
from pipeline.agents.alerts import AlertsRole
from pipeline.agents.detect import DetectRole
from pipeline.agents.features import FeaturesRole
from pipeline.agents.inline import InlineRole
from pipeline.agents.lane import Role
from pipeline.errors import FeatureSetError, PipelineError
from pipeline.features.feature_sets import feature_set
from pipeline.judge import Judge
from pipeline.panel import load_panel
from pipeline.settings import Settings
from pipeline.suppressions import load_suppressions
from pipeline.topic_plan import stages

log = structlog.get_logger()

Begin = Literal["latest", "earliest"]


def build_role(stage: str, settings: Settings, *, begin: Begin = "latest") -> Role:
    """Return the role of a stage, its models loaded and checked.

    Raises
    ------
    PipelineError
        If the stage is unknown, or a model or feature set is missing or damaged.
    """
    topics = Topics(prefix=settings.topics.prefix)
    if stage not in stages(settings):
        why = "features.inline is on: the detect workers make the features; " if stage == "features" else ""
        raise PipelineError(f"no stage {stage!r}: {why}start {', '.join(stages(settings))}")
    if stage == "features":
        return _features(settings, topics)
    if stage == "alerts":
        panel = settings.panel
        return AlertsRole(
            panel.name,
            topics,
            settings.grouping,
            drift_alerts=panel.drift_alerts,
            suppresses=settings.alerts.suppressions is not None,
        )
    judge = build_judge(settings)
    _say_how(judge)
    detect = DetectRole(judge.panel.bundles[0].feature_set, judge, topics, begin=begin)
    return _inline(_features(settings, topics), detect) if settings.features.inline else detect


def _features(settings: Settings, topics: Topics) -> FeaturesRole:
    chosen = feature_set(settings.features.feature_set)
    return FeaturesRole(chosen, topics, max_rows=settings.features.max_message_rows)


def _inline(features: FeaturesRole, detect: DetectRole) -> InlineRole:
    mine, models = features.feature_set.id, detect.card["feature_set"]
    if mine != models:
        raise FeatureSetError(
            f"features.feature_set is {mine}, the models of panel {detect.card['name']} were trained on "
            f"{models}; set features.feature_set, or train again"
        )
    if detect.judge.depth.rows:
        raise PipelineError(
            f"panel {detect.card['name']} looks back on {detect.judge.depth}, which features.inline "
            "cannot restore after a restart; set features.inline to false"
        )
    return InlineRole(features, detect)


def _say_how(judge: Judge) -> None:
    """Log what a person should know of how the panel decides and what it cannot see."""
    panel = judge.panel
    if panel.budget:
        spent = panel.budget.spent(panel.bundles, panel.fusion)
        log.info("alpha_from_budget", panel=panel.name, budget=spent)
    if judge.watcher.reference is None:
        log.warning(
            "no_reference",
            panel=panel.name,
            detail="models of an earlier version: features are not watched for drift; train again",
        )


def build_judge(settings: Settings) -> Judge:
    """Return the judge of the configured panel."""
    first = settings.grouping.first if settings.grouping.enabled else None
    suppressions = load_suppressions(settings.alerts.suppressions)
    return Judge(
        load_panel(settings.panel),
        first=first,
        bucket_s=settings.grouping.bucket_s,
        suppressions=suppressions,
    )
