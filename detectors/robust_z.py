"""The simplest baseline: how many robust standard deviations the oddest feature lies off."""

from typing import Any, Self

import numpy as np

from detectors.base import (
    Detector,
    Explanation,
    Matrix,
    Progress,
    Scores,
    State,
    Term,
    check_rows,
    fitted,
    no_progress,
)
from detectors.checks import check_training
from detectors.parameters import parameters_of
from detectors.state import array
from detectors.tiles import LARGEST, Projection

# 1 / Phi^-1(3/4): makes the MAD estimate sigma on Gaussian data [1].
MAD_TO_SIGMA = 1.482602218505602


class RobustZScore(Detector):
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
    columns = frozenset({"numeric", "binary", "categorical"})

    def __init__(self) -> None:
        self._model: tuple[Scores, Scores] | None = None

    def fit(
        self,
        normal: Matrix,
        *,
        held_out: Matrix,
        rng: np.random.Generator,
        anomalies: Matrix | None = None,
        unlabelled: Matrix | None = None,
        progress: Progress = no_progress,
    ) -> Self:
        """Learn median and scale of each feature; `held_out`, `rng` and the rest are not needed."""
        del rng, anomalies, unlabelled
        check_training(self, normal, held_out, least=1)
        median = np.median(normal, axis=0)
        mad = np.median(np.abs(normal - median), axis=0) * MAD_TO_SIGMA
        scale = np.where(mad > 0, mad, normal.std(axis=0))
        self._model = (median, np.where(scale > 0, scale, 1.0))
        progress("median and scale", 1.0)
        return self

    def score(self, x: Matrix) -> Scores:
        """Return the largest absolute z-score of each flow: 3 is three robust standard deviations."""
        scores: Scores = self.terms(x).max(axis=1)
        return scores

    def terms(self, x: Matrix) -> Matrix:
        """Return the absolute z-score of each feature, (n, d)."""
        return np.abs(self._deviations(x, "terms"))

    def explain(self, x: Matrix) -> Explanation:
        """Say how far each feature lies from its median, and to which side."""
        deviations = self._deviations(x, "explain")
        median, scale = fitted(self, self._model, "explain")
        projection = Projection(np.diag(1.0 / scale), -median / scale)
        return Explanation(
            score_kind="largest_robust_z",
            additive=False,
            labels=self.labels,
            terms=np.abs(deviations),
            deviations=deviations,
            contributions=projection.contributions(x),
            constants=projection.constants,
            expected=np.broadcast_to(median, x.shape).copy(),
        )

    @property
    def labels(self) -> tuple[Term, ...]:
        """One feature term a column."""
        return tuple(Term(kind="feature", id=f"c{j}") for j in range(self.n_columns))

    @property
    def n_columns(self) -> int:
        """Number of columns seen in `fit`."""
        return fitted(self, self._model, "n_columns")[0].size

    def parameters(self) -> dict[str, Any]:
        """Return nothing: there are no hyper-parameters."""
        return parameters_of(self)

    def state(self) -> State:
        """Return medians and scales."""
        median, scale = fitted(self, self._model, "state")
        return State(arrays={"median": median, "scale": scale})

    def restore(self, state: State) -> Self:
        """Take over medians and scales."""
        median = array(state, "median", None)
        self._model = (median, array(state, "scale", median.size))
        return self

    def _deviations(self, x: Matrix, method: str) -> Matrix:
        median, scale = fitted(self, self._model, method)
        check_rows(x, median.size, where=f"{self.name}.{method}")
        deviations: Matrix = (np.clip(x, -LARGEST, LARGEST) - median) / scale
        return deviations
