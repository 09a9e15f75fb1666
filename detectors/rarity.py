"""How rare a score is among held-out normal scores, as a number that rises with the score."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from detectors.base import Scores, State
from detectors.calibration import LARGEST_SCORE, Calibration, Tail
from detectors.errors import StateError
from detectors.state import array
from detectors.tiles import elementwise

CONSTANT = 1e-9
"""Least spread of scores, as a share of their size: the rest is rounding."""

DECADES = float(np.log10(np.e))
"""log10(exp(1)): from the exponent of a tail to decades."""


@dataclass(frozen=True, slots=True, eq=False)
class Rarity:
    """-log10 of a smoothed p-value: the scores of different detectors on one scale.

    Between two held-out scores it is interpolated, beyond the largest one it follows the fitted Pareto
    tail, or an exponential one where there is none, and below the smallest one it falls towards 0. So it
    is positive and rises with every score: within one detector nothing changes its rank.

    Parameters
    ----------
    scores : ndarray of shape (m,)
        The distinct held-out scores, ascending.
    levels : ndarray of shape (m,)
        Their rarity, positive, ascending.
    tail : Tail
        Beyond the largest one.
    spread : float
        Standard deviation of the held-out scores, positive.

    Examples
    --------
    >>> rarity = Rarity.of(np.arange(999.0))
    >>> rarity(np.array([899.0, 989.0])).round(3)
    array([1., 2.])
    """

    scores: Scores
    levels: Scores
    tail: Tail
    spread: float

    @classmethod
    def of(cls, held_out: Scores) -> Self:
        """Learn from the scores of held-out normal rows, (n,), finite, n >= 1."""
        calibration, n = Calibration.fit(held_out), held_out.size
        scores, first = np.unique(calibration.scores, return_index=True)
        # The share that is at least as large, where the tail begins at 1 / (n + 1): never 0, never 1.
        levels = -np.log10((n - first) / (n + 1.0))
        size = max(1.0, float(np.abs(scores).max()))
        spread = max(float((scores / size).std()) * size, CONSTANT * size)
        return cls(scores, levels, calibration.tail or Tail(0.0, spread, 0), spread)

    def __call__(self, scores: Scores) -> Scores:
        """Return the rarity of each score, (n,); its bits depend on the one score alone."""
        return elementwise(np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE), self._of)

    def _of(self, scores: Scores) -> Scores:
        above = np.searchsorted(self.scores, scores, side="right")
        # Rounding must not lift what lies below a held-out score above it.
        highest = self.levels[np.minimum(above, self.scores.size - 1)]
        inside = np.minimum(np.interp(scores, self.scores, self.levels), highest)
        beyond = self.tail.exponent(np.maximum(scores - self.scores[-1], 0.0))
        with np.errstate(over="ignore"):  # infinitely far below is far below
            below = 1.0 + np.maximum(self.scores[0] - scores, 0.0) / self.spread
        found: Scores = (inside + DECADES * np.minimum(beyond, LARGEST_SCORE)) / below
        return found

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return its numbers for a `State`."""
        tail = np.array([self.tail.shape, self.tail.scale, self.tail.n_peaks, self.spread])
        return {"rarity_scores": self.scores, "rarity_levels": self.levels, "rarity_tail": tail}

    @classmethod
    def restored(cls, state: State) -> Self:
        """Return what a state holds; StateError if it makes no sense."""
        scores = array(state, "rarity_scores", None)
        levels = array(state, "rarity_levels", scores.size)
        shape, scale, n_peaks, spread = array(state, "rarity_tail", 4)
        rising = scores.size and (np.diff(scores) > 0).all() and (np.diff(levels) >= 0).all()
        if not rising or levels[0] <= 0 or shape < 0 or scale <= 0 or spread <= 0:
            raise StateError("arrays 'rarity_...' make no sense: they do not rise; train the model again")
        return cls(scores, levels, Tail(float(shape), float(scale), int(n_peaks)), float(spread))
