"""Stage 3, second half: reconstruction and discrimination of a row at the end of its window."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from detectors.attribution import integrated_gradients, values_at
from detectors.base import Explanation, Matrix, Scores, State, Term
from detectors.errors import StateError
from detectors.inputs import Inputs
from detectors.networks import ACTIVATIONS, Pullback
from detectors.parts.residuals import Scaled
from detectors.pu_gan.inversion import Inversion, Networks
from detectors.pu_gan.windows import Components, by_windows, windows_of
from detectors.recurrent import Recurrent, Steps
from detectors.state import array
from detectors.tiles import by_tiles

LOSS = ACTIVATIONS["softplus"]
"""-log D = softplus(-logit)."""

DISCRIMINATOR = Term(kind="noise_direction", id="discriminator")


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """How the two halves of the score are measured and weighted.

    Parameters
    ----------
    axes : ndarray of shape (k, d)
        Along which residuals are read.
    by_column : bool
        Whether each axis belongs to a column, its own.
    scale : Scaled
        Of the residuals along the axes.
    squared : bool
        Whether residuals enter by their squares or by their absolute values.
    residual_weight, loss_weight : float
        Of each residual's term and of the discriminator's loss.
    loss_mean, loss_spread : float
        Of the loss on held-out rows.
    """

    axes: Matrix
    by_column: bool
    scale: Scaled
    squared: bool
    residual_weight: float = 1.0
    loss_weight: float = 1.0
    loss_mean: float = 0.0
    loss_spread: float = 1.0

    @classmethod
    def plain(cls, n_columns: int) -> "Mixture":
        """Return the one that measures nothing: the sum of squares, and the loss."""
        return cls(np.eye(n_columns), by_column=True, scale=Scaled.none(n_columns), squared=True)

    def deviations(self, residuals: Matrix) -> Matrix:
        """Return the deviations of a tile of residuals, (d, 256) -> (k, 256)."""
        return self.scale.tile(np.matmul(self.axes, residuals))

    def sizes(self, deviations: Matrix) -> Matrix:
        """Return what deviations count, before their weight."""
        return deviations * deviations if self.squared else np.abs(deviations)

    def terms(self, residuals: Matrix, loss: Matrix) -> Matrix:
        """Return the terms of a tile, (k + 1, 256)."""
        parts = self.residual_weight * self.sizes(self.deviations(residuals))
        return np.concatenate([parts, self.loss_weight * loss])

    @property
    def labels(self) -> tuple[Term, ...]:
        """What the k + 1 terms are about."""
        many = range(len(self.axes))
        if self.by_column:
            return (*(Term(kind="residual", id=f"c{k}") for k in many), DISCRIMINATOR)
        return (*(Term(kind="noise_direction", id=f"n{k + 1}") for k in many), DISCRIMINATOR)

    def arrays(self) -> dict[str, Any]:
        """Return its learned numbers for a `State`."""
        numbers = (self.residual_weight, self.loss_weight, self.loss_mean, self.loss_spread)
        return {
            "residual_axes": self.axes,
            "residual_mean": self.scale.mean,
            "residual_spread": self.scale.spread,
            "mixture": np.array(numbers),
        }

    @classmethod
    def restored(cls, state: State, n_columns: int, *, by_column: bool, squared: bool) -> "Mixture":
        """Return what a state holds."""
        axes = np.ascontiguousarray(array(state, "residual_axes", None, n_columns))
        names = ("residual_mean", "residual_spread")
        scale = Scaled(*(array(state, name, len(axes)) for name in names))
        numbers = array(state, "mixture", 4)
        if (scale.spread <= 0).any() or numbers[3] <= 0:
            raise StateError("a spread of the mixture is not positive; train the model again")
        return cls(axes, by_column, scale, squared, *numbers.tolist())


def whitening(residuals: Matrix, *, floor: float) -> Matrix:
    """Return the symmetric root of the inverse covariance of residuals, (d, d).

    Of all whitenings it leaves each value nearest to its own column. The covariance is shrunk by Ledoit
    and Wolf; along no direction is the spread taken to be less than `floor`.
    """
    from sklearn.covariance import ledoit_wolf

    covariance, _ = ledoit_wolf(residuals)
    values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
    root: Matrix = (vectors / np.sqrt(np.maximum(values, floor**2))) @ vectors.T
    return np.ascontiguousarray(root)


@dataclass(frozen=True, slots=True, eq=False)
class Suspicion:
    """The discriminator's loss on a window of rows, step after step in the columns of a tile."""

    components: Components
    discriminator: Recurrent
    length: int

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return -log D of each window's last step, (1, m), and the way back."""
        steps = tile.reshape(self.length, -1, tile.shape[1])
        logits, back = self.discriminator.pullback(self.components.on_tile(steps))
        loss = LOSS.value(-logits[-1])

        def by_rows(gradient: Matrix) -> Matrix:
            upstream = np.zeros_like(logits)
            upstream[-1] = -gradient * LOSS.slope(-logits[-1], loss)
            return self.components.pulled(back(upstream)).reshape(tile.shape)

        return loss, by_rows


@dataclass(eq=False, kw_only=True)
class SequenceModel:
    """What is learned of windows; rows are scored by the window that ends with them.

    Parameters
    ----------
    length : int
        Rows of a window.
    inputs : Inputs
    components : Components
        Of rows in the units of the inputs.
    networks : Networks
    inversion : Inversion
        By these networks.
    mixture : Mixture
    baseline : ndarray of shape (d,)
        A typical normal row, in the units of the inputs.
    report : mapping
        How training went.
    """

    length: int
    inputs: Inputs
    components: Components
    networks: Networks
    inversion: Inversion
    mixture: Mixture
    baseline: Scores
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def n_columns(self) -> int:
        """Number of matrix columns."""
        return self.inputs.n_columns

    @cached_property
    def labels(self) -> tuple[Term, ...]:
        """Those of the residuals, and the discriminator."""
        return self.mixture.labels

    def points(self, x: Matrix) -> Matrix:
        """Return the components of rows, (n, p)."""

        def of_tile(tile: Matrix) -> Matrix:
            return self.components.on_tile(self.inputs.cut(self.inputs.units(tile)))

        return by_tiles(x, of_tile, self.components.n_points)

    def read(self, x: Matrix) -> Matrix:
        """Return the last n rows of x, their components as rebuilt, and the loss: (n, d + p + 1)."""

        def of_windows(steps: Steps) -> Matrix:
            loss = LOSS.value(-self.networks.discriminator.on_steps(steps)[-1])
            return np.concatenate([self.inversion.rebuilt(steps)[-1], loss])

        found = by_windows(self.points(x), self.length, of_windows, self.components.n_points + 1)
        return np.concatenate([x[self.length - 1 :], found], axis=1)

    def rebuilt(self, tile: Matrix) -> Matrix:
        """Return the rebuilt rows of a tile of what `read` gives, (d, 256), in the units of the inputs."""
        return self.components.back(tile[self.n_columns : self.n_columns + self.components.n_points])

    def residuals(self, tile: Matrix) -> Matrix:
        """Return what is not rebuilt of a tile of what `read` gives, (d, 256)."""
        return self.inputs.units(tile) - self.rebuilt(tile)

    def loss(self, tile: Matrix) -> Matrix:
        """Return the loss of a tile of what `read` gives, (1, 256)."""
        last = self.n_columns + self.components.n_points
        return tile[last : last + 1]

    def _terms(self, tile: Matrix) -> Matrix:
        return self.mixture.terms(self.residuals(tile), self.loss(tile))

    def score(self, x: Matrix) -> Scores:
        """Return the sum of the terms, (n,)."""

        def of_tile(tile: Matrix) -> Matrix:
            return np.add.reduce(self._terms(tile), axis=0, keepdims=True)

        return by_tiles(self.read(x), of_tile, 1)[:, 0]

    def terms(self, x: Matrix) -> Matrix:
        """Return the terms, (n, k + 1)."""
        return by_tiles(self.read(x), self._terms, len(self.labels))

    def explain(self, x: Matrix) -> Explanation:
        """Say what is not rebuilt, the rebuilt rows as given, and what the discriminator minds.

        What a column adds to the discriminator's loss is summed over the rows of the window.
        """
        read = self.read(x)
        residuals = by_tiles(read, self.residuals, self.n_columns)
        deviations = by_tiles(
            residuals, lambda tile: self.mixture.deviations(tile[:-1]), len(self.labels) - 1
        )
        scale = self.mixture.scale
        parts = residuals[:, None, :] * self.mixture.axes / scale.spread[:, None]
        suspected, minded, constant = self._minded(x)
        return Explanation(
            score_kind="reconstruction_and_discrimination",
            additive=True,
            labels=self.labels,
            terms=by_tiles(read, self._terms, len(self.labels)),
            deviations=np.concatenate([deviations, suspected], axis=1),
            contributions=np.concatenate([parts, minded], axis=1),
            constants=np.append(-scale.mean / scale.spread, constant),
            expected=self.inputs.rows(by_tiles(read, self.rebuilt, self.n_columns)),
        )

    def _minded(self, x: Matrix) -> tuple[Matrix, Matrix, float]:
        """Return the loss in its standard deviations, (n, 1), what columns add, (n, 1, d), and the rest."""
        function = Suspicion(self.components, self.networks.discriminator, self.length)
        units = by_tiles(x, self.inputs.units, self.n_columns)
        windows = windows_of(np.clip(units, self.inputs.low, self.inputs.high), self.length)
        baseline = np.tile(self.baseline, self.length)
        loss, parts = integrated_gradients(function, windows, baseline)
        mean, spread = self.mixture.loss_mean, self.mixture.loss_spread
        by_column = parts.reshape(len(parts), 1, self.length, self.n_columns).sum(axis=2) / spread
        constant = (values_at(function, baseline[None]).item() - mean) / spread
        return (loss - mean) / spread, by_column, constant

    def state(self) -> State:
        """Return all numbers."""
        arrays = {
            **self.inputs.arrays(),
            **self.components.arrays(),
            **self.networks.arrays(),
            **self.mixture.arrays(),
            "baseline": self.baseline,
        }
        told = {"networks": self.networks.activations(), "report": dict(self.report)}
        return State(parameters=told, arrays=arrays)
