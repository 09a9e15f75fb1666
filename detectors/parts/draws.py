"""Rows as a variational autoencoder rebuilds them: the mean over fixed draws of the latent values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.attribution import integrated_gradients
from detectors.base import Matrix, Scores, State
from detectors.errors import StateError
from detectors.networks import Network, Pullback
from detectors.parts.sum import Arrays
from detectors.state import array
from detectors.tiles import ROWS

LARGEST_LOG_VARIANCE = 10.0
"""Log-variances are cut at plus and minus this, in training and scoring."""

SLOPES = 4
"""Draws that gradients are taken at. They say which column an anomaly comes from, not how large it is:
what they leave open is shared out among the columns (see `integrated_gradients`)."""

WIDE = 1 << 15
"""Numbers of a layer that are computed at once: few calls for narrow networks, caches for wide ones."""


class Latent(NamedTuple):
    """Mean and standard deviation of the latent values of a tile's rows, (k, m) each."""

    mean: Matrix
    spread: Matrix
    free: npt.NDArray[np.bool_]  # where the log-variance was not cut


@dataclass(frozen=True, slots=True, eq=False)
class MeanOfDraws:
    """The mean over l of decoder(mean(u) + spread(u) * noise_l).

    The draws of the noise are the same for every row, so a row always scores the same.

    Parameters
    ----------
    encoder : Network
        (d, 256) -> (2k, 256): k means, then k log-variances.
    decoder : Network
        (k, 256) -> (d, 256).
    noise : ndarray of shape (k, l)
        Standard normal.
    """

    encoder: Network
    decoder: Network
    noise: Matrix

    @property
    def n_draws(self) -> int:
        """Draws that the mean is over."""
        n_draws: int = self.noise.shape[1]
        return n_draws

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the mean of the decoded draws, (d, m)."""
        latent = _latent(self.encoder.on_tile(tile))
        together = self._together()
        groups = [self.noise[:, first : first + together] for first in range(0, self.n_draws, together)]
        total = self._sum(latent, groups[0])
        for group in groups[1:]:
            total += self._sum(latent, group)
        total /= self.n_draws
        return total

    def _together(self) -> int:
        widest = max(layer.bias.size for layer in self.decoder.layers)
        return max(1, WIDE // (widest * ROWS))

    def _sum(self, latent: Latent, noise: Matrix) -> Matrix:
        decoded = self.decoder.on_tile(_drawn(latent, noise))
        total: Matrix = decoded.reshape(len(decoded), noise.shape[1], -1).sum(axis=1)
        return total

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the mean over all draws, and the way back through the first of them."""
        outputs, through_encoder = self.encoder.pullback(tile)
        latent, noise = _latent(outputs), self.noise[:, :SLOPES]
        n = noise.shape[1]

        @cache
        def through_decoder() -> Callable[[Matrix], Matrix]:
            return self.decoder.pullback(_drawn(latent, noise))[1]

        def back(gradient: Matrix) -> Matrix:
            by_draw = through_decoder()(np.tile(gradient / n, n)).reshape(len(noise), n, -1)
            by_spread = np.add.reduce(by_draw * noise[:, :, None], axis=1)
            by_log_variance = np.where(latent.free, 0.5 * by_spread * latent.spread, 0.0)
            return through_encoder(np.concatenate([np.add.reduce(by_draw, axis=1), by_log_variance]))

        return self.on_tile(tile), back

    def contributions(self, rows: Matrix, baseline: Scores) -> npt.NDArray[np.float64]:
        """Return integrated gradients."""
        return integrated_gradients(self, rows, baseline)[1]

    def arrays(self) -> Arrays:
        """Return the networks and the noise."""
        return {**self.encoder.arrays("encoder"), **self.decoder.arrays("decoder"), "noise": self.noise}

    def networks(self) -> Mapping[str, list[str]]:
        """Return the networks' activations."""
        return {"encoder": self.encoder.activations, "decoder": self.decoder.activations}

    @classmethod
    def restored(cls, state: State, n_columns: int) -> "MeanOfDraws":
        """Return what a state holds."""
        encoder = Network.restored(state, "encoder", n_inputs=n_columns)
        k, odd = divmod(encoder.n_outputs, 2)
        noise = np.ascontiguousarray(array(state, "noise", k, None))
        if odd or not noise.size:
            raise StateError(
                f"array 'noise' has shape {noise.shape} beside {encoder.n_outputs} outputs of the encoder, "
                "expected half as many rows, and draws; train the model again"
            )
        decoder = Network.restored(state, "decoder", n_inputs=k, n_outputs=n_columns)
        return cls(encoder, decoder, noise)


def _latent(outputs: Matrix) -> Latent:
    k = len(outputs) // 2
    log_variance = outputs[k:]
    cut = np.clip(log_variance, -LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE)
    return Latent(outputs[:k], np.exp(0.5 * cut), cut == log_variance)


def _drawn(latent: Latent, noise: Matrix) -> Matrix:
    """Return z of all rows with each draw, (k, l * m), one draw behind the other."""
    z = latent.spread[:, None, :] * noise[:, :, None]
    z += latent.mean[:, None, :]
    result: Matrix = z.reshape(len(z), -1)
    return result


def fixed_noise(k: int, n_draws: int, rng: np.random.Generator, *, in_pairs: bool) -> Matrix:
    """Return standard normal noise, (k, n_draws).

    In pairs every draw is followed by its opposite [1]_: what is linear in the noise cancels, so the mean
    over few draws is already close to that over many.

    References
    ----------
    .. [1] Hammersley & Morton (1956), A new Monte Carlo technique: antithetic variates.

    Examples
    --------
    >>> noise = fixed_noise(2, 4, np.random.default_rng(0), in_pairs=True)
    >>> noise.shape, bool((noise[:, ::2] == -noise[:, 1::2]).all())
    ((2, 4), True)
    """
    if not in_pairs:
        return rng.standard_normal((k, n_draws))
    half = rng.standard_normal((k, -(-n_draws // 2)))
    paired: Matrix = np.stack([half, -half], axis=2).reshape(k, -1)[:, :n_draws]
    return np.ascontiguousarray(paired)
