"""Back from a row to the noise that a generator makes it from: gradient descent, in tiles of arrays.

    Inverted(generator, starts, Squares(), Descent(steps=100, rate=0.05))

Equal rows give equal noise, bit for bit, whatever rows are beside them: the noise that a descent starts
at is drawn once, in training, and kept.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from detectors.attribution import complete, integrated_gradients
from detectors.base import Matrix, Scores, State
from detectors.networks import Differentiable, Network
from detectors.parts.sum import Arrays
from detectors.state import array
from detectors.tiles import ROWS, by_tiles

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
"""Adam's usual constants."""

Gap = Callable[[Matrix], tuple[Matrix, Matrix]]
"""From made rows, (d, 256), to how far each is from its target, (1, 256), and the gradient, (d, 256)."""


class Loss(Protocol):
    """What a descent makes small."""

    def towards(self, target: Matrix) -> Gap:
        """Return the gap between made rows and a tile of target rows."""


@dataclass(frozen=True, slots=True)
class Squares:
    """||x - G(z)||^2."""

    def towards(self, target: Matrix) -> Gap:
        """Return the squared distance to a tile."""

        def gap(made: Matrix) -> tuple[Matrix, Matrix]:
            away = made - target
            return np.add.reduce(away * away, axis=0, keepdims=True), 2.0 * away

        return gap


@dataclass(frozen=True, slots=True, kw_only=True)
class Descent:
    """How noise is sought.

    Parameters
    ----------
    steps : int
        Of Adam, from each start.
    rate : float
        Its learning rate; a tenth of it after three fifths of the steps, a twentieth after four fifths,
        as in the public code of AnoGAN for KDD (0.01, 0.001 from step 300 of 500, 0.0005 from step 400).
    bound : float or None
        Noise is kept within +-bound: beyond what it was trained with a generator can make anything.
    """

    steps: int
    rate: float
    bound: float | None = None

    def rate_at(self, step: int) -> float:
        """Return the rate of a step, counted from 0."""
        if 5 * step < 3 * self.steps:
            return self.rate
        return self.rate / (10.0 if 5 * step < 4 * self.steps else 20.0)

    def within(self, noise: Matrix) -> Matrix:
        """Return noise within the bound."""
        if self.bound is None:
            return noise
        kept: Matrix = np.clip(noise, -self.bound, self.bound)
        return kept


def descend(generator: Differentiable, gap: Gap, start: Matrix, descent: Descent) -> tuple[Matrix, Matrix]:
    """Return the best noise on the way down from a start, and its gap.

    More steps never leave a row with a larger gap.

    Parameters
    ----------
    generator : Differentiable
        (k, 256) -> (d, 256).
    gap : Gap
    start : ndarray of shape (k, 256)
    descent : Descent

    Returns
    -------
    noise : ndarray of shape (k, 256)
    gaps : ndarray of shape (1, 256)
    """
    noise = best = descent.within(start)
    least = np.full((1, start.shape[1]), np.inf)
    first, second = np.zeros_like(noise), np.zeros_like(noise)
    for step in range(descent.steps + 1):
        made, back = generator.pullback(noise)
        gaps, gradient = gap(made)
        better = gaps < least
        best, least = np.where(better, noise, best), np.where(better, gaps, least)
        if step == descent.steps:
            break
        slope = back(gradient)
        first = BETA1 * first + (1.0 - BETA1) * slope
        second = BETA2 * second + (1.0 - BETA2) * slope * slope
        size = np.sqrt(second / (1.0 - BETA2 ** (step + 1))) + EPSILON
        noise = noise - descent.rate_at(step) / (1.0 - BETA1 ** (step + 1)) * first / size
        noise = descent.within(noise)
    return best, least


@dataclass(frozen=True, slots=True, eq=False)
class Inverted:
    """Rows rebuilt by the noise that a generator makes them best from; a `Rebuild` for `Residuals`.

    Parameters
    ----------
    generator : Network
        (k, 256) -> (d, 256).
    starts : ndarray of shape (r, k)
        Noise at which a descent starts; the best of all descents counts.
    loss : Loss
    descent : Descent
    encoder : Network or None
        Gives one more start: its guess of the noise.

    Notes
    -----
    What a column adds to a rebuilt value is told by the linear map that the best fit is near the noise
    found: the projection onto the directions in which the generator can move the row.
    """

    generator: Network
    starts: Matrix
    loss: Loss
    descent: Descent
    encoder: Network | None = None

    def noise(self, tile: Matrix) -> Matrix:
        """Return the noise found for each row, (k, 256)."""
        gap = self.loss.towards(tile)
        found = [descend(self.generator, gap, start, self.descent) for start in self._starts(tile)]
        best, least = found[0]
        for noise, gaps in found[1:]:
            best = np.where(gaps < least, noise, best)
            least = np.minimum(gaps, least)
        return best

    def _starts(self, tile: Matrix) -> list[Matrix]:
        fixed = [np.repeat(start[:, None], ROWS, axis=1) for start in self.starts]
        return fixed if self.encoder is None else [self.encoder.on_tile(tile), *fixed]

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the rebuilt rows."""
        return self.generator.on_tile(self.noise(tile))

    def contributions(self, rows: Matrix, baseline: Scores) -> npt.NDArray[np.float64]:
        """Return what the columns of n rows add to each rebuilt value beyond the baseline's, (n, d, d)."""
        d = baseline.size

        def both(tile: Matrix) -> Matrix:
            noise = self.noise(tile[:d])
            return np.concatenate([self.generator.on_tile(noise), projections(self.generator, noise)])

        found = by_tiles(rows, both, d + d * d)
        rebuilt, maps = found[:, :d], found[:, d:].reshape(-1, d, d)
        start = by_tiles(baseline[None], lambda tile: self.on_tile(tile[:d]), d)[0]
        parts: npt.NDArray[np.float64] = maps * (rows - baseline)[:, None, :]
        complete(parts, rebuilt - start)
        return parts

    def arrays(self) -> Arrays:
        """Return its numbers."""
        encoder = {} if self.encoder is None else self.encoder.arrays("encoder")
        return {**self.generator.arrays("generator"), **encoder, "starts": self.starts}

    def networks(self) -> Mapping[str, list[str]]:
        """Return the activations of its networks."""
        encoder = {} if self.encoder is None else {"encoder": self.encoder.activations}
        return {"generator": self.generator.activations, **encoder}

    @classmethod
    def restored(
        cls, state: State, n_columns: int, loss: Loss, descent: Descent, *, encoder: bool
    ) -> "Inverted":
        """Return what a state holds."""
        starts = array(state, "starts", None, None)
        k = starts.shape[1]
        generator = Network.restored(state, "generator", n_inputs=k, n_outputs=n_columns)
        guess = Network.restored(state, "encoder", n_inputs=n_columns, n_outputs=k) if encoder else None
        return cls(generator, starts, loss, descent, guess)


@dataclass(frozen=True, slots=True, eq=False)
class Guessed:
    """Rows rebuilt by a generator from the noise that an encoder guesses; a `Rebuild` for `Residuals`."""

    encoder: Network
    generator: Network

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return G(E(x))."""
        return self.generator.on_tile(self.encoder.on_tile(tile))

    def contributions(self, rows: Matrix, baseline: Scores) -> npt.NDArray[np.float64]:
        """Return integrated gradients through both networks."""
        there_and_back = Network((*self.encoder.layers, *self.generator.layers))
        return integrated_gradients(there_and_back, rows, baseline)[1]

    def arrays(self) -> Arrays:
        """Return their numbers."""
        return {**self.encoder.arrays("encoder"), **self.generator.arrays("generator")}

    def networks(self) -> Mapping[str, list[str]]:
        """Return their activations."""
        return {"encoder": self.encoder.activations, "generator": self.generator.activations}

    @classmethod
    def restored(cls, state: State, n_columns: int) -> "Guessed":
        """Return what a state holds."""
        encoder = Network.restored(state, "encoder", n_inputs=n_columns)
        k = encoder.n_outputs
        return cls(encoder, Network.restored(state, "generator", n_inputs=k, n_outputs=n_columns))


def projections(generator: Network, noise: Matrix) -> Matrix:
    """Return, for each row, the projection onto what small steps of the noise can change, (d * d, 256)."""
    made, back = generator.pullback(noise)
    slopes = np.empty((len(made), *noise.shape))
    for column in range(len(made)):
        seed = np.zeros_like(made)
        seed[column] = 1.0
        slopes[column] = back(seed)
    jacobian = np.ascontiguousarray(slopes.transpose(2, 0, 1))  # (256, d, k)
    transposed = np.ascontiguousarray(slopes.transpose(2, 1, 0))
    gram = np.matmul(transposed, jacobian)
    k = noise.shape[0]
    # A direction in which the generator does not move at all must not divide by zero.
    ridge = 1e-6 * np.trace(gram, axis1=1, axis2=2) / k + 1e-12
    gram[:, np.arange(k), np.arange(k)] += ridge[:, None]
    maps: Matrix = np.matmul(jacobian, np.linalg.solve(gram, transposed))
    return maps.reshape(noise.shape[1], -1).T
