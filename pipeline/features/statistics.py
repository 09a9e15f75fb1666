"""What a fit needs to know of each feature: range and scale of numbers, categories seen."""

import math
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from pipeline.features.base import Feature

Floats = npt.NDArray[np.float64]
Scaling = Literal["standard", "minmax"]

SD_FLOOR = 1e-3
"""Least standard deviation, as a share of the range seen in `fit`."""

TOLERANCE = 1e-6
"""Relative difference that counts as none: features travel as float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberStats:
    """What `fit` saw of a numeric or yes/no feature."""

    low: float  # least and greatest raw value
    high: float
    centre: float  # of the transformed value
    scale: float

    def __post_init__(self) -> None:
        numbers = (self.low, self.high, self.centre, self.scale)
        if not all(math.isfinite(number) for number in numbers) or self.low > self.high or self.scale <= 0:
            raise ValueError(f"{self} makes no sense")

    @property
    def tolerance(self) -> float:
        """How far outside [low, high] a raw value still counts as inside."""
        return TOLERANCE * max(abs(self.low), abs(self.high))

    @property
    def constant(self) -> bool:
        """Whether there is nothing to learn from this feature."""
        return self.high - self.low <= self.tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryStats:
    """What `fit` saw of a categorical feature."""

    seen: tuple[int, ...]  # codes, rising

    @property
    def constant(self) -> bool:
        """Whether there was one category only."""
        return len(self.seen) == 1

    def within(self, n_categories: int) -> Self:
        """Return this, if its codes are codes of so many categories.

        Raises
        ------
        ValueError
            If they are not.
        """
        if not set(self.seen) <= set(range(n_categories + 1)) or not self.seen:
            raise ValueError(f"categories {self.seen}, expected some of 0 to {n_categories}")
        return self


Stats = NumberStats | CategoryStats


def transformed(feature: Feature, values: npt.NDArray[Any]) -> Floats:
    """Return raw values as float64, through sign(v) log1p(|v|) where the feature says so."""
    wide = values.astype(np.float64)
    if feature.transform == "none":
        return wide
    return np.copysign(np.log1p(np.abs(wide)), wide)


def statistics(feature: Feature, values: npt.NDArray[Any], scaling: Scaling) -> Stats:
    """Return what there is to know of a feature's values in the rows of a fit."""
    if feature.kind == "categorical":
        return CategoryStats(seen=tuple(np.unique(values).tolist()))
    low, high = float(values.min()), float(values.max())
    moved = transformed(feature, values)
    least, span = float(moved.min()), float(np.ptp(moved))
    if span == 0:
        return NumberStats(low=low, high=high, centre=least, scale=1.0)
    if scaling == "minmax":
        return NumberStats(low=low, high=high, centre=least, scale=span)
    scale = max(float(moved.std()), SD_FLOOR * span)
    return NumberStats(low=low, high=high, centre=float(moved.mean()), scale=scale)
