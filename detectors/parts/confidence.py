"""What a function of a whole row says: a discriminator, a classifier, a kernel expansion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detectors.attribution import integrated_gradients
from detectors.base import Matrix, Scores, Term
from detectors.networks import Differentiable
from detectors.parts.sum import Arrays, Because, View, alone, summed


class Function(Differentiable, Protocol):
    """(d, 256) -> (1, 256), larger for what is more anomalous."""

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the values of a tile."""

    def arrays(self) -> Arrays:
        """Return its numbers."""

    def networks(self) -> Mapping[str, list[str]]:
        """Return the activations of its networks."""


@dataclass(frozen=True, slots=True, eq=False)
class Confidence:
    """A function's value beyond that of a typical normal row, in standard deviations, and what lies outside.

    A column's term is its integrated gradient from that row, plus the square of how far it lies
    outside the bounds of `Inputs`, where the function has never been asked in training.

    Parameters
    ----------
    function : Function
    baseline : ndarray of shape (d,)
        A typical normal row, in the units of the inputs; what the columns are compared with.
    at_baseline : float
        The function's value there.
    spread : float
        Standard deviation of the function over held-out rows.
    """

    function: Function
    baseline: Scores
    at_baseline: float
    spread: float

    def labels(self, n_columns: int) -> tuple[Term, ...]:
        """One feature a column."""
        return tuple(Term(kind="feature", id=f"c{j}") for j in range(n_columns))

    def score(self, view: View) -> Matrix:
        """Return the scaled value, and the squares of what lies outside."""
        value: Matrix = (self.function.on_tile(view.cut) - self.at_baseline) / self.spread
        return value + summed(outside(view))

    def terms(self, view: View) -> Matrix:
        """Return each column's part."""
        _, parts = integrated_gradients(self.function, view.cut.T, self.baseline)
        result: Matrix = parts[:, 0].T / self.spread + outside(view)
        return result

    def because(self, units: Matrix, cut: Matrix) -> Because:
        """Say how far each column lies from the typical row."""
        del cut
        deviations = units - self.baseline
        return Because(deviations, alone(deviations), np.zeros(self.baseline.size))

    def expected(self, view: View) -> Matrix:
        """Return the typical row."""
        return np.broadcast_to(self.baseline[:, None], view.units.shape)

    def arrays(self) -> Arrays:
        """Return the function and what it is compared with."""
        scale = np.array([self.at_baseline, self.spread])
        return {**self.function.arrays(), "baseline": self.baseline, "scale": scale}

    def networks(self) -> Mapping[str, list[str]]:
        """Return those of the function."""
        return self.function.networks()


def outside(view: View) -> Matrix:
    """Return the squares of how far a tile lies outside the bounds, (d, 256)."""
    beyond = view.units - view.cut
    result: Matrix = beyond * beyond
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Outside:
    """The squares of how far a row lies outside the bounds of `Inputs`, where no network has been asked."""

    def labels(self, n_columns: int) -> tuple[Term, ...]:
        """One feature a column."""
        return tuple(Term(kind="feature", id=f"c{j}") for j in range(n_columns))

    def score(self, view: View) -> Matrix:
        """Return their sum."""
        return summed(outside(view))

    def terms(self, view: View) -> Matrix:
        """Return the squares."""
        return outside(view)

    def because(self, units: Matrix, cut: Matrix) -> Because:
        """Say how far each column lies outside."""
        return Because(units - cut, alone(units - cut), np.zeros(units.shape[1]))

    def expected(self, view: View) -> None:
        """Return nothing."""
        del view

    def arrays(self) -> Arrays:
        """Return nothing: the bounds are those of the inputs."""
        return {}

    def networks(self) -> Mapping[str, list[str]]:
        """Return nothing."""
        return {}
