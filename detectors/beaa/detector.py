"""The detector: parameters, fit, scores, explanations."""

from dataclasses import dataclass, field
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
from detectors.beaa.model import Model
from detectors.beaa.plan import Plan
from detectors.beaa.training import fit_model
from detectors.checks import check_training
from detectors.parameters import parameters_of

LEAST_ROWS = 10
"""Fewer normal rows say nothing about dependencies."""


@dataclass(kw_only=True, eq=False)
class BEAA(Plan, Detector):
    """Bayesian evolutive adversarial autoencoder [1]_: explained by noise directions.

    A static discriminator D learns the normal rows; a generator G (noise nodes to attributes)
    evolves until D takes its rows for normal; its inverse R gives the noise expected for a row. A
    row is anomalous if its noise is unusual, or if G cannot rebuild it from that noise.

    `selection="truncation"` is the paper's Algorithm 2. It is unstable, as the paper says: keeping
    the rows that D likes best shrinks G towards the mode of D. `selection="importance"`, the
    default, weighs rows by p_D / p_G, starts from the data, stops by held-out normal rows and lets
    an ensemble vote.

    An ensemble's squared norms are the means of its members'. The first member, which has seen all
    normal rows, is published: directions, deviations and contributions are its own, and the terms
    are the ensemble's score in the proportions of its own squares. So the members vote on how
    anomalous a row is, one of them says why, and the terms sum to the score.

    The parameters are those of `Plan`.

    References
    ----------
    .. [1] Casajús-Setién, Bielza & Larrañaga, Bayesian network evolutive autoencoder for anomaly
       detection, sections 4 and 5.
    """

    name = "beaa"

    _model: Model | None = field(default=None, init=False, repr=False)

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
        """Train D, G and R on normal rows; stop, choose m and whiten by held-out normal rows."""
        del anomalies, unlabelled
        check_training(self, normal, held_out, least=LEAST_ROWS)
        self._model = fit_model(self, normal, held_out, rng, progress)
        return self

    def score(self, x: Matrix) -> Scores:
        """Return how unusual the noise and the residuals of each flow are, in [0, inf)."""
        return self._checked(x, "score").score(x)

    def terms(self, x: Matrix) -> Matrix:
        """Return the part of each noise direction, then of each residual; they sum to the score."""
        return self._checked(x, "terms").terms(x)

    def explain(self, x: Matrix) -> Explanation:
        """Say which noise directions and residuals make the score, and which columns push them."""
        model = self._checked(x, "explain")
        return Explanation(
            score_kind=self.measure if self.whitening == "none" else f"whitened_{self.measure}",
            additive=True,
            labels=self.labels,
            terms=model.terms(x),
            deviations=model.deviations(x),
            contributions=model.deviations.contributions(x),
            constants=model.deviations.constants,
            expected=model.expected(x),
        )

    @property
    def labels(self) -> tuple[Term, ...]:
        """Noise directions n1 .. nm, by the variance they explain; then a residual a column."""
        model = fitted(self, self._model, "labels")
        directions = (Term(kind="noise_direction", id=f"n{k + 1}") for k in range(model.n_noise))
        residuals = (Term(kind="residual", id=f"c{j}") for j in range(model.n_columns))
        return (*directions, *residuals)

    @property
    def n_columns(self) -> int:
        """Number of columns seen in `fit`."""
        return fitted(self, self._model, "n_columns").n_columns

    @property
    def report(self) -> dict[str, Any]:
        """How training went: m, and for each member epochs, likelihoods, spread, why it stopped."""
        return fitted(self, self._model, "report").report

    @property
    def loadings(self) -> Matrix:
        """What one standard deviation of each noise direction does to the columns, (d, m), in units of x."""
        return fitted(self, self._model, "loadings").loadings

    def parameters(self) -> dict[str, Any]:
        """Return the hyper-parameters."""
        return parameters_of(self)

    def state(self) -> State:
        """Return maps, loadings and the training report."""
        return fitted(self, self._model, "state").state()

    def restore(self, state: State) -> Self:
        """Take over a saved state."""
        self._model = Model.restored(state, self.measure)
        return self

    def _checked(self, x: Matrix, method: str) -> Model:
        model = fitted(self, self._model, method)
        check_rows(x, model.n_columns, where=f"{self.name}.{method}")
        return model
