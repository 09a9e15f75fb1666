"""The adversarial autoencoder: what it cannot rebuild, or encodes where no normal flow is, is anomalous."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from detectors.attribution import values_at
from detectors.base import Matrix, Scores, State
from detectors.errors import StateError
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.networks import Network
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.directions import Directions, Whitening
from detectors.parts.residuals import Residuals, Scaled, Through, residuals_of, restored_residuals
from detectors.parts.sum import Part, SumOfParts, View, on_rows
from detectors.state import array

LEAST_SIZE = 1e-6
"""Least size of a part's scores on held-out rows: where all of them are rebuilt exactly."""


@dataclass(eq=False)
class Weighed(SumOfParts):
    """A sum of parts with weights that were found in training; they are a part of the state."""

    weights: Scores = field(default_factory=lambda: np.ones(2))  # of the residuals, of the directions

    def state(self) -> State:
        """Return the numbers of inputs and parts, and the weights."""
        state = super().state()
        return State(parameters=state.parameters, arrays={**state.arrays, "weights": self.weights})


@dataclass(kw_only=True, eq=False)
class AAE(ModelDetector):
    """Score a flow by what an adversarial autoencoder cannot rebuild of it, and by where it encodes it.

    Encoder and decoder learn to rebuild normal rows; a discriminator of latent values learns to tell
    codes from draws of N(0, I), and the encoder to deceive it, so that normal rows fill a known region of
    the latent space [1]_. The score is share R / size(R) + (1 - share) M / size(M): R is the sum of the
    squared residuals, M the squared Mahalanobis distance of the code from those of held-out normal rows
    (the article on encoding anomalies [2]_ has the distance itself; its square ranks alike, and its terms
    add up), and the sizes are their standard deviations on held-out rows.

    Known weaknesses: nothing keeps anomalies from being encoded among normal rows; a discriminator that
    always wins teaches the encoder nothing. So, by default, rows are rebuilt from rows with noise on them,
    residuals are scaled by their spread on held-out rows, held-out rows end the training, and M is
    measured by the codes' own mean and covariance rather than the prior's. The report tells how many
    codes and draws the discriminator gets right: 0.5 where it has been deceived.

    `variant="paper"` is without noise, scaling and early stopping. The article has larger networks, for
    images, and no anomaly score; these are for tables.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    hidden : sequence of int
        Widths of the encoder's layers before the code; the decoder mirrors them.
    code : int or None
        Latent values; None: a third of the columns, at most 8: the prior is matched by a discriminator,
        which needs more rows with every dimension. [1]_ has 8 for images of digits.
    discriminator : sequence of int
        Widths of the discriminator's hidden layers.
    share : float
        Of the residuals in the score.
    noise : float
        Standard deviation of the noise on the rows in training, in units of the columns.
    scaled : bool
        Whether residuals are scaled by their spread on held-out rows.
    learning_rate, adversarial_rate : float
        Of Adam for the reconstruction, and for discriminator and deception: slower, so that the latent
        space follows the reconstruction.
    momentum : float
        beta_1 of Adam in the game.
    batch : int
        Rows of a minibatch.
    epochs, patience : int
        Most epochs; epochs without a smaller held-out error before training stops (0: never).
    residual_floor : float
        Least spread of a residual, in units of its column.
    cap : float
        How far beyond the range of the training rows the networks are asked, in units of the column.

    References
    ----------
    .. [1] Makhzani et al. (2016), Adversarial autoencoders, arXiv 1511.05644, section 2.
    .. [2] Gherbi et al. (2019), An encoding adversarial network for anomaly detection, ACML.
    """

    variant: str = "stable"
    hidden: tuple[int, ...] = (64, 32)
    code: int | None = None
    discriminator: tuple[int, ...] = (32, 16)
    share: float = 0.5
    noise: float = BY_VARIANT
    scaled: bool = BY_VARIANT
    learning_rate: float = 1e-3
    adversarial_rate: float = 1e-4
    momentum: float = 0.5
    batch: int = 128
    epochs: int = 50
    patience: int = BY_VARIANT
    residual_floor: float = 0.05
    cap: float = 10.0

    name = "aae"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {"noise": 0.1, "scaled": True, "patience": 5},
        "paper": {"noise": 0.0, "scaled": False, "patience": 0},
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        for name in ("hidden", "discriminator"):
            setattr(self, name, wholes(name, getattr(self, name), least=1))
        if self.code is not None:
            whole("code", self.code, least=1)
        one_of("scaled", self.scaled, [True, False])
        between("share", self.share, 0.0, 1.0)
        between("noise", self.noise, -1e-300, 10.0)
        for name in ("learning_rate", "adversarial_rate", "momentum"):
            between(name, getattr(self, name), -1e-300 if name == "momentum" else 0.0, 1.0)
        between("residual_floor", self.residual_floor, 0.0, 10.0)
        between("cap", self.cap, 0.0, 1e12)
        for name, least in (("batch", 2), ("epochs", 1), ("patience", 0)):
            whole(name, getattr(self, name), least=least)

    def learn(self, data: Training) -> SumOfParts:
        """Train the networks on normal rows; stop, scale and weigh by held-out ones."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        encoder, decoder, report = self._trained(normal, held_out, data)
        rebuild = Through(Network(encoder.layers + decoder.layers))
        residuals = residuals_of(rebuild, held_out, held_out)
        floor, start = self.residual_floor, typical(normal)
        scale = Scaled.of(residuals, floor=floor) if self.scaled else Scaled.none(inputs.n_columns)
        missed = Residuals(rebuild, scale, start)
        placed = Directions(encoder, Whitening.of(values_at(encoder, held_out)), start)
        sizes = np.array([_size(part, held_out) for part in (missed, placed)])
        weights = np.array([self.share, 1.0 - self.share]) / sizes
        return _weighed(inputs, missed, placed, weights, report)

    def _trained(
        self, normal: Matrix, held_out: Matrix, data: Training
    ) -> tuple[Network, Network, dict[str, Any]]:
        from detectors.neural.build import arrays_of, mlp, tensor
        from detectors.neural.latent_game import LatentGame
        from detectors.neural.training import Schedule, repeatable, train

        d = normal.shape[1]
        k = self.code or min(8, max(1, d // 3))
        with repeatable(data.rng) as generator:
            game = LatentGame(
                encoder=mlp([d, *self.hidden, k]),
                decoder=mlp([k, *reversed(self.hidden), d]),
                discriminator=mlp([k, *self.discriminator, 1], hidden="leaky_relu"),
                rates=(self.learning_rate, self.adversarial_rate),
                momentum=self.momentum,
                noise=self.noise,
                generator=generator,
            )
            probe = tensor(held_out)
            schedule = Schedule(epochs=self.epochs, patience=self.patience, batch=self.batch, least_steps=20)
            report = train(
                tensor(normal),
                game.step,
                lambda: game.error(probe),
                game.modules,
                schedule,
                generator,
                data.progress,
            )
            report["discriminator_right"] = game.told_apart(probe)
            return arrays_of(game.encoder), arrays_of(game.decoder), report

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        rebuild = Through.restored(state, inputs.n_columns)
        missed = restored_residuals(state, rebuild, inputs.n_columns)
        placed = Directions.restored(state, inputs.n_columns)
        weights = array(state, "weights", 2)
        if (weights < 0).any():
            raise StateError(f"array 'weights' is {weights.tolist()}, expected no negative numbers")
        return _weighed(inputs, missed, placed, weights, state.parameters.get("report", {}))


def _size(part: Residuals | Directions, rows: Matrix) -> float:
    """Return the standard deviation of a part's scores on rows."""

    def score(view: View) -> Matrix:
        return part.score(view)

    return max(LEAST_SIZE, float(on_rows(rows, rows, score, 1).std()))


def _weighed(
    inputs: Inputs, missed: Residuals, placed: Directions, weights: Scores, report: Mapping[str, Any]
) -> Weighed:
    """Return the model of both parts, with these weights."""
    for_residuals, for_directions = weights.tolist()
    parts: list[Part] = [
        Residuals(missed.rebuild, missed.scale, missed.baseline, for_residuals),
        Directions(placed.encoder, placed.whitening, placed.baseline, for_directions),
    ]
    return Weighed(inputs, parts, "residuals_and_directions", report, weights)
