"""Training of variational autoencoders: Gaussian codes, their divergences, and the plain loop."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from detectors.base import Progress
from detectors.neural.build import mlp
from detectors.neural.training import Schedule, descend, train
from detectors.parts.draws import LARGEST_LOG_VARIANCE

LEAST_ERROR = 1e-5
"""Least mean squared error of a column that a weight is taken from: rows that are rebuilt exactly, as
constant ones are, would leave the codes without any prior."""

RAMP = 300
"""Minibatches until a weight that is found counts in full."""

LEAST_STEPS = 250
"""With few rows an epoch is repeated until it has so many minibatches."""


class Gaussian(NamedTuple):
    """A diagonal Gaussian for each row: means and log-variances, (n, k) each."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    def at(self, noise: torch.Tensor) -> torch.Tensor:
        """Return the values that standard normal noise stands for."""
        return self.mean + torch.exp(0.5 * self.log_variance) * noise


def gaussian(outputs: torch.Tensor) -> Gaussian:
    """Return the Gaussians that a network's outputs, (n, 2k), are: means, then log-variances."""
    mean, log_variance = outputs.chunk(2, dim=1)
    return Gaussian(mean, log_variance.clamp(-LARGEST_LOG_VARIANCE, LARGEST_LOG_VARIANCE))


def squared_error(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the squared Euclidean distance of rows, their mean: a sum over the columns."""
    return ((x - y) ** 2).sum(dim=1).mean()


def from_prior(code: Gaussian) -> torch.Tensor:
    """Return KL(code, N(0, I)) = 1/2 sum(mean^2 + s^2 - log s^2 - 1), the mean over rows; never negative."""
    mean, log_variance = code
    return 0.5 * (mean**2 + log_variance.exp() - log_variance - 1.0).sum(dim=1).mean()


def from_other(code: Gaussian, other: Gaussian) -> torch.Tensor:
    """Return KL(code, other) = sum(log(t / s) + (s^2 + (mean - other's)^2) / (2 t^2) - 1/2), the mean."""
    gap = other.log_variance - code.log_variance
    ratio = (code.log_variance.exp() + (code.mean - other.mean) ** 2) / other.log_variance.exp()
    return 0.5 * (gap + ratio - 1.0).sum(dim=1).mean()


@dataclass(frozen=True, slots=True)
class Pair:
    """An encoder, (n, d) -> (n, 2k), and a decoder, (n, k) -> (n, d)."""

    encoder: nn.Sequential
    decoder: nn.Sequential

    @classmethod
    def of(cls, n_columns: int, hidden: Sequence[int], code: int) -> "Pair":
        """Return untrained networks; the decoder mirrors the encoder and ends in a sigmoid."""
        encoder = mlp([n_columns, *hidden, 2 * code])
        decoder = mlp([code, *reversed(hidden), n_columns], last="sigmoid")
        return cls(kaiming(encoder), kaiming(decoder))

    @property
    def code(self) -> int:
        """Latent values k."""
        return next(module.in_features for module in self.decoder if isinstance(module, nn.Linear))

    def encoded(self, x: torch.Tensor) -> Gaussian:
        """Return the rows' codes."""
        return gaussian(self.encoder(x))

    def noise(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return noise for the codes of these rows."""
        return torch.randn((len(x), self.code), generator=generator)


def kaiming(network: nn.Sequential) -> nn.Sequential:
    """Return the network with weights drawn as He et al. (2015) do, uniformly, and biases of zero."""
    for module in network:
        if isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)
    return network


def for_steps(n_steps: int, n_rows: int, batch: int, patience: int) -> Schedule:
    """Return the schedule of about so many minibatches, in whole epochs."""
    batch = min(batch, n_rows)
    per_pass = n_rows // batch
    least = min(LEAST_STEPS, n_steps)
    per_epoch = per_pass * max(1, math.ceil(least * batch / n_rows))
    epochs = max(1, round(n_steps / per_epoch))
    return Schedule(epochs=epochs, patience=patience, batch=batch, least_steps=least)


@dataclass(frozen=True, slots=True)
class Balance:
    """What the divergence from the prior weighs against the squared error.

    Parameters
    ----------
    weight : float or None
        None: the weight under which squared error and divergence are the likelihood of Gaussian columns
        whose variance is the error itself [1]_: weight = 2 error / d.

    References
    ----------
    .. [1] Rybkin, Daniilidis & Levine (2021), Simple and effective VAE training with calibrated
       decoders, ICML, equation 4.
    """

    weight: float | None

    def at(self, error: torch.Tensor, n_columns: int) -> float:
        """Return the weight at a squared error summed over the columns."""
        if self.weight is not None:
            return self.weight
        return 2.0 * max(error.item() / n_columns, LEAST_ERROR)

    def bound(self, error: torch.Tensor, divergence: torch.Tensor, n_columns: int) -> torch.Tensor:
        """Return what training makes small: the negative of a bound of the likelihood, but for constants."""
        if self.weight is not None:
            return error + self.weight * divergence
        return 0.5 * n_columns * (error / n_columns).clamp(min=LEAST_ERROR).log() + divergence


class Probe:
    """Error and divergence of held-out rows, always with the same noise."""

    def __init__(self, pair: Pair, rows: torch.Tensor, generator: torch.Generator) -> None:
        self._pair, self._rows = pair, rows
        self._noise = pair.noise(rows, generator)

    def __call__(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return squared error and divergence from the prior, now."""
        with torch.no_grad():
            code = self._pair.encoded(self._rows)
            rebuilt = self._pair.decoder(code.at(self._noise))
            return squared_error(self._rows, rebuilt), from_prior(code)

    def told(self, balance: Balance) -> dict[str, float]:
        """Return them for a report, with the weight between them."""
        error, divergence = self()
        weight = balance.at(error, self._rows.shape[1])
        return {"error": error.item(), "divergence": divergence.item(), "kl_weight": weight}


def train_pair(
    pair: Pair,
    rows: torch.Tensor,
    probe: Probe,
    balance: Balance,
    schedule: Schedule,
    *,
    learning_rate: float,
    generator: torch.Generator,
    progress: Progress,
) -> dict[str, Any]:
    """Train a plain variational autoencoder; return how it went.

    Parameters
    ----------
    pair : Pair
    rows : Tensor of shape (n, d)
        Normal rows.
    probe : Probe
        Of held-out normal rows.
    balance : Balance
    schedule : Schedule
    learning_rate : float
        Of Adam.
    generator : torch.Generator
        Orders the rows and draws the noise.
    progress : Progress
    """
    parameters = [*pair.encoder.parameters(), *pair.decoder.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    step = plain_step(pair, balance, Ramp(balance), optimiser, generator)

    def objective() -> torch.Tensor:
        return balance.bound(*probe(), rows.shape[1])

    modules = [pair.encoder, pair.decoder]
    report = train(rows, step, objective, modules, schedule, generator, progress)
    return report | probe.told(balance)


class Ramp:
    """From 0 to 1 over the first minibatches where the weight is found, always 1 where it is given.

    Networks that rebuild nothing yet imply a large weight, under which it does not pay to encode anything:
    without a ramp [1]_ they may stay there.

    References
    ----------
    .. [1] Bowman et al. (2016), Generating sentences from a continuous space, CoNLL, section 3.1.
    """

    def __init__(self, balance: Balance) -> None:
        self._done, self._length = 0, RAMP if balance.weight is None else 1

    def __call__(self) -> float:
        """Return the factor of the next minibatch."""
        self._done += 1
        return min(1.0, self._done / self._length)


def plain_step(
    pair: Pair,
    balance: Balance,
    ramp: Ramp,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> Callable[[torch.Tensor], None]:
    """Return a step of training on squared error + weight * divergence."""

    def step(batch: torch.Tensor) -> None:
        code = pair.encoded(batch)
        error = squared_error(batch, pair.decoder(code.at(pair.noise(batch, generator))))
        weight = ramp() * balance.at(error, batch.shape[1])
        descend(optimiser, error + weight * from_prior(code))

    return step
