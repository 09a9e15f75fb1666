"""One discriminator against many generators, each with a target of its own."""

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from detectors.neural.build import mlp
from detectors.neural.gan import called_made, called_real
from detectors.neural.negatives import Corruption
from detectors.neural.training import descend


def sub_generator(n_columns: int) -> nn.Sequential:
    """Return a generator that as yet hands on its noise: two layers of identities."""
    network = mlp([n_columns, n_columns, n_columns], hidden="relu", last="relu")
    for layer in network.children():
        if isinstance(layer, nn.Linear):
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)
    return network


def scaled_start(network: nn.Sequential) -> nn.Sequential:
    """Start a discriminator as the authors' code does: normal weights of variance 1 / inputs, no bias."""
    for layer in network.children():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    return network


def shares(n: int, count: int) -> list[int]:
    """Return how many of n rows each of `count` generators makes: the lower its target, the more.

    Examples
    --------
    >>> shares(500, 10)
    [90, 81, 72, 63, 54, 45, 36, 27, 18, 14]
    """
    unit = n // (count * (count + 1) // 2)
    found = [(count - number) * unit for number in range(count - 1)]
    return [*found, n - sum(found)]


@dataclass(kw_only=True)
class Game:
    """The networks of MO-GAAL and how they take turns.

    Parameters
    ----------
    discriminator : Module
        Gives the logit that a row is real.
    generators : ModuleList
        From uniform noise as wide as the rows to rows.
    optimise_discriminator, optimise_generators : Optimizer
    corruption : Corruption or None
        Makes rows that are shown as not real beside those of the generators.
    generator : torch.Generator
        Of the noise.
    """

    discriminator: nn.Module
    generators: nn.ModuleList
    optimise_discriminator: torch.optim.Optimizer
    optimise_generators: torch.optim.Optimizer
    corruption: Corruption | None
    generator: torch.Generator

    def noise(self, rows: torch.Tensor) -> torch.Tensor:
        """Return uniform noise like some rows."""
        return torch.rand(rows.shape, generator=self.generator)

    @torch.no_grad()
    def made(self, noise: torch.Tensor) -> torch.Tensor:
        """Return what the generators make of their shares of some noise."""
        ends = list(accumulate(shares(len(noise), len(self.generators))))
        parts = torch.tensor_split(noise, ends[:-1])
        return torch.cat([make(part) for make, part in zip(self.generators, parts, strict=True)])

    def teach_discriminator(self, rows: torch.Tensor) -> None:
        """Teach the discriminator to tell real rows from others."""
        loss = discrimination(self.discriminator, rows, self.others(rows))
        descend(self.optimise_discriminator, loss)

    def others(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows that are to be told from real ones."""
        made = self.made(self.noise(rows))
        return made if self.corruption is None else torch.cat([made, self.corruption(rows)])

    def teach_generators(self, noise: torch.Tensor, targets: torch.Tensor) -> None:
        """Teach each generator to make rows that the discriminator is as sure of as its target says."""
        made = torch.cat([make(noise) for make in self.generators])
        wanted = targets.repeat_interleave(len(noise))
        losses = binary_cross_entropy_with_logits(self.discriminator(made)[:, 0], wanted, reduction="none")
        descend(self.optimise_generators, losses.view(len(targets), -1).mean(dim=1).sum())

    @torch.no_grad()
    def targets(self, rows: torch.Tensor) -> torch.Tensor:
        """Return what the generators aim at: quantiles of the probabilities that real rows are given."""
        certain = torch.sigmoid(self.discriminator(rows)[:, 0])
        count = len(self.generators)
        return torch.quantile(certain, torch.arange(count) / count)


def discrimination(discriminator: nn.Module, real: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of telling real rows from others, both kinds weighing the same."""
    return 0.5 * (called_real(discriminator(real)) + called_made(discriminator(others)))
