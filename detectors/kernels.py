"""Expansions in Gaussian kernels, and what support vector machines of both kinds share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detectors.base import Matrix, Scores, State
from detectors.errors import StateError
from detectors.networks import Pullback
from detectors.parameters import between, one_of
from detectors.parts.sum import Arrays, summed
from detectors.state import array

SAMPLE = 1000
"""Rows among which distances are measured: half a million pairs."""


@dataclass(frozen=True, slots=True, eq=False)
class Expansion:
    """f(u) = constant + sum_i weights_i exp(-gamma |u - centres_i|^2).

    Parameters
    ----------
    centres : ndarray of shape (m, d)
    weights : ndarray of shape (m,)
    constant, gamma : float

    Examples
    --------
    >>> f = Expansion.of(np.zeros((1, 2)), np.array([-3.0]), 1.0, 0.5)
    >>> f.on_tile(np.array([[0.0, 2.0], [0.0, 0.0]])).round(3)
    array([[-2.   ,  0.594]])
    """

    centres: Matrix
    weights: Scores
    constant: float
    gamma: float
    squares: Scores  # |centres|^2

    @classmethod
    def of(cls, centres: Matrix, weights: Scores, constant: float, gamma: float) -> "Expansion":
        """Return the function; centres without weight are left out."""
        used = weights != 0
        # Products of transposed arrays take other kernels: other bits than after saving.
        kept = np.ascontiguousarray(centres[used], dtype=np.float64)
        squares = np.einsum("ij,ij->i", kept, kept)
        return cls(kept, weights[used].astype(np.float64), float(constant), float(gamma), squares)

    def _parts(self, tile: Matrix) -> Matrix:
        """Return the summands, (m, n)."""
        distances = self.squares[:, None] - 2.0 * np.matmul(self.centres, tile) + summed(tile * tile)
        parts: Matrix = np.exp(-self.gamma * np.maximum(distances, 0.0))
        parts *= self.weights[:, None]
        return parts

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the values of a tile, (1, 256)."""
        return summed(self._parts(tile)) + self.constant

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the values, and the way back."""
        parts = self._parts(tile)
        total = summed(parts)

        def back(gradient: Matrix) -> Matrix:
            towards: Matrix = np.matmul(self.centres.T, parts) - tile * total
            return 2.0 * self.gamma * towards * gradient

        return total + self.constant, back

    def arrays(self) -> Arrays:
        """Return its numbers."""
        shape = np.array([self.constant, self.gamma])
        return {"centres": self.centres, "weights": self.weights, "shape": shape}

    def networks(self) -> Mapping[str, list[str]]:
        """Return nothing: there are none."""
        return {}

    @classmethod
    def restored(cls, state: State, n_columns: int) -> "Expansion":
        """Return what a state holds."""
        centres = array(state, "centres", None, n_columns)
        weights = array(state, "weights", len(centres))
        constant, gamma = array(state, "shape", 2).tolist()
        if gamma <= 0 or (weights == 0).any():
            raise StateError("the saved state has a kernel without width or weight; train the model again")
        return cls.of(centres, weights, constant, gamma)


LOCAL = 0.1
"""Narrow enough to see the gaps between clusters of rows, which the median distance bridges."""


def check_width(gamma: object) -> None:
    """Refuse what `width` does not take."""
    if isinstance(gamma, str):
        one_of("gamma", gamma, ["scale", "median", "local"])
    else:
        between("gamma", gamma, 0.0, 1e12)


def width(gamma: str | float, rows: Matrix, rng: np.random.Generator) -> float:
    """Return the factor of the squared distance in the kernel.

    "scale": one over the number of columns times the rows' variance, scikit-learn's; "median": one over
    the median squared distance of pairs of rows; "local": one over a tenth of that.
    """
    if not isinstance(gamma, str):
        return float(gamma)
    if gamma == "scale":
        typical = rows.shape[1] * float(rows.var())
    else:
        sample = rows[rng.permutation(len(rows))[:SAMPLE]]
        typical = float(np.median(_distances(sample))) * (LOCAL if gamma == "local" else 1.0)
    # Rows that are all alike have no width of their own; in their units, 1 is as good as any.
    return 1.0 / typical if typical > TINY else 1.0


TINY = 1e-12


def _distances(rows: Matrix) -> Scores:
    """Return the squared distances of all pairs of rows."""
    squares = np.einsum("ij,ij->i", rows, rows)
    found = squares[:, None] + squares[None, :] - 2.0 * rows @ rows.T
    pairs: Scores = np.maximum(found[np.triu_indices(len(rows), k=1)], 0.0)
    return pairs if pairs.size else np.zeros(1)


@dataclass(frozen=True, slots=True, eq=False)
class Landmarks:
    """Nystroem's approximation: rows as linear features, kernels seen from a sample of the rows.

    A linear function of the features is an expansion in kernels around the sample.
    """

    model: Any  # sklearn.kernel_approximation.Nystroem, fitted
    gamma: float

    @classmethod
    def of(cls, rows: Matrix, gamma: float, n_landmarks: int, rng: np.random.Generator) -> "Landmarks":
        """Return features seen from `n_landmarks` of the rows."""
        from sklearn.kernel_approximation import Nystroem

        seed = int(rng.integers(2**31))
        model = Nystroem(
            gamma=gamma, n_components=min(n_landmarks, len(rows)), random_state=seed, kernel="rbf"
        )
        return cls(model.fit(rows), gamma)

    def features(self, rows: Matrix) -> Matrix:
        """Return the features of rows, (n, m)."""
        found: Matrix = self.model.transform(rows)
        return found

    def expansion(self, weights: Scores, constant: float) -> Expansion:
        """Return a linear function of the features as a function of the row."""
        weights = self.model.normalization_.T @ weights
        return Expansion.of(self.model.components_, weights, constant, self.gamma)
