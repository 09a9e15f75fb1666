"""The simplest baseline: how many robust standard deviations the oddest feature lies off."""

from dataclasses import dataclass

import numpy as np

from detectors.base import Explanation, Matrix, Scores, State, Term
from detectors.model import ModelDetector, Training
from detectors.state import array
from detectors.tiles import LARGEST, Projection

# 1 / Phi^-1(3/4): makes the MAD estimate sigma on Gaussian data [1].
MAD_TO_SIGMA = 1.482602218505602


@dataclass(frozen=True, slots=True, eq=False)
class RobustScales:
    """Where the middle of each feature lies, and how far from it is usual."""

    median: Scores
    scale: Scores

    @property
    def labels(self) -> tuple[Term, ...]:
        """One feature term a column."""
        return tuple(Term(kind="feature", id=f"c{j}") for j in range(self.n_columns))

    @property
    def n_columns(self) -> int:
        """Number of columns."""
        return self.median.size

    def score(self, x: Matrix) -> Scores:
        """Return the largest absolute z-score of each flow: 3 is three robust standard deviations."""
        scores: Scores = self.terms(x).max(axis=1)
        return scores

    def terms(self, x: Matrix) -> Matrix:
        """Return the absolute z-score of each feature, (n, d)."""
        return np.abs(self._deviations(x))

    def explain(self, x: Matrix) -> Explanation:
        """Say how far each feature lies from its median, and to which side."""
        deviations = self._deviations(x)
        projection = Projection(np.diag(1.0 / self.scale), -self.median / self.scale)
        return Explanation(
            score_kind="largest_robust_z",
            additive=False,
            labels=self.labels,
            terms=np.abs(deviations),
            deviations=deviations,
            contributions=projection.contributions(x),
            constants=projection.constants,
            expected=np.broadcast_to(self.median, x.shape).copy(),
        )

    def state(self) -> State:
        """Return medians and scales."""
        return State(arrays={"median": self.median, "scale": self.scale})

    def _deviations(self, x: Matrix) -> Matrix:
        deviations: Matrix = (np.clip(x, -LARGEST, LARGEST) - self.median) / self.scale
        return deviations


@dataclass(kw_only=True, eq=False)
class RobustZScore(ModelDetector):
    """Score a flow by its largest robust z-score over the features.

    The scale of a feature is its median absolute deviation; where that is zero (more than half of
    the rows equal), the standard deviation; where that is zero too, 1. The score is a maximum, so
    it is not additive: the terms are the features' own absolute z-scores.

    References
    ----------
    .. [1] Rousseeuw & Croux (1993), JASA 88(424), 1273-1283.

    Examples
    --------
    >>> x = np.array([[1.0], [2.0], [3.0]])
    >>> RobustZScore().fit(x, held_out=x, rng=np.random.default_rng(0)).score(x[:1])
    array([0.67448975])
    """

    name = "robust_z"
    least_rows = 1
    columns = frozenset({"numeric", "binary", "categorical"})

    def learn(self, data: Training) -> RobustScales:
        """Learn median and scale of each feature; held-out rows and chance are not needed."""
        median = np.median(data.normal, axis=0)
        mad = np.median(np.abs(data.normal - median), axis=0) * MAD_TO_SIGMA
        scale = np.where(mad > 0, mad, data.normal.std(axis=0))
        data.progress("median and scale", 1.0)
        return RobustScales(median, np.where(scale > 0, scale, 1.0))

    def revive(self, state: State) -> RobustScales:
        """Return medians and scales."""
        median = array(state, "median", None)
        return RobustScales(median, array(state, "scale", median.size))
