"""The training of GANomaly's encoder, decoder, second encoder and discriminator."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.functional import l1_loss, mse_loss

from detectors.base import Progress
from detectors.networks import Network
from detectors.neural.build import arrays_of, mlp
from detectors.neural.gan import adversary, called_made, called_real
from detectors.neural.training import Schedule, descend, train

SURE = 1e-5
"""A discriminator whose loss is less teaches nothing any more: it starts anew, as in the public code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GanomalyPlan:
    """How it is built and trained: see `detectors.ganomaly`."""

    hidden: tuple[int, ...]
    latent: int
    spectral: bool
    adversarial: float
    contextual: float
    latent_weight: float
    learning_rate: float
    schedule: Schedule


class Passed(NamedTuple):
    """A minibatch on its way through the networks."""

    row: torch.Tensor  # x
    code: torch.Tensor  # E1(x)
    rebuilt: torch.Tensor  # G(E1(x))
    again: torch.Tensor  # E2(G(E1(x)))


class Triple(NamedTuple):
    """What training gave."""

    encoder: Network
    decoder: Network
    again: Network
    report: dict[str, Any]


class Game:
    """The networks, their losses, and a step of each side."""

    def __init__(self, d: int, plan: GanomalyPlan) -> None:
        down, up = [d, *plan.hidden, plan.latent], [plan.latent, *reversed(plan.hidden), d]
        self.plan = plan
        self.encoder, self.again = (mlp(down, hidden="leaky_relu") for _ in range(2))
        self.decoder = mlp(up, hidden="relu")
        self._widths = [d, *plan.hidden, 1]
        self.judge = self._fresh_judge()
        both = [p for network in (self.encoder, self.decoder, self.again) for p in network.parameters()]
        self._of_autoencoder = adversary(both, plan.learning_rate)
        self._of_judge = adversary(self.judge.parameters(), plan.learning_rate)
        self.restarts = 0

    @property
    def modules(self) -> list[nn.Module]:
        """All that is trained."""
        return [self.encoder, self.decoder, self.again, self.judge]

    def passed(self, rows: torch.Tensor) -> Passed:
        """Send rows through the networks."""
        code = self.encoder(rows)
        rebuilt = self.decoder(code)
        return Passed(rows, code, rebuilt, self.again(rebuilt))

    def parts(self, p: Passed) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the adversarial loss (feature matching), the contextual and the latent one, as means."""
        features = self.judge[:-2]  # without the logit and its (linear) activation
        adversarial = mse_loss(features(p.rebuilt), features(p.row).detach())
        return adversarial, l1_loss(p.rebuilt, p.row), mse_loss(p.again, p.code)

    def loss(self, p: Passed) -> torch.Tensor:
        """Return the weighted sum of the three."""
        adversarial, contextual, latent = self.parts(p)
        plan = self.plan
        return plan.adversarial * adversarial + plan.contextual * contextual + plan.latent_weight * latent

    def judgement(self, p: Passed) -> torch.Tensor:
        """Return the discriminator's loss."""
        return 0.5 * (called_real(self.judge(p.row)) + called_made(self.judge(p.rebuilt.detach())))

    def step(self, rows: torch.Tensor) -> None:
        """Teach the discriminator, then the others."""
        passed = self.passed(rows)
        judgement = self.judgement(passed)
        descend(self._of_judge, judgement)
        descend(self._of_autoencoder, self.loss(passed))
        if judgement.item() < SURE:
            self._restart_judge()

    def _fresh_judge(self) -> nn.Sequential:
        return mlp(self._widths, hidden="leaky_relu", spectral=self.plan.spectral)

    def _restart_judge(self) -> None:
        self.judge.load_state_dict(self._fresh_judge().state_dict())
        self.restarts += 1


def train_ganomaly(
    normal: torch.Tensor,
    held_out: torch.Tensor,
    plan: GanomalyPlan,
    generator: torch.Generator,
    progress: Progress,
) -> Triple:
    """Train on normal rows; stop where held-out rows and their codes are rebuilt best.

    Parameters
    ----------
    normal, held_out : Tensor of shape (n, d)
    plan : GanomalyPlan
    generator : torch.Generator
        Orders the rows; call it within `repeatable`.
    progress : Progress
    """
    game = Game(normal.shape[1], plan)

    def objective() -> torch.Tensor:
        # Without the adversarial part, which is as small as the discriminator is blind.
        _, contextual, latent = game.parts(game.passed(held_out))
        return plan.contextual * contextual + plan.latent_weight * latent

    report = train(normal, game.step, objective, game.modules, plan.schedule, generator, progress)
    encoder, decoder, again = (arrays_of(network) for network in (game.encoder, game.decoder, game.again))
    return Triple(encoder, decoder, again, {**report, "discriminator_restarts": game.restarts})
