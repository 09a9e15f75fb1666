"""What checks find, and the checks of a panel: whether its models can judge, and together."""

import math
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
        advice = "train one (weir train), then name it in panel.models"
        yield Finding(check="model", good=False, found=f"panel {panel.name} has no models", advice=advice)
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
        beside = f", {len(shadows)} in the shadow" if shadows else ""
        found = f"{panel.name}: {len(bundles)} deciding by {panel.fusion}{beside}"
        yield Finding(check="panel", good=True, found=found)
    for bundle in bundles:
        yield from _reach(bundle, panel, len(bundles))


def _computed(bundle: "Bundle", name: str) -> Finding:
    from pipeline.features.feature_sets import feature_set

    expected = feature_set(name).id
    good = bundle.feature_set.id == expected
    found = f"{bundle.name}/{bundle.version} is whole, on feature set {bundle.feature_set.id}"
    advice = "" if good else f"features workers compute {expected}: set features.feature_set, or train again"
    return Finding(check="model", good=good, found=found, advice=advice)


def _reach(bundle: "Bundle", panel: PanelSettings, n_deciding: int) -> Iterator[Finding]:
    """Yield whether a model's p-values reach as low as a flag of the panel needs."""
    from pipeline.panel import FUSIONS

    if panel.fusion not in FUSIONS and panel.fusion != bundle.name:
        return  # another one decides alone
    shares = {"min": n_deciding, "mean": math.e}
    needed = panel.alpha / (shares.get(panel.fusion, 1) if n_deciding > 1 else 1)
    calibration = bundle.calibration
    name, rows = f"{bundle.name}/{bundle.version}", calibration.scores.size
    found = f"{rows:,} calibration rows of {name} support p-values down to {calibration.resolution:.2g}; "
    found += f"a flag needs {needed:.2g}{' on average' if panel.fusion == 'mean' and n_deciding > 1 else ''}"
    if calibration.resolution <= needed:
        yield Finding(check="alpha", good=True, found=found)
    elif calibration.tail is not None:
        yield Finding(check="alpha", good=True, found=f"{found}, which its tail extrapolates")
    else:
        advice = "train on more normal traffic, so that more of it calibrates, or raise panel.alpha"
        yield Finding(check="alpha", good=False, found=found, advice=advice)
