"""An encoder against a discriminator of latent values: AnoEAN's training."""

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.functional import mse_loss, softplus

from detectors.inputs import Inputs
from detectors.model import Training
from detectors.neural.build import mlp, tensor
from detectors.neural.distances import mmd, overlap, some
from detectors.neural.negatives import Corruption
from detectors.neural.training import Schedule, descend, train

if TYPE_CHECKING:
    from detectors.anoean import AnoEAN

PROBES = 1000
"""Held-out rows that the objective is measured on."""


SHUFFLED = 0.5
"""Share of the made rows that break dependencies alone."""


class Odd:
    """Where odd rows come from: known anomalies, and rows made from normal ones."""

    def __init__(
        self, settings: "AnoEAN", inputs: Inputs, data: Training, generator: torch.Generator
    ) -> None:
        known = data.anomalies
        self._known = None if known is None or not len(known) else tensor(inputs.matrix(known))
        normal, low, high = tensor(inputs.matrix(data.normal)), tensor(inputs.low), tensor(inputs.high)
        self._corrupt = Corruption(normal, low, high, generator, shuffled=SHUFFLED)
        self._n_made = round(settings.made_share * settings.batch)
        self._n_known = 0 if self._known is None else round(settings.known_share * settings.batch)
        self._generator = generator

    @property
    def per_batch(self) -> int:
        """Odd rows of a minibatch."""
        return self._n_known + self._n_made

    def batch(self, normal: torch.Tensor) -> torch.Tensor:
        """Return the odd rows that go with a minibatch of normal ones; perhaps none."""
        parts = [normal[:0]]
        if self._known is not None:
            parts.append(self._drawn(self._known, self._n_known))
        if self._n_made:
            parts.append(self.made(self._drawn(normal, self._n_made)))
        return torch.cat(parts)

    def made(self, normal: torch.Tensor) -> torch.Tensor:
        """Return as many rows that are not normal, made from normal ones.

        Some of their columns are replaced by those of other rows, by rare values, or by any in a box;
        where anomalies are known, every third lies between a normal row and one of them (mixup).
        """
        made = self._corrupt(normal)
        if self._known is not None:
            of = slice(0, None, 3)
            share = torch.rand(len(made[of]), 1, generator=self._generator)
            made[of] = normal[of] + share * (self._drawn(self._known, len(made[of])) - normal[of])
        return made

    def _drawn(self, rows: torch.Tensor, n: int) -> torch.Tensor:
        return rows[torch.randint(len(rows), (n,), generator=self._generator)]


class Adversaries:
    """Encoder, discriminator and the light head that rebuilds rows, with a step of each."""

    def __init__(self, d: int, settings: "AnoEAN", odd: Odd, generator: torch.Generator) -> None:
        self.encoder = mlp([d, *settings.hidden, settings.latent], hidden="leaky_relu")
        self.discriminator = mlp(
            [settings.latent, *settings.discriminator, 1], hidden="leaky_relu", spectral=settings.spectral
        )
        self.head = mlp([settings.latent, *settings.hidden[-1:], d])
        rate, betas = settings.learning_rate, (settings.beta, 0.999)
        coded = [*self.encoder.parameters(), *self.head.parameters()]
        self._encoding = torch.optim.Adam(coded, lr=rate, betas=betas)
        self._judging = torch.optim.Adam(self.discriminator.parameters(), lr=rate, betas=betas)
        self._settings, self._odd, self._generator = settings, odd, generator

    @property
    def modules(self) -> list[nn.Module]:
        """All that is trained."""
        return [self.encoder, self.discriminator, self.head]

    def step(self, normal: torch.Tensor) -> None:
        """Change the discriminator, then the encoder, by a minibatch of normal rows."""
        odd = self._odd.batch(normal)
        for _ in range(self._settings.discriminator_steps):
            noise = torch.randn(len(normal) + len(odd), self._settings.latent, generator=self._generator)
            with torch.no_grad():
                codes, odd_codes = self.encoder(normal), self.encoder(odd)
            descend(self._judging, self.judged(noise, codes, odd_codes))
        descend(self._encoding, self.encoded(normal, odd))

    def judged(self, noise: torch.Tensor, codes: torch.Tensor, odd_codes: torch.Tensor) -> torch.Tensor:
        """Return L_D [equation 1]: noise is real, what the encoder makes of rows is not."""
        real, made = self.discriminator(noise), self.discriminator(codes)
        smoothing = self._settings.smoothing
        loss = smoothing * softplus(-real).mean() + (1.0 - smoothing) * softplus(real).mean()
        loss = loss + softplus(made).mean()
        return loss + softplus(self.discriminator(odd_codes)).mean() if len(odd_codes) else loss

    def encoded(self, normal: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
        """Return L_E [section 3.3]: normal rows shall pass for noise, odd ones shall not."""
        codes = self.encoder(normal)
        loss = softplus(-self.discriminator(codes)).mean()
        if len(odd):
            loss = loss + self.repelled(self.discriminator(self.encoder(odd)))
        if self._settings.reconstruction:
            loss = loss + self._settings.reconstruction * mse_loss(self.head(codes), normal)
        return loss

    def repelled(self, logits: torch.Tensor) -> torch.Tensor:
        """Return what odd rows cost that pass for noise: -log(1 - D), or a hinge on the logit."""
        margin = self._settings.margin
        costs: torch.Tensor = torch.relu(logits + margin) if margin else softplus(logits)
        return costs.mean()


def train_encoder(
    settings: "AnoEAN", inputs: Inputs, data: Training, generator: torch.Generator
) -> tuple[nn.Sequential, dict[str, Any]]:
    """Return the trained encoder and how training went.

    Training ends when the held-out objective no longer falls. With rows that are made, it is the share of
    such rows, made from held-out ones, that lie nearer to normal codes than normal rows do; without,
    it is the discrepancy between the codes of held-out rows and the noise they shall look like.
    """
    odd = Odd(settings, inputs, data, generator)
    game = Adversaries(inputs.n_columns, settings, odd, generator)
    probe = some(inputs.matrix(data.held_out), PROBES)
    strange = odd.made(probe) if settings.made_share else None
    noise = torch.randn(PROBES, settings.latent, generator=generator)

    def objective() -> torch.Tensor:
        codes = game.encoder(probe)
        return mmd(codes, noise) if strange is None else overlap(codes, game.encoder(strange))

    schedule = Schedule(
        epochs=settings.epochs,
        patience=settings.patience,
        batch=settings.batch - odd.per_batch,
        least_steps=20,
    )
    normal = tensor(inputs.matrix(data.normal))
    report = train(normal, game.step, objective, game.modules, schedule, generator, data.progress)
    return game.encoder, report
