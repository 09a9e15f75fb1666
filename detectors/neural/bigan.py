"""Bidirectional GANs: a generator, an encoder that goes back, and discriminators of pairs.

One discriminator, of rows with their noise, makes a BiGAN (EGBAD). Two more, of a row with its rebuilt
row and of noise with its rebuilt noise, make both networks each other's inverse (ALAD).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss
from torch.nn.utils.parametrize import cached

from detectors.base import Progress
from detectors.networks import Layer, Network
from detectors.neural.build import activation, arrays_of, mlp
from detectors.neural.gan import adversary, called_made, called_real, glorot, noise
from detectors.neural.training import Average, Schedule, descend, train


class PairJudge(nn.Module):
    """A discriminator of rows and noise: a layer for each, and a layer over both.

    Parameters
    ----------
    n_row, n_noise : int
        Widths of a row and of its noise.
    width : int
        Of each of the three layers.
    hidden : str
        Their activation.
    spectral : bool
        Whether the largest singular value of each layer is held at 1.
    row_norm : bool
        Whether the row's layer is normalised by batch.
    dropout : tuple of float
        Of the row's, the noise's and the last layer's values, in training.
    """

    def __init__(
        self,
        n_row: int,
        n_noise: int,
        *,
        width: int,
        hidden: str,
        spectral: bool,
        row_norm: bool,
        dropout: tuple[float, float, float],
    ) -> None:
        super().__init__()
        norm: list[nn.Module] = [nn.BatchNorm1d(width)] if row_norm else []
        (of_row,) = list(mlp([n_row, width], spectral=spectral).children())[:1]
        (of_noise,) = list(mlp([n_noise, width], spectral=spectral).children())[:1]
        self.row = nn.Sequential(of_row, *norm, activation(hidden), nn.Dropout(dropout[0]))
        self.noise = nn.Sequential(of_noise, activation(hidden), nn.Dropout(dropout[1]))
        self.both = mlp([2 * width, width, 1], hidden=hidden, spectral=spectral, dropout=dropout[2])

    def forward(self, rows: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the logits that the pairs are real: rows with what the encoder makes of them."""
        logits: torch.Tensor = self.both(torch.cat([self.row(rows), self.noise(noise)], dim=1))
        return logits

    def arrays(self) -> Network:
        """Return it as one network over a row followed by its noise."""
        (row,), (noise,) = arrays_of(self.row).layers, arrays_of(self.noise).layers
        corner, other = np.zeros((len(row.bias), noise.weights.shape[1])), row.weights.shape[1]
        weights = np.block([[row.weights, corner], [np.zeros((len(noise.bias), other)), noise.weights]])
        first = Layer(weights, np.concatenate([row.bias, noise.bias]), row.activation)
        return Network((first, *arrays_of(self.both).layers))


class Pairs(NamedTuple):
    """A minibatch, and what the networks make of it."""

    row: torch.Tensor  # x
    guess: torch.Tensor  # E(x)
    noise: torch.Tensor  # z
    made: torch.Tensor  # G(z)
    row_again: torch.Tensor  # G(E(x))
    noise_again: torch.Tensor  # E(G(z))


Logits = tuple[torch.Tensor, torch.Tensor]
"""Of pairs to be called real, and of pairs to be called made."""

QUESTIONS: Mapping[str, Callable[[nn.Module, Pairs], Logits]] = {
    "xz": lambda judge, p: (judge(p.row, p.guess), judge(p.made, p.noise)),
    # What is compared comes first: scores ask how features change with it, the row beside it.
    "xx": lambda judge, p: (_beside(judge, p.row, p.row), _beside(judge, p.row_again, p.row)),
    "zz": lambda judge, p: (_beside(judge, p.noise, p.noise), _beside(judge, p.noise_again, p.noise)),
}
"""Discriminator -> the pairs that it is asked about."""


def _beside(judge: nn.Module, values: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = judge(torch.cat([values, known], dim=1))
    return logits


@dataclass(frozen=True, slots=True, kw_only=True)
class BiganPlan:
    """How a bidirectional GAN is trained.

    Parameters
    ----------
    latent : int
        Values of the noise, drawn from N(0, 1).
    encoder, generator : tuple of int
        Widths of their hidden layers, in order.
    spectral : bool
        Whether the encoder's layers have a largest singular value of 1.
    cycle : float
        Weight of the mean squared error of rebuilt rows in the loss of generator and encoder; 0 leaves
        it to the discriminators alone to make the two each other's inverse.
    asked : str
        Which discriminator the score asks.
    learning_rate : float
        Of Adam, for all networks.
    decay : float
        Of the moving averages of generator, encoder and that discriminator: they are what is kept.
    glorot : bool
        Whether weights start as in the public codes rather than as is usual in torch.
    schedule : Schedule
    """

    latent: int
    encoder: tuple[int, ...]
    generator: tuple[int, ...]
    spectral: bool
    cycle: float
    asked: str
    learning_rate: float
    decay: float
    glorot: bool
    schedule: Schedule


@dataclass(frozen=True, slots=True, eq=False)
class Bigan:
    """What training gave: the averaged encoder, generator and discriminator, and how it went."""

    encoder: Network
    generator: Network
    judge: Network
    report: dict[str, Any]


class _Game:
    """The networks, and a step of each."""

    def __init__(
        self, d: int, plan: BiganPlan, judges: Mapping[str, nn.Module], random: torch.Generator
    ) -> None:
        self.generator = mlp([plan.latent, *plan.generator, d])
        self.encoder = mlp([d, *plan.encoder, plan.latent], hidden="leaky_relu", spectral=plan.spectral)
        self.judges, self.plan, self.random = judges, plan, random
        if plan.glorot:
            glorot(self.generator, self.encoder, *judges.values())
        self.averages = {
            name: Average(network, plan.decay)
            for name, network in (
                ("generator", self.generator),
                ("encoder", self.encoder),
                (plan.asked, judges[plan.asked]),
            )
        }
        both = [*self.generator.parameters(), *self.encoder.parameters()]
        theirs = [parameter for judge in judges.values() for parameter in judge.parameters()]
        self._of_both = adversary(both, plan.learning_rate)
        self._of_judges = adversary(theirs, plan.learning_rate)

    @property
    def modules(self) -> list[nn.Module]:
        """All that is trained or averaged."""
        return [self.generator, self.encoder, *self.judges.values(), *self.averages.values()]

    def pairs(self, rows: torch.Tensor) -> Pairs:
        """Return what the networks make of a minibatch."""
        drawn = noise(len(rows), self.plan.latent, self.random)
        guess, made = self.encoder(rows), self.generator(drawn)
        return Pairs(rows, guess, drawn, made, self.generator(guess), self.encoder(made))

    def step(self, rows: torch.Tensor) -> None:
        """Teach the discriminators, then generator and encoder to confuse them."""
        with cached():  # spectral norms are worked out once for all pairs
            with torch.no_grad():
                pairs = self.pairs(rows)
            descend(self._of_judges, self.judgement(pairs))
        with cached():
            descend(self._of_both, self.confusion(self.pairs(rows)))
        for average in self.averages.values():
            average.update()

    def judgement(self, pairs: Pairs) -> torch.Tensor:
        """Return the discriminators' losses."""
        losses = []
        for name, judge in self.judges.items():
            real, made = QUESTIONS[name](judge, pairs)
            losses.append(called_real(real) + called_made(made))
        return torch.stack(losses).sum()

    def confusion(self, pairs: Pairs) -> torch.Tensor:
        """Return the discriminators' losses with the labels swapped, and the error of rebuilt rows."""
        losses = [self.plan.cycle * mse_loss(pairs.row_again, pairs.row)]
        for name, judge in self.judges.items():
            real, made = QUESTIONS[name](judge, pairs)
            losses.append(called_made(real) + called_real(made))
        return torch.stack(losses).sum()


def train_bigan(
    normal: torch.Tensor,
    held_out: torch.Tensor,
    judges: Mapping[str, nn.Module],
    plan: BiganPlan,
    generator: torch.Generator,
    progress: Progress,
) -> Bigan:
    """Train on normal rows; stop where held-out rows are rebuilt best.

    Each minibatch is one step of the discriminators, then one of generator and encoder.

    Parameters
    ----------
    normal, held_out : Tensor of shape (n, d)
    judges : mapping
        Of names in `QUESTIONS`: the discriminators.
    plan : BiganPlan
    generator : torch.Generator
        Draws the noise and the order of the rows; call it within `repeatable`.
    progress : Progress
    """
    game = _Game(normal.shape[1], plan, judges, generator)
    kept = {name: average.network for name, average in game.averages.items()}

    def objective() -> torch.Tensor:
        return mse_loss(kept["generator"](kept["encoder"](held_out)), held_out)

    report = train(normal, game.step, objective, game.modules, plan.schedule, generator, progress)
    judge = kept[plan.asked]
    features = judge.arrays() if isinstance(judge, PairJudge) else arrays_of(judge)
    return Bigan(arrays_of(kept["encoder"]), arrays_of(kept["generator"]), features, report)
