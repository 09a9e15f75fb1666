"""Stage 3, first half: a window as the generator would make it, in two ways."""

from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, State
from detectors.inversion import Descent, Squares, descend
from detectors.networks import Pullback
from detectors.pu_gan.windows import Sequences
from detectors.recurrent import Recurrent, Steps
from detectors.state import array


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Networks:
    """All that the second stage trains.

    Parameters
    ----------
    generator : Recurrent
        Noise to components, (L, q, 256) -> (L, p, 256).
    discriminator : Recurrent
        Components to a logit of being real at each step, (L, p, 256) -> (L, 1, 256).
    encoder : Recurrent
        Components to noise.
    start : ndarray of shape (L, q)
        Noise of one window, drawn in training.
    """

    generator: Recurrent
    discriminator: Recurrent
    encoder: Recurrent
    start: Matrix

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return their numbers for a `State`."""
        found = {"start": self.start}
        for name in NAMES:
            found |= getattr(self, name).arrays(name)
        return found

    def activations(self) -> dict[str, list[str]]:
        """Return their activations, for its JSON part."""
        return {name: getattr(self, name).activations for name in NAMES}

    @classmethod
    def restored(cls, state: State, *, length: int, n_points: int, latent: int, depth: int) -> Self:
        """Return what a state holds."""

        def network(name: str, n_inputs: int, n_outputs: int, depth: int = 1) -> Recurrent:
            return Recurrent.restored(state, name, n_inputs=n_inputs, n_outputs=n_outputs, depth=depth)

        return cls(
            generator=network("generator", latent, n_points, depth),
            discriminator=network("discriminator", n_points, 1),
            encoder=network("encoder", n_points, latent),
            start=array(state, "start", length, latent),
        )


NAMES = ("generator", "discriminator", "encoder")


class Inversion(Protocol):
    """The way from a window into the generator's noise and back."""

    def rebuilt(self, steps: Steps) -> Steps:
        """Return windows as the generator makes them, (L, p, 256)."""


@dataclass(frozen=True, slots=True, eq=False)
class Amortised:
    """The noise is what an encoder says."""

    encoder: Recurrent
    generator: Recurrent

    def rebuilt(self, steps: Steps) -> Steps:
        """Return G(E(x))."""
        return self.generator.on_steps(self.encoder.on_steps(steps))


@dataclass(frozen=True, slots=True, eq=False)
class Descended:
    """The noise is sought by gradient descent on the squared error of the whole window.

    Parameters
    ----------
    generator : Recurrent
    descent : Descent
    encoder : Recurrent or None
        Says where to start.
    start : ndarray of shape (L, q)
        Noise to start from where there is no encoder.
    """

    generator: Recurrent
    descent: Descent
    encoder: Recurrent | None
    start: Matrix

    def rebuilt(self, steps: Steps) -> Steps:
        """Return G(z) of the best z found."""
        start = self._start(steps)
        flat = _Flat(self.generator, len(steps))
        noise, _ = descend(flat, Squares().towards(_flattened(steps)), _flattened(start), self.descent)
        return self.generator.on_steps(noise.reshape(start.shape))

    def _start(self, steps: Steps) -> Steps:
        if self.encoder is not None:
            return self.encoder.on_steps(steps)
        return np.repeat(self.start[:, :, None], steps.shape[2], axis=2)


@dataclass(frozen=True, slots=True, eq=False)
class _Flat:
    """A recurrent network whose steps are stacked in the columns of a tile."""

    network: Recurrent
    length: int

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the outputs of all steps, stacked, and the way back."""
        outputs, back = self.network.pullback(tile.reshape(self.length, -1, tile.shape[1]))
        return _flattened(outputs), lambda gradient: _flattened(back(gradient.reshape(outputs.shape)))


def _flattened(steps: Steps) -> Matrix:
    return steps.reshape(-1, steps.shape[2])


def errors(networks: Networks, held_out: Sequences, descent: Descent) -> dict[str, float]:
    """Return the mean squared errors, per value, of both ways back on some held-out windows.

    Parameters
    ----------
    networks : Networks
    held_out : Sequences
        Components of held-out rows, with at least one window.
    descent : Descent
        At most `STEPS` of its steps are taken.
    """
    windows = held_out.every(max(1, len(held_out.windows) // WINDOWS)).windows[:WINDOWS]
    steps = np.ascontiguousarray(held_out.rows[windows].transpose(1, 2, 0))
    descent, generator = replace(descent, steps=min(descent.steps, STEPS)), networks.generator
    ways: dict[str, Inversion] = {
        "encoder": Amortised(networks.encoder, generator),
        "gradient from the encoder": Descended(generator, descent, networks.encoder, networks.start),
        "gradient from noise": Descended(generator, descent, None, networks.start),
    }
    return {name: float(np.mean((way.rebuilt(steps) - steps) ** 2)) for name, way in ways.items()}


WINDOWS, STEPS = 64, 100
