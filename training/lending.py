"""Rows beside the normal ones, for detectors that make use of them: known anomalies, unlabelled traffic.

The test part keeps none of them. Where a dataset has a test part of its own, they are attacks of the
training part; elsewhere they are the earliest ones (by chance where order means nothing) and leave
the test part, which keeps at least half of the attacks.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np

from training.datasets import Dataset
from training.errors import TrainingError
from training.splits import Rows, Split

LEND_STREAM = 3
"""Stream of random numbers beside those of split, cap and fit."""

SHARE = 0.1
"""Known anomalies for each normal row to fit on, and share of anomalies among unlabelled rows."""

MOST_OF_TEST = 0.5
"""Share of a test part's attacks that may be lent at most."""


@dataclass(frozen=True, slots=True)
class _Pool:
    """Attacks that may be lent, in the order in which they are."""

    rows: Rows
    of_test: bool  # whether they leave the test part


def lend(split: Split, dataset: Dataset, *, uses: AbstractSet[str], share: float = SHARE, seed: int) -> Split:
    """Return the split with what a detector makes use of.

    Parameters
    ----------
    split : Split
        Of `dataset`.
    dataset : Dataset
        Labels are read to choose attacks; detectors are told of known anomalies only.
    uses : set of str
        `Detector.uses`. For "unlabelled" the later half of the fit part is no longer known to be normal.
    share : float
        Of anomalies: to known normal rows, and among the unlabelled ones.
    seed : int
        Deals out what has no order.

    Raises
    ------
    TrainingError
        If anomalies are wanted and the dataset has none to lend.
    """
    if not uses:
        return split
    rng = np.random.default_rng([seed, LEND_STREAM])
    pool = _pool(split, dataset, rng)
    fit, hidden = split.fit, split.fit[:0]
    if "unlabelled" in uses:
        fit, hidden = _halves(fit, dataset, rng)
    n_known = round(fit.size * share) if "anomalies" in uses else 0
    n_unseen = round(hidden.size * share / (1 - share))
    # Where there are too few for both, each gets its part.
    n_known = min(n_known, pool.rows.size * n_known // max(1, n_known + n_unseen))
    known, unseen = pool.rows[:n_known], pool.rows[n_known : n_known + n_unseen]
    if "anomalies" in uses and not known.size:
        raise TrainingError(
            f"{dataset.name} has no attack to lend as a known anomaly; take a dataset with more attacks, "
            "or a detector that needs none"
        )
    return _lent(split, fit, np.sort(known), np.sort(np.concatenate([hidden, unseen])), pool)


def _halves(fit: Rows, dataset: Dataset, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Return two halves of the rows; the second one is the later one, where there is a later one."""
    mixed = np.arange(fit.size) >= fit.size - fit.size // 2
    if dataset.order == "none":
        mixed = rng.permutation(mixed)
    return fit[~mixed], fit[mixed]


def _pool(split: Split, dataset: Dataset, rng: np.random.Generator) -> _Pool:
    attacks = np.flatnonzero(~dataset.normal).astype(np.int64)
    outside = np.setdiff1d(attacks, split.test)
    if outside.size:
        return _Pool(rng.permutation(outside), of_test=False)
    if dataset.order == "none":
        ordered = rng.permutation(attacks)
    else:
        timed = dataset.order == "time"
        ordered = attacks[np.argsort(dataset.times[attacks], kind="stable")] if timed else attacks
    return _Pool(ordered[: int(MOST_OF_TEST * attacks.size)], of_test=True)


def _lent(split: Split, fit: Rows, known: Rows, unlabelled: Rows, pool: _Pool) -> Split:
    lent = np.concatenate([known, unlabelled])
    test = np.setdiff1d(split.test, lent) if pool.of_test else split.test
    told = f"; lent: {known.size} known anomalies, {unlabelled.size} unlabelled rows"
    left_out = dict(split.left_out)
    if (outside := "attacks outside the test part") in left_out:
        left_out[outside] -= int(np.isin(lent, pool.rows).sum())
    return replace(
        split,
        fit=fit,
        test=test,
        anomalies=known,
        unlabelled=unlabelled,
        protocol=split.protocol + told,
        left_out=left_out,
    )
