"""What checks find, and the checks of a panel: whether its models can judge, and together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from detectors.errors import DetectorError
from pipeline.errors import PipelineError
from pipeline.settings import PanelSettings, Settings

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
        found, advice = (
            f"panel {panel.name} has no models",
            "train one (weir train), then name it in panel.models",
        )
        yield Finding(check="model", good=False, found=found, advice=advice)
    elif {*panel.models, *panel.shadow} <= set(loaded):
        bundles = [loaded[name] for name in panel.models]
        yield from _together(panel, bundles, [loaded[name] for name in panel.shadow])


def _together(
    panel: PanelSettings, bundles: Sequence["Bundle"], shadows: Sequence["Bundle"]
) -> Iterator[Finding]:
    from pipeline.panel import mismatches

    problems = mismatches(panel.name, bundles, shadows, panel.fusion)
    for problem in problems:
        what, _, advice = problem.rpartition("; ")
        yield Finding(check="panel", good=False, found=what, advice=advice)
    if not problems:
        members = f"{len(bundles)} deciding by {panel.fusion}" + (
            f", {len(shadows)} in the shadow" if shadows else ""
        )
        yield Finding(check="panel", good=True, found=f"{panel.name}: {members}")
    yield from (_reach(bundle, panel, len(bundles)) for bundle in bundles)


def _computed(bundle: "Bundle", name: str) -> Finding:
    from pipeline.features.feature_sets import feature_set

    expected = feature_set(name).id
    good = bundle.feature_set.id == expected
    found = f"{bundle.name}/{bundle.version} is whole, on feature set {bundle.feature_set.id}"
    advice = "" if good else f"features workers compute {expected}: set features.feature_set, or train again"
    return Finding(check="model", good=good, found=found, advice=advice)


def _reach(bundle: "Bundle", panel: PanelSettings, n_deciding: int) -> Finding:
    """Return whether a model's p-values reach as low as a flag of the panel needs."""
    named = panel.fusion == bundle.name
    needed = panel.alpha if named or n_deciding == 1 else panel.alpha / n_deciding
    calibration = bundle.calibration
    name, rows = f"{bundle.name}/{bundle.version}", calibration.scores.size
    least = f"the {rows:,} calibration rows of {name} support p-values down to {calibration.resolution:.2g}"
    if calibration.resolution <= needed:
        return Finding(check="alpha", good=True, found=f"{least}; a flag needs {needed:.2g}")
    if calibration.tail is not None:
        return Finding(
            check="alpha", good=True, found=f"{least}; a flag needs {needed:.2g}, which its tail extrapolates"
        )
    advice = (
        "calibrate on more normal traffic (weir train --max-rows ..., or more data), or raise panel.alpha"
    )
    return Finding(check="alpha", good=False, found=f"{least}; a flag needs {needed:.2g}", advice=advice)
