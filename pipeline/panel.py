"""Panels: the models that give one verdict together, and how they decide."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Scores
from pipeline.budget import Budget, panel_budget
from pipeline.bundle import Bundle, detector_words, load_bundle
from pipeline.errors import BundleError
from pipeline.settings_sections import PanelSettings

FUSIONS = ("min", "mean")
"""Ways to fuse p-values; the name of a member is another one."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The models that give one verdict together, and how they decide.

    Parameters
    ----------
    name : str
        In topic and group names.
    alpha : float
        A flow is flagged if its fused p-value is at most this.
    bundles : tuple of Bundle
        The members that decide.
    fusion : str
        How the p-values of n members become one [1]_, valid whatever their dependence:
        "min", n times the smallest, at most 1: one member that is sure suffices;
        "mean", e times their geometric mean (the mean of -log p), at most 1: most members must doubt;
        or the name of a member, whose p-value it is.
    shadows : tuple of Bundle
        Members that are scored and reported, but never decide.
    budget : Budget, optional
        What `alpha` follows from.

    Raises
    ------
    BundleError
        If no member decides, a member occurs twice or cannot judge a stream, the members are of
        different feature sets, or `fusion` is none.

    References
    ----------
    .. [1] Vovk & Wang (2020), Combining p-values via averaging, Biometrika 107(4), table 1.
    """

    name: str
    alpha: float
    bundles: tuple[Bundle, ...]
    fusion: str = "min"
    shadows: tuple[Bundle, ...] = ()
    budget: Budget | None = None

    def __post_init__(self) -> None:
        if problems := mismatches(self.name, self.bundles, self.shadows, self.fusion):
            raise BundleError("; ".join(problems))

    @cached_property
    def members(self) -> tuple[Bundle, ...]:
        """All models: those that decide, then the shadows."""
        return (*self.bundles, *self.shadows)

    @property
    def feature_set_id(self) -> str:
        """Name and hash of the feature set that all models share."""
        return self.bundles[0].feature_set.id

    def fused(self, p_values: Matrix) -> Scores:
        """Return the panel's p-value of each row from those of the deciding members, (n_members, n)."""
        n = len(self.bundles)
        fused: Scores = p_values[0 if self.fusion in FUSIONS else self._named]
        if n > 1 and self.fusion == "min":
            fused = np.minimum(1.0, p_values.min(axis=0) * n)
        if n > 1 and self.fusion == "mean":
            # One member after another: a sum along an axis takes another order for other shapes.
            logs = sum(np.log(row) for row in p_values)
            fused = np.minimum(1.0, np.exp(1.0 + logs / n))
        return fused

    def decided(self, p_values: Matrix) -> npt.NDArray[np.intp]:
        """Return which deciding member explains each row: the one named by the fusion, or the surest."""
        if self.fusion not in FUSIONS:
            return np.full(p_values.shape[1], self._named, dtype=np.intp)
        surest: npt.NDArray[np.intp] = p_values.argmin(axis=0)
        return surest

    @property
    def _named(self) -> int:
        return [bundle.name for bundle in self.bundles].index(self.fusion)

    def card(self) -> dict[str, Any]:
        """Return what alerts say of the panel, as JSON."""
        return {
            "name": self.name,
            "alpha": self.alpha,
            "fusion": self.fusion,
            "feature_set": self.feature_set_id,
            "models": [
                {
                    "name": bundle.name,
                    "version": bundle.version,
                    "sha256": bundle.sha256,
                    "detector": detector_words(bundle.manifest),
                    **({"shadow": True} if index >= len(self.bundles) else {}),
                }
                for index, bundle in enumerate(self.members)
            ],
        }


def load_panel(settings: PanelSettings) -> Panel:
    """Return the panel of the settings, every byte of its models checked.

    Raises
    ------
    BundleError
        If a model is missing or damaged, or the models do not go together.
    SettingsError
        If a budget is given and the rate of flows is not known.
    """
    bundles, shadows = (
        tuple(load_bundle(model, settings.models_dir) for model in models)
        for models in (settings.models, settings.shadow)
    )
    budget = panel_budget(settings, bundles)
    return Panel(
        name=settings.name,
        alpha=budget.alpha if budget else settings.alpha,
        bundles=bundles,
        fusion=settings.fusion,
        shadows=shadows,
        budget=budget,
    )


def mismatches(name: str, bundles: Sequence[Bundle], shadows: Sequence[Bundle], fusion: str) -> list[str]:
    """Return why models cannot judge a stream together, one sentence each; nothing if they can."""
    if not bundles:
        return [f"panel {name} has no models that decide; name at least one in panel.models"]
    members = {f"{bundle.name}/{bundle.version}": bundle for bundle in (*bundles, *shadows)}
    found: list[str] = []
    if len(members) < len(bundles) + len(shadows):
        found.append(f"panel {name} has a model twice among {', '.join(members)}; name each once")
    if len({bundle.feature_set.id for bundle in members.values()}) > 1:
        listed = ", ".join(f"{member} ({bundle.feature_set.id})" for member, bundle in members.items())
        found.append(
            f"panel {name} mixes feature sets, expected one: {listed}; make a panel for each, or train again"
        )
    found += [
        f"{member} is a {bundle.detector.name}, which judges offline only: too slow for a stream; "
        "use it with weir evaluate"
        for member, bundle in members.items()
        if bundle.detector.mode == "offline"
    ]
    return [*found, *_unknown_fusion(bundles, shadows, fusion)]


def _unknown_fusion(bundles: Sequence[Bundle], shadows: Sequence[Bundle], fusion: str) -> list[str]:
    deciding = [bundle.name for bundle in bundles]
    if fusion in FUSIONS or deciding.count(fusion) == 1:
        return []
    if fusion in deciding:
        return [f"panel.fusion {fusion!r} names two versions that decide; leave one of them out"]
    why = "is a shadow, which never decides" if fusion in {b.name for b in shadows} else "is no way to decide"
    return [f"panel.fusion {fusion!r} {why}; expected one of {', '.join([*FUSIONS, *deciding])}"]
