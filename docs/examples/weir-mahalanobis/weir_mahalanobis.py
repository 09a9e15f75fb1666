"""A detector of your own: install this package, and `weir train DATASET --detector mahalanobis` works."""

from dataclasses import dataclass

import numpy as np

from detectors.base import Explanation, Matrix, Scores, State, Term
from detectors.model import ModelDetector, Training
from detectors.parameters import between
from detectors.state import array
from detectors.tiles import Projection, by_tiles


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """What has been learned: v = W (x - mean), whose squares sum to the squared distance."""

    mean: Scores  # (d,)
    whitening: Matrix  # W, (d, d): the symmetric root, so that each v stays close to its column

    @property
    def _map(self) -> Projection:
        return Projection(self.whitening, -self.whitening @ self.mean)

    @property
    def n_columns(self) -> int:
        """Number of matrix columns."""
        return self.mean.size

    @property
    def labels(self) -> tuple[Term, ...]:
        """One term a column."""
        return tuple(Term(kind="feature", id=f"c{j}") for j in range(self.n_columns))

    def score(self, x: Matrix) -> Scores:
        """Return the squared distance of each row."""
        return by_tiles(x, self._map.squared_norms, 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return the squares that sum to it."""
        return self._map(x) ** 2

    def explain(self, x: Matrix) -> Explanation:
        """Say which columns push each v."""
        return Explanation(
            score_kind="squared_mahalanobis",
            additive=True,
            labels=self.labels,
            terms=self.terms(x),
            deviations=self._map(x),
            contributions=self._map.contributions(x),
            constants=self._map.constants,
            expected=np.broadcast_to(self.mean, x.shape).copy(),
        )

    def state(self) -> State:
        """Return all of it."""
        return State(arrays={"mean": self.mean, "whitening": self.whitening})


@dataclass(kw_only=True, eq=False)
class Mahalanobis(ModelDetector):
    """Score a flow by its squared Mahalanobis distance from normal traffic.

    Parameters
    ----------
    shrinkage : float
        Share of a multiple of the identity in the covariance: keeps it invertible.
    """

    shrinkage: float = 0.01

    name = "mahalanobis"

    def check(self) -> None:
        """Refuse parameters out of their range."""
        between("shrinkage", self.shrinkage, 0.0, 1.0)

    def learn(self, data: Training) -> Model:
        """Return mean and whitening of the normal rows."""
        mean = data.normal.mean(axis=0)
        covariance = np.atleast_2d(np.cov(data.normal.T))
        size = max(float(np.trace(covariance)) / mean.size, 1e-12)
        mixed = (1 - self.shrinkage) * covariance + self.shrinkage * size * np.eye(mean.size)
        values, vectors = np.linalg.eigh(mixed)
        data.progress("covariance", 1.0)
        return Model(mean, np.ascontiguousarray((vectors / np.sqrt(values)) @ vectors.T))

    def revive(self, state: State) -> Model:
        """Return the model that a state holds."""
        mean = array(state, "mean", None)
        return Model(mean, array(state, "whitening", mean.size, mean.size))
