"""What a model cannot rebuild."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detectors.attribution import integrated_gradients
from detectors.base import Matrix, Scores, State, Term
from detectors.networks import Network
from detectors.parts.sum import Arrays, Because, View, alone, on_rows, summed
from detectors.state import array


@dataclass(frozen=True, slots=True, eq=False)
class Scaled:
    """How values lie on held-out normal rows: a value's deviation is (value - mean) / spread."""

    mean: Scores
    spread: Scores

    @classmethod
    def of(cls, values: Matrix, *, floor: float) -> "Scaled":
        """Return mean and spread of the columns of (n, k); no spread is less than `floor`."""
        return cls(values.mean(axis=0), np.maximum(values.std(axis=0), floor))

    @classmethod
    def none(cls, n_columns: int) -> "Scaled":
        """Return the scale that changes nothing."""
        return cls(np.zeros(n_columns), np.ones(n_columns))

    def tile(self, values: Matrix) -> Matrix:
        """Return the deviations of (k, 256)."""
        result: Matrix = (values - self.mean[:, None]) / self.spread[:, None]
        return result


class Rebuild(Protocol):
    """Rows as a model rebuilds them."""

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return (d, 256) from (d, 256), both in the units of the training rows."""

    def contributions(self, rows: Matrix, baseline: Scores) -> npt.NDArray[np.float64]:
        """Return what the columns of n rows add to each rebuilt value beyond the baseline's, (n, d, d)."""

    def arrays(self) -> Arrays:
        """Return its numbers."""

    def networks(self) -> Mapping[str, list[str]]:
        """Return the activations of its networks."""


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """The sum of the squared residuals u - rebuild(u), each in its standard deviations on held-out rows.

    What lies outside the bounds of `Inputs` is a residual like any other: it is not rebuilt.

    Parameters
    ----------
    rebuild : Rebuild
    scale : Scaled
        Of the residuals of held-out rows.
    baseline : ndarray of shape (d,)
        A typical normal row, in the units of the inputs: what contributions are counted from.
    weight : float
        Of each squared deviation in the score.
    """

    rebuild: Rebuild
    scale: Scaled
    baseline: Scores
    weight: float = 1.0

    def labels(self, n_columns: int) -> tuple[Term, ...]:
        """One residual a column."""
        return tuple(Term(kind="residual", id=f"c{j}") for j in range(n_columns))

    def _deviations(self, view: View) -> Matrix:
        return self.scale.tile(view.units - self.rebuild.on_tile(view.cut))

    def score(self, view: View) -> Matrix:
        """Return the weighted sum of squares."""
        return summed(self.terms(view))

    def terms(self, view: View) -> Matrix:
        """Return the weighted squares."""
        deviations = self._deviations(view)
        result: Matrix = self.weight * deviations * deviations
        return result

    def because(self, units: Matrix, cut: Matrix) -> Because:
        """Say which columns make each residual: its own, and those that its rebuilt value comes from."""
        deviations = on_rows(units, cut, self._deviations, self.baseline.size)
        start = self.baseline[None]
        at_start = on_rows(start, start, self._deviations, self.baseline.size)[0]
        contributions = alone((units - self.baseline) / self.scale.spread)
        contributions -= self.rebuild.contributions(cut, self.baseline) / self.scale.spread[:, None]
        return Because(deviations, contributions, at_start)

    def expected(self, view: View) -> Matrix:
        """Return the rebuilt rows."""
        return self.rebuild.on_tile(view.cut)

    def arrays(self) -> Arrays:
        """Return the numbers of the rebuilding and of its scale."""
        scale = {"residual_mean": self.scale.mean, "residual_spread": self.scale.spread}
        return {**self.rebuild.arrays(), **scale, "baseline": self.baseline}

    def networks(self) -> Mapping[str, list[str]]:
        """Return those of the rebuilding."""
        return self.rebuild.networks()


def restored_residuals(state: State, rebuild: Rebuild, n_columns: int, *, weight: float = 1.0) -> Residuals:
    """Return the part that a state holds."""
    names = ("residual_mean", "residual_spread", "baseline")
    mean, spread, baseline = (array(state, name, n_columns) for name in names)
    return Residuals(rebuild, Scaled(mean, spread), baseline, weight)


@dataclass(frozen=True, slots=True, eq=False)
class Through:
    """Rows rebuilt by a network."""

    network: Network

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the network's outputs."""
        return self.network.on_tile(tile)

    def contributions(self, rows: Matrix, baseline: Scores) -> npt.NDArray[np.float64]:
        """Return integrated gradients."""
        return integrated_gradients(self.network, rows, baseline)[1]

    def arrays(self) -> Arrays:
        """Return its numbers."""
        return self.network.arrays("rebuild")

    def networks(self) -> Mapping[str, list[str]]:
        """Return its activations."""
        return {"rebuild": self.network.activations}

    @classmethod
    def restored(cls, state: State, n_columns: int) -> "Through":
        """Return what a state holds."""
        return cls(Network.restored(state, "rebuild", n_inputs=n_columns, n_outputs=n_columns))


def residuals_of(rebuild: Rebuild, cut: Matrix, units: Matrix) -> Matrix:
    """Return the residuals of rows, (n, d): to learn their scale from held-out ones."""
    return on_rows(units, cut, lambda view: view.units - rebuild.on_tile(view.cut), units.shape[1])
