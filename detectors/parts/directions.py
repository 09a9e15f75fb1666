"""Where an encoder puts a row, beside where it puts normal rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detectors.attribution import integrated_gradients, values_at
from detectors.base import Matrix, Scores, State, Term
from detectors.networks import Differentiable, Network, Pullback
from detectors.parts.sum import Arrays, Because, View, summed
from detectors.state import array


@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """v = root (z - mean): latent values without correlations, each of variance 1 on held-out rows."""

    mean: Scores  # (k,)
    root: Matrix  # (k, k)

    @classmethod
    def of(cls, latent: Matrix) -> "Whitening":
        """Return that of the latent values of held-out rows, (n, k).

        The covariance is shrunk by Ledoit and Wolf; the axes are its eigenvectors, the one with the
        largest variance first, each with its largest component positive.
        """
        from sklearn.covariance import ledoit_wolf

        covariance, _ = ledoit_wolf(latent)
        values, vectors = np.linalg.eigh(np.atleast_2d(covariance))
        order = np.argsort(-values, kind="stable")
        values, vectors = values[order], vectors[:, order]
        vectors = vectors * np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(values.size)])
        floor = max(1e-9 * float(values[0]), 1e-30)
        root = vectors.T / np.sqrt(np.maximum(values, floor))[:, None]
        return cls(latent.mean(axis=0), np.ascontiguousarray(root))

    @classmethod
    def restored(cls, state: State, k: int) -> "Whitening":
        """Return what a state holds."""
        root = np.ascontiguousarray(array(state, "latent_root", k, k))
        return cls(array(state, "latent_mean", k), root)

    def on_tile(self, latent: Matrix) -> Matrix:
        """Return v of a tile of z, (k, 256)."""
        result: Matrix = np.matmul(self.root, latent - self.mean[:, None])
        return result


class Encoder(Differentiable, Protocol):
    """(d, 256) -> (k, 256): a `Network`, or more of them that are one function."""

    @property
    def n_outputs(self) -> int:
        """Values it gives."""

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the outputs of a tile."""

    def arrays(self, name: str) -> Arrays:
        """Return its numbers."""

    def networks(self, name: str) -> Mapping[str, list[str]]:
        """Return the activations of its networks."""


@dataclass(frozen=True, slots=True, eq=False)
class Whitened:
    """An encoder and the whitening of its outputs, as one function."""

    encoder: Encoder
    whitening: Whitening

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return v, and the way back."""
        latent, back = self.encoder.pullback(tile)
        return self.whitening.on_tile(latent), lambda gradient: back(
            np.matmul(self.whitening.root.T, gradient)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Directions:
    """The sum of squares of an encoder's whitened outputs: a squared Mahalanobis distance.

    The terms are squares along the axes of the covariance, so they are orthogonal and add up; a
    column's contribution to a deviation is its integrated gradient from the baseline.

    Parameters
    ----------
    encoder : Encoder
    whitening : Whitening
        Of its outputs on held-out rows.
    baseline : ndarray of shape (d,)
        A typical normal row, in the units of the inputs.
    weight : float
        Of each squared deviation in the score.
    expects : callable or None
        What the model would have expected of a tile of rows, where it expects anything.
    """

    encoder: Encoder
    whitening: Whitening
    baseline: Scores
    weight: float = 1.0
    expects: Callable[[Matrix], Matrix] | None = None

    def labels(self, n_columns: int) -> tuple[Term, ...]:
        """Noise directions n1 .. nk."""
        del n_columns
        return tuple(Term(kind="noise_direction", id=f"n{k + 1}") for k in range(self.whitening.mean.size))

    def score(self, view: View) -> Matrix:
        """Return the weighted squared distance."""
        return summed(self.terms(view))

    def terms(self, view: View) -> Matrix:
        """Return the weighted squares."""
        deviations = self.whitening.on_tile(self.encoder.on_tile(view.cut))
        result: Matrix = self.weight * deviations * deviations
        return result

    def because(self, units: Matrix, cut: Matrix) -> Because:
        """Say which columns push each direction away from where the baseline has it."""
        del units
        function = Whitened(self.encoder, self.whitening)
        deviations, contributions = integrated_gradients(function, cut, self.baseline)
        return Because(deviations, contributions, values_at(function, self.baseline[None])[0])

    def expected(self, view: View) -> Matrix | None:
        """Return what is expected; nothing where there is an encoder alone."""
        return None if self.expects is None else self.expects(view.cut)

    def arrays(self) -> Arrays:
        """Return the encoder, its whitening and the baseline."""
        return {
            **self.encoder.arrays("encoder"),
            "latent_mean": self.whitening.mean,
            "latent_root": self.whitening.root,
            "baseline": self.baseline,
        }

    def networks(self) -> Mapping[str, list[str]]:
        """Return the encoder's activations."""
        return self.encoder.networks("encoder")

    @classmethod
    def restored(cls, state: State, n_columns: int, *, weight: float = 1.0) -> "Directions":
        """Return the part that a state holds."""
        encoder = Network.restored(state, "encoder", n_inputs=n_columns)
        whitening = Whitening.restored(state, encoder.n_outputs)
        return cls(encoder, whitening, array(state, "baseline", n_columns), weight)
