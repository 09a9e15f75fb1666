"""From normal rows to a fitted model: discriminator, number of noise nodes, ensemble."""

from typing import Any

import numpy as np

from detectors.base import Matrix, Progress, no_progress
from detectors.beaa import importance, truncation
from detectors.beaa.importance import Target, Trained
from detectors.beaa.model import Model
from detectors.beaa.plan import Plan
from detectors.beaa.scoring import Scale
from detectors.gaussian import LinearGaussian
from detectors.mixture import Mixture, Rows, Rules, learn_mixture

DEFAULT_MEMBERS = 5
"""Ensemble of importance-weighted generators."""

SEARCH_PATIENCE = 2
"""Numbers of noise nodes in a row without a gain before the search ends."""


def fit_model(
    plan: Plan, normal: Matrix, held_out: Matrix, rng: np.random.Generator, progress: Progress
) -> Model:
    """Return the model that `plan` asks for."""
    scale = Scale.of(normal)
    rows, kept = scale.apply(normal), scale.apply(held_out)
    target = target_of(plan, rows, kept, rng)
    trained = [search(plan, target, rng, progress)]
    m = trained[0].generator.loadings.shape[1]
    n_members = plan.n_members or (1 if plan.faithful else DEFAULT_MEMBERS)
    for member in range(1, n_members):
        progress(f"ensemble member {member + 1} of {n_members}", 0.5 + 0.5 * member / n_members)
        drawn = rows[rng.integers(0, len(rows), len(rows))]
        trained.append(train_one(plan, target_of(plan, drawn, kept, rng), m, rng, jitter=plan.jitter))
    autoencoders = [each.generator.named(each.inverse, rotate=not plan.faithful) for each in trained]
    report = {"n_noise": m, "members": [summary(each, target) for each in trained]}
    progress("autoencoder", 1.0)
    return Model.of(autoencoders, kept, scale=scale, plan=plan, report=report)


def target_of(plan: Plan, rows: Matrix, held_out: Matrix, rng: np.random.Generator) -> Target:
    """Return discriminator and moments of normal rows."""
    mean = rows.mean(axis=0)
    covariance = shrunk_covariance(rows - mean, plan.psi_floor)
    kind = plan.discriminator or ("pc" if plan.faithful else "full")
    if kind == "full":
        return Target(LinearGaussian.saturated(mean, covariance), mean, covariance, held_out)
    if kind == "mixture":
        return Target(mixture_of(plan, rows, rng), mean, covariance, held_out)
    from detectors.structure import learn_network

    network = learn_network(
        rows, method=kind, alpha=plan.structure_alpha, variance_floor=plan.psi_floor, rng=rng
    )
    return Target(network, mean, covariance, held_out)


def mixture_of(plan: Plan, rows: Matrix, rng: np.random.Generator) -> Mixture:
    """Return a discriminator of several components, as many as the BIC likes best."""
    rules = Rules(variance_floor=plan.psi_floor, prior_rows=plan.prior_rows)
    return learn_mixture(Rows(rows, np.zeros((len(rows), 0))), rules, rng, no_progress)[0]


def shrunk_covariance(centred: Matrix, floor: float) -> Matrix:
    """Return the covariance by Ledoit and Wolf [1]_, every variance raised by `floor`.

    The floor stands for noise of each column's own: it keeps constant and collinear columns from
    making the matrix singular.

    References
    ----------
    .. [1] Ledoit & Wolf (2004), Journal of Multivariate Analysis 88(2), 365-411.
    """
    n, d = centred.shape
    covariance = centred.T @ centred / n
    plain = np.trace(covariance) / d * np.eye(d)
    distance = float(np.sum((covariance - plain) ** 2))
    fourth = float(np.sum(np.sum(centred**2, axis=1) ** 2))
    error = (fourth / n - float(np.sum(covariance**2))) / n
    share = min(1.0, error / distance) if distance > 0 else 0.0
    result: Matrix = (1 - share) * covariance + share * plain + floor * np.eye(d)
    return result


def search(plan: Plan, target: Target, rng: np.random.Generator, progress: Progress) -> Trained:
    """Return the best generator over the numbers of noise nodes to try.

    Importance: more nodes must raise the held-out log-likelihood under G by more than two standard
    errors. Truncation, as in the paper: D's mean log-likelihood of the last batch must rise.
    """
    candidates = plan.candidates(target.mean.size)
    best: Trained | None = None
    misses = 0
    for tried, m in enumerate(candidates):
        progress(f"{m} noise node{'s' * (m > 1)}", 0.5 * tried / len(candidates))
        found = train_one(plan, target, m, rng, jitter=0.0)
        if best is None or better(plan, found, best):
            best, misses = found, 0
            continue
        misses += 1
        if misses >= (1 if plan.faithful else SEARCH_PATIENCE):
            break
    assert best is not None
    return best


def better(plan: Plan, found: Trained, best: Trained) -> bool:
    """Say whether a generator with more noise nodes is worth having."""
    if plan.faithful:
        return found.batch_logl > best.batch_logl
    gain = found.held_out_logl - best.held_out_logl
    return bool(gain.mean() > 2 * gain.std() / np.sqrt(gain.size))


def train_one(plan: Plan, target: Target, m: int, rng: np.random.Generator, *, jitter: float) -> Trained:
    """Return one trained generator with m noise nodes."""
    kind = plan.start or ("chance" if plan.faithful else "data")
    if kind == "data":
        start = importance.from_data(target, m, plan, rng, jitter)
    else:
        start = importance.from_chance(target, m, plan, rng)
    if plan.faithful:
        return truncation.train(start, target, plan, rng)
    return importance.train(start, target, plan, rng)


def summary(trained: Trained, target: Target) -> dict[str, Any]:
    """Return what the model card says about the training of a member."""
    return {
        "epochs": trained.epochs,
        "stopped_by": trained.stopped,
        "held_out_logl": float(trained.held_out_logl.mean()),
        "batch_logl_under_discriminator": trained.batch_logl,
        "held_out_logl_under_discriminator": float(target.discriminator.logl(target.held_out).mean()),
        "variance_ratio": float(np.trace(trained.generator.covariance) / np.trace(target.covariance)),
        "communality": trained.generator.communality,
    }
