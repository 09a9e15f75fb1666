"""What adversarial training shares: losses, the distance to held-out rows that stops it, and the plain GAN.

Discriminators give logits, not probabilities: the losses are exact however sure a discriminator is.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import mse_loss, softplus
from torch.nn.utils.parametrize import cached

from detectors.base import Progress
from detectors.neural.build import mlp
from detectors.neural.training import Average, Schedule, descend, train


def called_real(logits: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of logits whose rows ought to be called real: mean of -log D."""
    return softplus(-logits).mean()


def called_made(logits: torch.Tensor) -> torch.Tensor:
    """Return the cross entropy of logits whose rows ought to be called made: mean of -log(1 - D)."""
    return softplus(logits).mean()


def adversary(
    parameters: Iterable[nn.Parameter], learning_rate: float, *, beta1: float = 0.5
) -> torch.optim.Adam:
    """Return Adam as GANs are trained with it: less momentum, as the opponent moves, too.

    Fused: for networks of this size its usual form costs more than the networks.
    """
    return torch.optim.Adam(parameters, lr=learning_rate, betas=(beta1, 0.999), fused=True)


def glorot(*networks: nn.Module) -> None:
    """Start linear layers as the public codes of 2018 do: Glorot's uniform weights, no bias."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, nn.Linear) and "weight" in dict(module.named_parameters(recurse=False)):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)


class Discrepancy:
    """How far generated rows are from held-out ones: squared maximum mean discrepancy [1]_.

    Three Gaussian kernels, a quarter, one and four times as wide as the median squared distance of
    the held-out rows. It is near 0 where both have one distribution, and it is seen by it when a
    generator makes good rows of few kinds only. No label is needed.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Held-out normal rows; the first `most` of them are used.
    most : int
        Cost grows with its square.

    References
    ----------
    .. [1] Gretton et al. (2012), A kernel two-sample test, JMLR 13, equation 5.
    """

    def __init__(self, rows: torch.Tensor, *, most: int = 1000) -> None:
        self._rows = rows[:most]
        squares = torch.cdist(self._rows, self._rows) ** 2
        apart = squares[squares > 0]
        middle = float(apart.median()) if len(apart) else 1.0
        self._widths = [middle / 4.0, middle, middle * 4.0]
        self._own = self._kernel(squares)

    def __call__(self, made: torch.Tensor) -> torch.Tensor:
        """Return the discrepancy of generated rows, (m, d)."""
        among = self._kernel(torch.cdist(made, made) ** 2)
        across = self._kernel(torch.cdist(made, self._rows) ** 2)
        return self._own + among - 2.0 * across

    def _kernel(self, squares: torch.Tensor) -> torch.Tensor:
        return torch.stack([torch.exp(-squares / width).mean() for width in self._widths]).mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class GanPlan:
    """How a GAN is built and trained.

    Parameters
    ----------
    latent : int
        Values of the noise, drawn from N(0, 1).
    generator, discriminator : tuple of int
        Widths of their hidden layers, in order.
    hidden : str
        Activation of the discriminator's hidden layers; the generator's are ReLU.
    spectral : bool
        Whether the largest singular value of each layer of the discriminator is held at 1.
    dropout : float
        Of the discriminator's hidden values, in training.
    learning_rate, beta1 : float
        Of Adam, for both networks.
    decay : float
        Of the moving average of the generator's weights; the average is what is kept.
    glorot : bool
        Whether weights start as in the public codes rather than as is usual in torch.
    schedule : Schedule
    """

    latent: int
    generator: tuple[int, ...]
    discriminator: tuple[int, ...]
    hidden: str = "leaky_relu"
    spectral: bool = True
    dropout: float = 0.0
    learning_rate: float = 2e-4
    beta1: float = 0.5
    decay: float = 0.99
    glorot: bool = False
    schedule: Schedule


@dataclass(frozen=True, slots=True, eq=False)
class Gan:
    """A trained GAN: the moving average of the generator, the discriminator, and how training went."""

    generator: nn.Sequential
    discriminator: nn.Sequential
    report: dict[str, Any]


Negatives = Callable[[torch.Tensor], torch.Tensor]
"""From a minibatch of normal rows to rows that a discriminator shall call made."""


def train_gan(
    normal: torch.Tensor,
    held_out: torch.Tensor,
    plan: GanPlan,
    generator: torch.Generator,
    progress: Progress,
    *,
    negatives: Negatives | None = None,
) -> Gan:
    """Train a GAN on normal rows; stop where its rows are nearest to held-out ones.

    One step of the discriminator, one of the generator (which does not saturate: it maximises log D).

    Parameters
    ----------
    normal, held_out : Tensor of shape (n, d)
    plan : GanPlan
    generator : torch.Generator
        Draws the noise and the order of the rows; call it within `repeatable`.
    progress : Progress
    negatives : callable or None
        What the discriminator shall call made beside what the generator makes.
    """
    d = normal.shape[1]
    maker = mlp([plan.latent, *plan.generator, d])
    judge = mlp([d, *plan.discriminator, 1], hidden=plan.hidden, spectral=plan.spectral, dropout=plan.dropout)
    if plan.glorot:
        glorot(maker, judge)
    average = Average(maker, plan.decay)
    of_judge = adversary(judge.parameters(), plan.learning_rate, beta1=plan.beta1)
    of_maker = adversary(maker.parameters(), plan.learning_rate, beta1=plan.beta1)
    discrepancy = Discrepancy(held_out)
    probe = noise(1000, plan.latent, generator)

    def step(batch: torch.Tensor) -> None:
        with torch.no_grad():
            made = maker(noise(len(batch), plan.latent, generator))
        with cached():  # spectral norms are worked out once for all rows
            loss = called_real(judge(batch)) + called_made(judge(made))
            if negatives is not None:
                loss = loss + called_made(judge(negatives(batch)))
            descend(of_judge, loss)
        descend(of_maker, called_real(judge(maker(noise(len(batch), plan.latent, generator)))))
        average.update()

    def objective() -> torch.Tensor:
        return discrepancy(average.network(probe))

    modules = [maker, judge, average]
    report = train(normal, step, objective, modules, plan.schedule, generator, progress)
    maker.load_state_dict(average.network.state_dict())
    return Gan(maker, judge, report)


def noise(n: int, latent: int, generator: torch.Generator) -> torch.Tensor:
    """Return n draws of the noise, (n, latent)."""
    return torch.randn(n, latent, generator=generator)


def train_inverse(
    gan: Gan,
    normal: torch.Tensor,
    held_out: torch.Tensor,
    encoder: nn.Sequential,
    schedule: Schedule,
    generator: torch.Generator,
    progress: Progress,
) -> dict[str, Any]:
    """Train an encoder to find the noise behind rows, the GAN left as it is; return how it went.

    The loss is f-AnoGAN's [1]_: the mean squared error of the rebuilt row, and that of the
    discriminator's last hidden layer, with equal weights.

    References
    ----------
    .. [1] Schlegl et al. (2019), f-AnoGAN, Medical Image Analysis 54, equation 4 (izi_f, kappa 1).
    """
    for network in (gan.generator, gan.discriminator):
        network.eval().requires_grad_(requires_grad=False)
    features = gan.discriminator[:-2]  # without the logit and its (linear) activation
    optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-3)

    def error(rows: torch.Tensor) -> torch.Tensor:
        rebuilt = gan.generator(encoder(rows))
        return mse_loss(rebuilt, rows) + mse_loss(features(rebuilt), features(rows))

    return train(
        normal,
        lambda batch: descend(optimiser, error(batch)),
        lambda: error(held_out),
        [encoder],
        schedule,
        generator,
        progress,
    )
