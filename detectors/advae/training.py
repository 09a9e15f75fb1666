"""Self-adversarial training: Algorithm 1 of Wang et al. (2019), arXiv 1903.00904.

E encodes, G generates, and the Gaussian transformer T makes from the code of a normal row that of an
anomalous row near it. With x_r = G(z), z ~ E(x), and x_T = G(z_T), z_T ~ T(E(x)), each minibatch takes two
steps:

1. E is held fixed; G and T go down L_G + lambda L_T,

       L_G = |x - x_r|^2 + gamma KL(E(x_r)) + [m_x - |x_r - x_T|^2]+ + gamma [m_z - KL(E(x_T))]+
       L_T = KL(E(x), T(E(x)));

2. G and T are held fixed; new x_r and x_T are drawn; E goes down

       L_E = |x - x_r|^2 + lambda KL(E(x)) + gamma [m_z - KL(E(x_r))]+ + gamma [m_z - KL(E(x_T))]+

   in which x_r and x_T are constants where they are encoded again, but x_r is not in |x - x_r|^2.

KL(.) of one argument is the divergence from N(0, I), without the minus that the article prints before it;
its running text also writes L_T + lambda L_G, where the algorithm has L_G + lambda L_T. Squares are sums
over the columns, as the margins are meant for; they and the divergences are means over the minibatch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import nn

from detectors.neural.build import mlp
from detectors.neural.training import descend
from detectors.neural.variational import (
    Gaussian,
    Pair,
    from_other,
    from_prior,
    gaussian,
    kaiming,
    squared_error,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """lambda, gamma and the two margins."""

    kl: float
    adversarial: float
    row_margin: float
    code_margin: float


class Noise(NamedTuple):
    """Standard normal noise, for the codes of the rows and for those of the transformer."""

    code: torch.Tensor
    transformed: torch.Tensor


class Told(NamedTuple):
    """A loss, and the values that its hinges compare with a margin: name -> margin - value."""

    loss: torch.Tensor
    gaps: dict[str, torch.Tensor]


@dataclass(slots=True)
class Hinges:
    """How often each hinge was active, epoch by epoch: a hinge that never is teaches nothing."""

    epochs: list[dict[str, float]] = field(default_factory=list)
    _active: dict[str, list[bool]] = field(default_factory=dict)

    def count(self, gaps: dict[str, torch.Tensor]) -> None:
        """Take note of a minibatch."""
        for name, gap in gaps.items():
            self._active.setdefault(name, []).append(bool(gap > 0))

    def end_epoch(self) -> None:
        """Keep the shares of active minibatches, and begin again."""
        self.epochs.append({name: sum(seen) / len(seen) for name, seen in sorted(self._active.items())})
        self._active = {}


class Game:
    """The networks that play, and their losses."""

    def __init__(self, pair: Pair, weights: Weights) -> None:
        self.pair, self.weights = pair, weights
        self.transformer = transformer(pair.code)

    @property
    def modules(self) -> list[nn.Module]:
        """All that is trained."""
        return [self.pair.encoder, self.pair.decoder, self.transformer]

    def transformed(self, code: Gaussian) -> Gaussian:
        """Return the codes of anomalous rows near normal ones."""
        return gaussian(self.transformer(torch.cat(code, dim=1)))

    def generator_loss(self, x: torch.Tensor, noise: Noise) -> Told:
        """Return L_G + lambda L_T; the gradient is for generator and transformer."""
        w = self.weights
        with torch.no_grad():
            code = self.pair.encoded(x)
        other = self.transformed(code)
        rebuilt, synthetic = (
            self.pair.decoder(code.at(noise.code)),
            self.pair.decoder(other.at(noise.transformed)),
        )
        gaps = {
            "generator: rows apart": w.row_margin - squared_error(rebuilt, synthetic),
            "generator: synthetic codes": w.code_margin - from_prior(self.pair.encoded(synthetic)),
        }
        apart, synthetic_codes = (gap.clamp(min=0.0) for gap in gaps.values())
        loss_g = (
            squared_error(x, rebuilt)
            + w.adversarial * from_prior(self.pair.encoded(rebuilt))
            + apart
            + w.adversarial * synthetic_codes
        )
        return Told(loss_g + w.kl * from_other(code, other), gaps)

    def encoder_loss(self, x: torch.Tensor, noise: Noise) -> Told:
        """Return L_E; the gradient is for the encoder."""
        w = self.weights
        code = self.pair.encoded(x)
        rebuilt = self.pair.decoder(code.at(noise.code))
        with torch.no_grad():
            synthetic = self.pair.decoder(self.transformed(code).at(noise.transformed))
        gaps = {
            "encoder: rebuilt codes": w.code_margin - from_prior(self.pair.encoded(rebuilt.detach())),
            "encoder: synthetic codes": w.code_margin - from_prior(self.pair.encoded(synthetic)),
        }
        rebuilt_codes, synthetic_codes = (gap.clamp(min=0.0) for gap in gaps.values())
        loss = squared_error(x, rebuilt) + w.kl * from_prior(code)
        return Told(loss + w.adversarial * (rebuilt_codes + synthetic_codes), gaps)


def transformer(code: int) -> nn.Sequential:
    """Return T: from k means and k log-variances to as many, through two sigmoid layers as wide."""
    return kaiming(mlp([2 * code] * 4, hidden="sigmoid"))


class Players:
    """The two steps of a minibatch."""

    def __init__(self, game: Game, learning_rate: float, generator: torch.Generator) -> None:
        self.game, self.hinges = game, Hinges()
        self._generator = generator
        self._makers: list[nn.Module] = [game.pair.decoder, game.transformer]
        self._encoder: list[nn.Module] = [game.pair.encoder]
        self._step_1 = torch.optim.Adam(_parameters(self._makers), lr=learning_rate)
        self._step_2 = torch.optim.Adam(_parameters(self._encoder), lr=learning_rate)

    def step(self, batch: torch.Tensor) -> None:
        """Let generator and transformer play, then the encoder."""
        self._only(self._makers)
        told = self.game.generator_loss(batch, self._noise(batch))
        descend(self._step_1, told.loss)
        self.hinges.count(told.gaps)
        self._only(self._encoder)
        told = self.game.encoder_loss(batch, self._noise(batch))
        descend(self._step_2, told.loss)
        self.hinges.count(told.gaps)

    def _only(self, players: Sequence[nn.Module]) -> None:
        """Hold all networks fixed but these; gradients go on through the others."""
        for module in self.game.modules:
            module.requires_grad_(module in players)

    def _noise(self, batch: torch.Tensor) -> Noise:
        pair = self.game.pair
        return Noise(pair.noise(batch, self._generator), pair.noise(batch, self._generator))


def _parameters(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters()]


def distance(game: Game, rows: torch.Tensor) -> float:
    """Return L_T on some rows: near zero, the transformer has learned to copy."""
    with torch.no_grad():
        code = game.pair.encoded(rows)
        return from_other(code, game.transformed(code)).item()


def report_of(game: Game, players: Players, rows: torch.Tensor, trained: dict[str, Any]) -> dict[str, Any]:
    """Return how the game went: hinges of the best epoch, what the transformer does, the weights."""
    w = game.weights
    return trained | {
        "active_hinges": players.hinges.epochs[trained["best_epoch"] - 1],
        "transformer_divergence": distance(game, rows),
        "row_margin": w.row_margin,
        "code_margin": w.code_margin,
        "kl_weight": w.kl,
    }
