"""What checks find, and the checks of a panel: whether its models can judge, and together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detectors.errors import DetectorError
from pipeline.errors import PipelineError
from pipeline.settings import Settings
from pipeline.settings_sections import PanelSettings

if TYPE_CHECKING:
    from pipeline.bundle import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found."""

    check: str
    good: bool
    found: str
    advice: str = ""  # what to do, where it is bad


def panel_findings(settings: Settings) -> Iterator[Finding]:
    """Yield on each model of the panel, on how they go together, and on what alpha asks of them."""
    from pipeline.bundle import load_bundle

    panel = settings.panel
    loaded: dict[str, Bundle] = {}
    for name in (*panel.models, *panel.shadow):
        try:
            loaded[name] = load_bundle(name, panel.models_dir)
        except (PipelineError, DetectorError) as error:
            advice = "see what there is with: weir models list; train it again if it is damaged"
            yield Finding(check="model", good=False, found=f"{name}: {error}", advice=advice)
    yield from (_computed(bundle, settings.features.feature_set) for bundle in loaded.values())
    if not panel.models:
        advice = "train one (weir train), then name it in panel.models"
        yield Finding(check="model", good=False, found=f"panel {panel.name} has no models", advice=advice)
    elif {*panel.models, *panel.shadow} <= set(loaded):
        bundles = [loaded[name] for name in panel.models]
        yield from _together(panel, bundles, [loaded[name] for name in panel.shadow])


def _together(
    panel: PanelSettings, bundles: Sequence["Bundle"], shadows: Sequence["Bundle"]
) -> Iterator[Finding]:
    from pipeline.budget import panel_budget, shares
    from pipeline.panel import mismatches

    problems = mismatches(panel.name, bundles, shadows, panel.fusion)
    for problem in problems:
        what, _, advice = problem.rpartition("; ")
        yield Finding(check="panel", good=False, found=what, advice=advice)
    if not problems:
        beside = f", {len(shadows)} in the shadow" if shadows else ""
        found = f"{panel.name}: {len(bundles)} deciding by {panel.fusion}{beside}"
        yield Finding(check="panel", good=True, found=found)
    try:
        budget = panel_budget(panel, bundles)
    except PipelineError as error:
        what, _, advice = str(error).rpartition("; ")
        yield Finding(check="alpha", good=False, found=what, advice=advice)
        return
    if budget:
        yield Finding(check="budget", good=True, found=budget.stated)
    alpha = budget.alpha if budget else panel.alpha
    if not problems:
        for bundle, share in zip(bundles, shares(bundles, panel.fusion), strict=True):
            if share:
                average = panel.fusion == "mean" and len(bundles) > 1
                yield _reach(bundle, alpha / share, "on average" if average else "")
    yield _reference(bundles)


def _computed(bundle: "Bundle", name: str) -> Finding:
    from pipeline.features.feature_sets import feature_set

    expected = feature_set(name).id
    good = bundle.feature_set.id == expected
    found = f"{bundle.name}/{bundle.version} is whole, on feature set {bundle.feature_set.id}"
    advice = "" if good else f"features workers compute {expected}: set features.feature_set, or train again"
    return Finding(check="model", good=good, found=found, advice=advice)


def _reach(bundle: "Bundle", needed: float, how: str) -> Finding:
    """Return whether a model's p-values reach as low as a flag of the panel needs."""
    calibration = bundle.calibration
    name, rows = f"{bundle.name}/{bundle.version}", calibration.scores.size
    found = f"{rows:,} calibration rows of {name} support p-values down to {calibration.resolution:.2g}; "
    found += " ".join(["a flag needs", f"{needed:.2g}", *([how] if how else [])])
    if calibration.resolution <= needed:
        return Finding(check="alpha", good=True, found=found)
    if calibration.tail is not None:
        return Finding(check="alpha", good=True, found=f"{found}, which its tail extrapolates")
    advice = "train on more normal traffic, so that more of it calibrates, or raise panel.alpha"
    return Finding(check="alpha", good=False, found=found, advice=advice)


def _reference(bundles: Sequence["Bundle"]) -> Finding:
    """Return whether drift of the features can be seen; a panel without works all the same."""
    named = next((f"{b.name}/{b.version}" for b in bundles if b.reference is not None), None)
    if named is None:
        found = "no model has a reference: drift of the features cannot be seen; train again to see it"
        return Finding(check="drift", good=True, found=found)
    return Finding(check="drift", good=True, found=f"features are compared with the reference of {named}")
