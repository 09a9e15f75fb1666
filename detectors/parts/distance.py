"""How far a row is from its rebuilt self: column by column, and by what a discriminator makes of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from detectors.attribution import along
from detectors.base import Matrix, Scores, State, Term
from detectors.networks import Network, Pullback
from detectors.parts.residuals import Rebuild, Scaled
from detectors.parts.sum import Arrays, Because, View, alone, on_rows, summed
from detectors.state import array

Beside = Callable[[Matrix], Matrix]
"""From a tile of rows to what a discriminator is given beside the values it judges: (d, 256) -> (m, 256)."""

LEAST = 1e-6
"""Least mean of a sum over held-out rows that another sum is counted in."""


def nothing(tile: Matrix) -> Matrix:
    """Give nothing beside the values."""
    return tile[:0]


def the_row(tile: Matrix) -> Matrix:
    """Give the row itself."""
    return tile


@dataclass(frozen=True, slots=True, eq=False)
class Judge:
    """The last hidden layer of a discriminator, as a measure of how alike two rows are.

    Parameters
    ----------
    features : Network
        From values, followed by what is beside them, to features: (d + m, 256) -> (f, 256).
    beside : Beside
    """

    features: Network
    beside: Beside = nothing

    def gap(self, tile: Matrix) -> "FeatureGap":
        """Return the distance of values from a tile of rows."""
        beside = self.beside(tile)
        return FeatureGap(self.features, beside, self.features.on_tile(np.concatenate([tile, beside])))


@dataclass(frozen=True, slots=True, eq=False)
class FeatureGap:
    """sum_k |f_k(values, beside) - wanted_k|, (d, 256) -> (1, 256)."""

    features: Network
    beside: Matrix
    wanted: Matrix

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the distances."""
        return summed(np.abs(self.features.on_tile(np.concatenate([tile, self.beside])) - self.wanted))

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the distances, and the way back to the values."""
        found, back = self.features.pullback(np.concatenate([tile, self.beside]))
        away = found - self.wanted
        return summed(np.abs(away)), lambda gradient: back(np.sign(away) * gradient)[: len(tile)]


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """sum_j w_j |u_j - rebuilt_j| + v sum_k |f_k(u) - f_k(rebuilt)|, f a discriminator's last hidden layer.

    A column's term is its own absolute residual, and its part of the features' distance: the gradient of
    that distance integrated along the straight path from the row, where it is 0, to the rebuilt row. What
    lies outside the bounds of `Inputs` is part of the residual, where residuals count; discriminators are
    never asked there.

    Parameters
    ----------
    rebuild : Rebuild
    judge : Judge
    scale : Scaled
        Of the residuals of held-out rows: the unit of the deviations.
    weights : ndarray of shape (d,)
        w, of the absolute residuals; all zero where the features alone count.
    judged : float
        v, of the features' distance.
    baseline : ndarray of shape (d,)
        A typical normal row, in the units of the inputs: what contributions are counted from.
    """

    rebuild: Rebuild
    judge: Judge
    scale: Scaled
    weights: Scores
    judged: float
    baseline: Scores

    @classmethod
    def of(
        cls,
        rebuild: Rebuild,
        judge: Judge,
        held_out: Matrix,
        baseline: Scores,
        *,
        weight: float,
        scaled: bool,
        floor: float,
    ) -> "Distance":
        """Return the distance (1 - weight) * residuals + weight * features.

        Parameters
        ----------
        rebuild : Rebuild
        judge : Judge
        held_out : ndarray of shape (n, d)
            Normal rows in the units of the inputs, within the bounds.
        baseline : ndarray of shape (d,)
        weight : float
            Of the features, in [0, 1].
        scaled : bool
            Whether each residual is counted in its spread on held-out rows, and each of the two sums in
            its mean there. Otherwise a weight means another thing on every dataset.
        floor : float
            Least spread of a residual.
        """
        d = baseline.size

        def both(view: View) -> Matrix:
            rebuilt = rebuild.on_tile(view.cut)
            return np.concatenate([view.cut - rebuilt, judge.gap(view.cut).on_tile(rebuilt)])

        found = on_rows(held_out, held_out, both, d + 1)
        scale = Scaled.of(found[:, :d], floor=floor)
        if not scaled:
            return cls(rebuild, judge, scale, np.full(d, 1.0 - weight), weight, baseline)
        usual = max(float((np.abs(found[:, :d]) / scale.spread).sum(axis=1).mean()), LEAST)
        apart = max(float(found[:, d].mean()), LEAST)
        return cls(rebuild, judge, scale, (1.0 - weight) / usual / scale.spread, weight / apart, baseline)

    @classmethod
    def restored(cls, state: State, rebuild: Rebuild, beside: Beside, n_beside: int) -> "Distance":
        """Return the part that a state holds."""
        baseline = array(state, "baseline", None)
        names = ("residual_mean", "residual_spread", "weights")
        mean, spread, weights = (array(state, name, baseline.size) for name in names)
        features = Network.restored(state, "judge", n_inputs=baseline.size + n_beside)
        judged = array(state, "judged", 1).item()
        return cls(rebuild, Judge(features, beside), Scaled(mean, spread), weights, judged, baseline)

    def labels(self, n_columns: int) -> tuple[Term, ...]:
        """One residual a column."""
        return tuple(Term(kind="residual", id=f"c{j}") for j in range(n_columns))

    def score(self, view: View) -> Matrix:
        """Return the distance."""
        rebuilt = self.rebuild.on_tile(view.cut)
        apart = self.judge.gap(view.cut).on_tile(rebuilt)
        return summed(self._plain(view, rebuilt)) + self.judged * apart

    def terms(self, view: View) -> Matrix:
        """Return each column's part of it."""
        rebuilt = self.rebuild.on_tile(view.cut)
        parts = along(self.judge.gap(view.cut), view.cut, rebuilt)
        return self._plain(view, rebuilt) + self.judged * parts

    def _plain(self, view: View, rebuilt: Matrix) -> Matrix:
        result: Matrix = self.weights[:, None] * np.abs(view.units - rebuilt)
        return result

    def _deviations(self, view: View) -> Matrix:
        return self.scale.tile(view.units - self.rebuild.on_tile(view.cut))

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
        """Return its numbers."""
        return {
            **self.rebuild.arrays(),
            **self.judge.features.arrays("judge"),
            "residual_mean": self.scale.mean,
            "residual_spread": self.scale.spread,
            "weights": self.weights,
            "judged": np.array([self.judged]),
            "baseline": self.baseline,
        }

    def networks(self) -> Mapping[str, list[str]]:
        """Return the activations of its networks."""
        return {**self.rebuild.networks(), "judge": self.judge.features.activations}
