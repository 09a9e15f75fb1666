"""Functions that know themselves what each column adds: forests, tails and histograms."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detectors.base import Matrix, Scores, State, Term
from detectors.errors import StateError
from detectors.parts.confidence import LEAST_SPREAD, outside
from detectors.parts.sum import Arrays, Because, View, alone, on_rows, summed
from detectors.state import array


class Additive(Protocol):
    """A function of a row as a sum over its columns, larger for what is more anomalous."""

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the sums, (d, 256) -> (1, 256)."""

    def by_column(self, tile: Matrix) -> Matrix:
        """Return what each column adds, (d, 256) -> (d, 256)."""

    def arrays(self) -> Arrays:
        """Return its numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class ByColumn:
    """A sum over the columns, in its standard deviations on held-out rows, and what lies outside.

    No such function grows beyond the training rows, where a forest has no splits and a histogram no bins.
    So the square of how far a column lies outside the bounds of `Inputs` is added to its term.

    Parameters
    ----------
    function : Additive
    baseline : ndarray of shape (d,)
        A typical normal row, in the units of the inputs; what deviations are counted from.
    spread : float
        What the function is divided by.
    beyond : bool
        Whether what lies outside counts.
    """

    function: Additive
    baseline: Scores
    spread: float
    beyond: bool

    @classmethod
    def of(cls, function: Additive, baseline: Scores, held_out: Matrix, *, beyond: bool) -> "ByColumn":
        """Return the part of a function: scaled by held-out rows where what lies outside is added to it."""
        if not beyond:
            return cls(function, baseline, 1.0, beyond)
        values = on_rows(held_out, held_out, lambda view: function.on_tile(view.cut), 1)
        least = LEAST_SPREAD * max(1.0, float(np.abs(values).max()))
        return cls(function, baseline, max(least, float(values.std())), beyond)

    def labels(self, n_columns: int) -> tuple[Term, ...]:
        """One feature a column."""
        return tuple(Term(kind="feature", id=f"c{j}") for j in range(n_columns))

    def score(self, view: View) -> Matrix:
        """Return the scaled sum, and the squares of what lies outside."""
        value: Matrix = self.function.on_tile(view.cut) / self.spread
        return value + summed(outside(view)) if self.beyond else value

    def terms(self, view: View) -> Matrix:
        """Return each column's part."""
        parts: Matrix = self.function.by_column(view.cut) / self.spread
        return parts + outside(view) if self.beyond else parts

    def because(self, units: Matrix, cut: Matrix) -> Because:
        """Say how far each column lies from the typical row."""
        del cut
        deviations = units - self.baseline
        return Because(deviations, alone(deviations), np.zeros(self.baseline.size))

    def expected(self, view: View) -> Matrix:
        """Return the typical row."""
        return np.broadcast_to(self.baseline[:, None], view.units.shape)

    def arrays(self) -> Arrays:
        """Return the function, its scale and the typical row."""
        return {**self.function.arrays(), "baseline": self.baseline, "scale": np.array([self.spread])}

    def networks(self) -> Mapping[str, list[str]]:
        """Return nothing: there are none."""
        return {}

    @classmethod
    def restored(cls, state: State, function: Additive, n_columns: int, *, beyond: bool) -> "ByColumn":
        """Return the part that a state holds."""
        spread = array(state, "scale", 1).item()
        if spread <= 0:
            raise StateError(f"array 'scale' holds a spread of {spread}; train the model again")
        return cls(function, array(state, "baseline", n_columns), spread, beyond)
