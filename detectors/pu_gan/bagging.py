"""Stage 1: which unlabelled rows are reliably normal, by bagging with normal rows as the known ones.

"Positive" is what is known, and that is normal traffic here, as in the paper; elsewhere in this package
it is the anomaly that is positive.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Progress, Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class Bags:
    """How classifiers are bagged.

    Parameters
    ----------
    n_bags : int
        Number of classifiers.
    rows : int or None
        Most rows of either kind in a bag; None: all normal ones, and as many unlabelled ones.
    classifier : {"tree", "boosting"}
        Of scikit-learn.
    """

    n_bags: int
    rows: int | None
    classifier: str


class Bagged(NamedTuple):
    """What the classifiers say, each only of rows that it has not seen; higher is more surely normal."""

    unlabelled: Scores  # mean of the out-of-bag scores; -1 for a row that was in every bag
    held_out: Scores


def bagged(
    normal: Matrix,
    held_out: Matrix,
    unlabelled: Matrix,
    bags: Bags,
    rng: np.random.Generator,
    progress: Progress,
) -> Bagged:
    """Return the mean out-of-bag scores [1]_.

    Each classifier learns to tell normal rows from unlabelled ones drawn with replacement; where both
    look alike it cannot, and where there are only unlabelled rows it is sure.

    References
    ----------
    .. [1] Mordelet & Vert (2014), A bagging SVM to learn from positive and unlabeled examples, Pattern
       Recognition Letters 37, algorithm 1.
    """
    most = bags.rows or max(len(normal), len(unlabelled))
    n_normal, n_drawn = min(len(normal), most), min(len(normal), len(unlabelled), most)
    sums, counts, held = np.zeros(len(unlabelled)), np.zeros(len(unlabelled)), np.zeros(len(held_out))
    for bag in range(bags.n_bags):
        known = normal[rng.choice(len(normal), n_normal, replace=False)]
        drawn = rng.integers(0, len(unlabelled), n_drawn)
        score = _trained(bags.classifier, known, unlabelled[drawn], int(rng.integers(2**31)))
        out = np.ones(len(unlabelled), dtype=bool)
        out[drawn] = False
        if out.any():
            sums[out] += score(unlabelled[out])
        counts += out
        held += score(held_out)
        progress(f"bag {bag + 1} of {bags.n_bags}", (bag + 1) / bags.n_bags)
    means = np.divide(sums, counts, out=np.full_like(sums, -1.0), where=counts > 0)
    return Bagged(means, held / bags.n_bags)


def _trained(classifier: str, known: Matrix, drawn: Matrix, seed: int) -> Callable[[Matrix], Scores]:
    """Return the scores for being known of a classifier that was trained on one bag."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.tree import DecisionTreeClassifier
    from threadpoolctl import threadpool_limits

    made: Any = (
        DecisionTreeClassifier(random_state=seed)
        if classifier == "tree"
        else HistGradientBoostingClassifier(max_depth=6, random_state=seed)
    )
    # Where other programs hold a core, boosting's threads wait for each other most of the time.
    with threadpool_limits(1, user_api="openmp"):
        made.fit(np.concatenate([known, drawn]), np.repeat([1, 0], [len(known), len(drawn)]))
    return lambda rows: np.asarray(made.predict_proba(rows)[:, 1], dtype=np.float64)


def share_of_normal(found: Bagged) -> float:
    """Return the estimated share of normal rows among the unlabelled ones, in [0, 1].

    It is the mean score of unlabelled rows over that of held-out normal ones [1]_: both are of rows that
    the classifiers have not seen, so that what they have learned by heart cancels out. Right where odd
    rows score 0; where they are mistaken for normal ones, too high.

    References
    ----------
    .. [1] Elkan & Noto (2008), Learning classifiers from only positive and unlabeled data, KDD, section 2.
    """
    seen = found.unlabelled >= 0
    known = float(found.held_out.mean())
    return min(1.0, float(found.unlabelled[seen].mean()) / known) if seen.any() and known > 0 else 0.0


def kept(found: Bagged, share: float) -> npt.NDArray[np.intp]:
    """Return the places of the unlabelled rows that count as normal: the highest-scored share, in order."""
    many = round(share * len(found.unlabelled))
    highest = np.argsort(-found.unlabelled, kind="stable")[:many]
    return np.sort(highest[found.unlabelled[highest] >= 0])
