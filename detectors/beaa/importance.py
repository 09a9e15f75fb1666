"""Training of G by importance-weighted selection: Algorithm 2 of the paper made stable.

The paper keeps the generated rows that the discriminator D likes best. That maximises
E_G[log p_D], which has no entropy term: its optimum is a point mass on the mode of D, and the
longer one trains the worse G becomes. Here a generated row counts with the weight
(p_D / p_G)^beta instead, whose fixed point is the G closest to D; G starts from the data, and the
G that held-out normal rows like best is kept.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detectors.base import Matrix, Scores
from detectors.beaa.generator import Generator, Inverse
from detectors.beaa.plan import Plan


class Likelihood(Protocol):
    """What a discriminator D says of rows."""

    def logl(self, x: Matrix) -> Scores:
        """Return the log-likelihood of each row, (n,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A generator and its inverse, and how their training went."""

    generator: Generator
    inverse: Inverse
    held_out_logl: Scores  # of each held-out row, under the generator
    batch_logl: float  # mean of the last batch, under the discriminator
    epochs: int
    stopped: str


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """What G is to become: the discriminator, and floors from the normal rows."""

    discriminator: Likelihood
    mean: Scores
    covariance: Matrix
    held_out: Matrix

    def floor(self, plan: Plan) -> Scores:
        """Return the least psi of each attribute: less would be confidence without ground."""
        residual = 1.0 / np.diag(np.linalg.inv(self.covariance))
        floor: Scores = np.maximum(plan.psi_floor, plan.residual_floor * residual)
        return floor


def from_data(target: Target, m: int, plan: Plan, rng: np.random.Generator, jitter: float) -> Generator:
    """Return the start: probabilistic PCA of the normal rows, loadings jittered by `jitter`."""
    values, vectors = np.linalg.eigh(target.covariance)
    top = slice(values.size - m, None)
    rest = float(values[: values.size - m].mean()) if m < values.size else 0.0
    loadings = vectors[:, top] * np.sqrt(np.maximum(values[top] - rest, 0.0))
    loadings = loadings * (1.0 + jitter * rng.standard_normal(loadings.shape))
    psi = np.diag(target.covariance) - np.sum(loadings**2, axis=1)
    return guarded(Generator(target.mean, loadings, psi), target, plan)


def from_chance(target: Target, m: int, plan: Plan, rng: np.random.Generator) -> Generator:
    """Return the paper's start: random coefficients, every noise node to every attribute."""
    d = target.mean.size
    start = Generator(np.zeros(d), rng.standard_normal((d, m)), np.ones(d))
    return guarded(start, target, plan)


def train(start: Generator, target: Target, plan: Plan, rng: np.random.Generator) -> Trained:
    """Evolve G from `start`; return the generator that the held-out normal rows like best."""
    generator = best = start
    best_logl = start.logl(target.held_out)
    best_epoch, epoch, stopped = 0, 0, "most epochs"
    for epoch in range(1, plan.max_epochs + 1):
        generator = evolve(generator, target, plan, rng)
        logl = generator.logl(target.held_out)
        if logl.mean() > best_logl.mean():
            best, best_logl, best_epoch = generator, logl, epoch
        if epoch - best_epoch >= plan.patience:
            stopped = "held-out log-likelihood"
            break
    batch = target.discriminator.logl(best.sample(plan.n_generated, rng)[1])
    return Trained(best, best.inverse(), best_logl, float(batch.mean()), epoch, stopped)


def evolve(generator: Generator, target: Target, plan: Plan, rng: np.random.Generator) -> Generator:
    """Return the next generation: sample, weigh by D against G, learn again."""
    z, x = generator.sample(plan.n_generated, rng)
    weights = selection(target.discriminator.logl(x) - generator.logl(x), plan.ess_share)
    return guarded(relearn(generator, z, x, weights, plan.damping), target, plan)


def selection(log_ratio: Scores, ess_share: float) -> Scores:
    """Return weights exp(beta log_ratio), summing to 1, with the largest beta <= 1 that keeps enough rows.

    Enough: the effective number of rows, 1 / sum w^2, is at least `ess_share` of all.
    """
    low, high = 0.0, 1.0
    if _effective(log_ratio, 1.0) < ess_share:
        for _ in range(30):
            middle = (low + high) / 2
            low, high = (middle, high) if _effective(log_ratio, middle) >= ess_share else (low, middle)
        high = low
    return _weights(log_ratio, high)


def _weights(log_ratio: Scores, beta: float) -> Scores:
    weights = np.exp(beta * (log_ratio - log_ratio.max()))
    normed: Scores = weights / weights.sum()
    return normed


def _effective(log_ratio: Scores, beta: float) -> float:
    return float(1.0 / np.sum(_weights(log_ratio, beta) ** 2) / log_ratio.size)


def relearn(generator: Generator, z: Matrix, x: Matrix, weights: Scores, damping: float) -> Generator:
    """Return G learned from weighted pairs of noise and rows.

    The moments of the selected pairs are blended with those of the old G (`damping` is the share
    of the new ones), x is regressed on z, and the mean and covariance that the selection gave to z
    go into offset and loadings (parameter expansion), so that z is standard normal again.
    """
    d, m = generator.loadings.shape
    both = np.column_stack([z, x])
    mean = weights @ both
    centred = both - mean
    moments = (centred.T * weights) @ centred
    old = np.block([[np.eye(m), generator.loadings.T], [generator.loadings, generator.covariance]])
    blended = (1 - damping) * old + damping * moments
    offset = (1 - damping) * generator.offset + damping * mean[m:]
    zz = blended[:m, :m] + 1e-9 * np.eye(m)
    slope = np.linalg.solve(zz, blended[:m, m:]).T
    loadings = slope @ np.linalg.cholesky(zz)
    psi = np.diag(blended)[m:] - np.sum(loadings**2, axis=1)
    assert psi.shape == (d,)
    return Generator(offset, loadings, psi)


def guarded(generator: Generator, target: Target, plan: Plan) -> Generator:
    """Return G with psi above its floor and every communality below the cap."""
    cap = plan.communality_cap
    explained = np.sum(generator.loadings**2, axis=1)
    psi = np.maximum(generator.psi, np.maximum(target.floor(plan), explained * (1 - cap) / cap))
    return Generator(generator.offset, generator.loadings, psi)
