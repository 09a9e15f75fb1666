"""One model for each value of a categorical feature: checked, made, and told."""

from collections.abc import Mapping
from typing import Any

from detectors import registry
from detectors.base import Detector
from detectors.contexts import Contexts
from detectors.registry import nearest
from pipeline.features.base import FeatureSet
from pipeline.features.normaliser import OTHER, Normaliser
from training.errors import TrainingError


def check_feature(feature_set: FeatureSet, name: str) -> None:
    """Refuse a feature that cannot tell contexts apart.

    Raises
    ------
    TrainingError
        If it is no categorical feature of the set.
    """
    known = [feature.name for feature in feature_set.features if feature.kind == "categorical"]
    if name not in known:
        listed = ", ".join(known) or "none"
        raise TrainingError(
            f"contexts: {name!r} is no categorical feature of {feature_set.name}{nearest(name, known)}; "
            f"known: {listed}"
        )


def in_contexts(detector: Detector, normaliser: Normaliser) -> Detector:
    """Return an unfitted detector that fits one like `detector` for each category of the context.

    Raises
    ------
    TrainingError
        If the rows of the fit are all of one category.
    ParameterError
        If the detector looks back on rows, or learns from more than normal ones.
    """
    routes = {
        at: column.category
        for at, column in enumerate(normaliser.columns)
        if column.feature == normaliser.context
    }
    if not routes:
        raise TrainingError(
            f"contexts: {normaliser.context} has one value in the rows to fit on: there is nothing to tell "
            "apart; leave contexts out, or give it more traffic"
        )
    names = ["" if category in {OTHER, None} else category for category in routes.values()]
    settings = {
        "detector": detector.name,
        "settings": detector.parameters(),
        "routes": list(routes),
        "names": names,
    }
    return registry.create("contexts", settings)


def told(detector: Detector, feature: str | None) -> Mapping[str, Any] | None:
    """Return what a manifest records of contexts: the feature, and the rows that each model has seen."""
    if not isinstance(detector, Contexts):
        return None
    rows = {context.name: {"fit": context.n_fit, "val": context.n_held_out} for context in detector.contexts}
    return {"feature": feature, "rows": rows}
