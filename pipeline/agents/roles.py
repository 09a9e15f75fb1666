"""Which stages there are, and how each is built from the settings."""

from typing import Literal

from connectors.topics import Topics
from pipeline.agents.alerts import AlertsRole
from pipeline.agents.detect import DetectRole
from pipeline.agents.features import FeaturesRole
from pipeline.agents.lane import Role
from pipeline.bundle import load_bundle
from pipeline.errors import PipelineError
from pipeline.features.feature_sets import feature_set
from pipeline.judge import Judge, Panel
from pipeline.settings import Settings

STAGES = ("features", "detect", "alerts")

Begin = Literal["latest", "earliest"]


def build_role(stage: str, settings: Settings, *, begin: Begin = "latest") -> Role:
    """Return the role of a stage, its models loaded and checked.

    Raises
    ------
    PipelineError
        If the stage is unknown, or a model or feature set is missing or damaged.
    """
    topics = Topics(prefix=settings.topics.prefix)
    if stage == "features":
        chosen = feature_set(settings.features.feature_set)
        return FeaturesRole(chosen, topics, max_rows=settings.features.max_message_rows)
    if stage == "detect":
        judge = build_judge(settings)
        return DetectRole(judge.panel.bundles[0].feature_set, judge, topics, begin=begin)
    if stage == "alerts":
        return AlertsRole(settings.panel.name, topics, settings.grouping)
    raise PipelineError(f"no stage {stage!r}; expected one of {', '.join(STAGES)}")


def build_judge(settings: Settings) -> Judge:
    """Return the judge of the configured panel."""
    panel = settings.panel
    bundles = tuple(load_bundle(model, panel.models_dir) for model in panel.models)
    first = settings.grouping.first if settings.grouping.enabled else None
    return Judge(
        Panel(name=panel.name, alpha=panel.alpha, bundles=bundles),
        first=first,
        bucket_s=settings.grouping.bucket_s,
    )
