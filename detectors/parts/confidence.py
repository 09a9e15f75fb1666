"""What a function of a whole row says: a discriminator, a classifier, a kernel expansion."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detectors.attribution import integrated_gradients, values_at
from detectors.base import Matrix, Scores, State, Term
from detectors.errors import StateError
from detectors.networks import Differentiable, Network, Pullback
from detectors.parts.sum import Arrays, Because, View, alone, summed
from detectors.state import array

LEAST_SPREAD = 1e-3
"""Least spread of a function over held-out rows, as a share of its size: below it lies rounding."""


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

    @classmethod
    def of(cls, function: Function, baseline: Scores, held_out: Matrix) -> "Confidence":
        """Return the part of a function, scaled by held-out rows; all rows in units, within the bounds."""
        at_baseline = values_at(function, baseline[None]).item()
        values = values_at(function, held_out)[:, 0]
        least = LEAST_SPREAD * max(1.0, float(np.abs(values).max()))
        return cls(function, baseline, at_baseline, max(least, float(values.std())))

    @classmethod
    def restored(cls, state: State, function: Function, n_columns: int) -> "Confidence":
        """Return the part that a state holds."""
        at_baseline, spread = array(state, "scale", 2).tolist()
        if spread <= 0:
            raise StateError(f"array 'scale' holds a spread of {spread}; train the model again")
        return cls(function, array(state, "baseline", n_columns), at_baseline, spread)

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


@dataclass(frozen=True, slots=True, eq=False)
class Doubt:
    """Minus the mean logit that discriminators give a row for being normal.

    The logit, not the probability: it ranks rows alike, but does not saturate where all are sure.
    """

    members: tuple[Network, ...]

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the value of each row, (1, 256)."""
        return self._mean([member.on_tile(tile) for member in self.members])

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the values, and the way back."""
        found = [member.pullback(tile) for member in self.members]

        def back(gradient: Matrix) -> Matrix:
            return self._mean([one(gradient) for _, one in found])

        return self._mean([logit for logit, _ in found]), back

    def _mean(self, each: list[Matrix]) -> Matrix:
        result: Matrix = np.add.reduce(each) / -float(len(self.members))
        return result

    def arrays(self) -> Arrays:
        """Return the members' numbers."""
        named = ((f"discriminator{i}", member) for i, member in enumerate(self.members))
        return {key: value for name, member in named for key, value in member.arrays(name).items()}

    def networks(self) -> Mapping[str, list[str]]:
        """Return the members' activations."""
        return {f"discriminator{i}": member.activations for i, member in enumerate(self.members)}

    @classmethod
    def restored(cls, state: State, n_columns: int, n_members: int) -> "Doubt":
        """Return what a state holds."""
        names = (f"discriminator{i}" for i in range(n_members))
        return cls(tuple(Network.restored(state, name, n_inputs=n_columns, n_outputs=1) for name in names))
