"""Figures that say how good scores and p-values are; positive means attack throughout.

Scores are anomaly scores (higher is more anomalous); p-values come from calibration. None of these
functions chooses anything: thresholds come from calibration, labels are only counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import average_precision_score, roc_auc_score

from training.errors import TrainingError

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Labels = npt.NDArray[np.object_]
"""What each row is, as text: "normal" or the kind of attack."""

NORMAL = "normal"

# With fewer false positives at the limit than this, one row more or less moves the figure by
# more than a tenth: it would look exact and be chance.
MIN_FALSE_POSITIVES = 10

FPR_LIMITS = (1e-2, 1e-3, 1e-4)
ALPHAS = (1e-2, 1e-3, 1e-4)

COMMON_PREVALENCE = 0.01
"""Share of attacks at which average precisions of different datasets can be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallAtFpr:
    """Share of attacks above the lowest cut that keeps the false-positive rate within `fpr`."""

    fpr: float
    recall: float | None  # None: too few normal rows to say
    n_normal: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAlarms:
    """Stated against observed false alarms on normal rows.

    The interval is the exact binomial one (95 %). It takes rows as independent; flows come in
    bursts, so the truth is wider.
    """

    alpha: float  # stated
    n_normal: int
    n_flagged: int
    observed: float
    ratio: float  # observed / stated: 1 is honest, above 1 too many alarms
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRecall:
    """How many rows of one kind of attack are flagged."""

    kind: str
    n: int
    found: int

    @property
    def recall(self) -> float:
        """Share found."""
        return self.found / self.n


def roc_auc(attack: Mask, scores: Floats) -> float:
    """Return the probability that an attack scores above a normal row, ties counted half.

    Examples
    --------
    >>> roc_auc(np.array([False, False, True]), np.array([0.1, 0.7, 0.7]))
    0.75
    """
    _check(attack, scores)
    return float(roc_auc_score(attack, scores))


def average_precision(attack: Mask, scores: Floats, *, prevalence: float | None = None) -> float:
    """Return sum (R_n - R_(n-1)) P_n over the distinct scores; never the trapezoid.

    Parameters
    ----------
    attack : ndarray of shape (n,), bool
    scores : ndarray of shape (n,), float64
    prevalence : float, optional
        Weigh the rows as if this share were attacks, so that figures of datasets with different
        shares can be compared. Without it the random level is the share of attacks in `attack`.

    Examples
    --------
    >>> average_precision(np.array([False, True, True]), np.array([0.5, 0.5, 0.9]))
    0.8333333333333333
    """
    _check(attack, scores)
    return float(average_precision_score(attack, scores, sample_weight=_weights(attack, prevalence)))


def _weights(attack: Mask, prevalence: float | None) -> Floats | None:
    if prevalence is None:
        return None
    share = float(attack.mean())
    return np.where(attack, prevalence / share, (1 - prevalence) / (1 - share))


def recall_at_fpr(attack: Mask, scores: Floats, fpr: float) -> RecallAtFpr:
    """Return the recall at the lowest cut with at most `fpr` of the normal rows above it.

    Rows that tie with the first normal row beyond the limit are not counted as found, so ties
    never flatter. With fewer than ten false positives at the limit there is no figure.

    Examples
    --------
    >>> scores = np.arange(2000.0)
    >>> recall_at_fpr(scores >= 1000, scores, 0.01).recall
    1.0
    """
    _check(attack, scores)
    normal = scores[~attack]
    allowed = int(np.floor(fpr * normal.size))
    if fpr * normal.size < MIN_FALSE_POSITIVES:
        note = f"{normal.size} normal rows, {MIN_FALSE_POSITIVES / fpr:.0f} needed"
        return RecallAtFpr(fpr=fpr, recall=None, n_normal=normal.size, note=note)
    cut = np.partition(normal, normal.size - allowed - 1)[normal.size - allowed - 1]
    recall = float(np.mean(scores[attack] > cut))
    return RecallAtFpr(fpr=fpr, recall=recall, n_normal=normal.size)


def false_alarms(normal_p_values: Floats, alpha: float) -> FalseAlarms:
    """Compare the share of normal rows with p <= alpha to alpha itself.

    Examples
    --------
    >>> round(false_alarms(np.linspace(0.01, 1, 100), 0.05).ratio, 6)
    1.0
    """
    n = normal_p_values.size
    if n == 0:
        raise TrainingError("false alarms need normal rows in the test part, found none")
    flagged = int(np.count_nonzero(normal_p_values <= alpha))
    interval = binomtest(flagged, n).proportion_ci(confidence_level=0.95, method="exact")
    return FalseAlarms(
        alpha=alpha,
        n_normal=n,
        n_flagged=flagged,
        observed=flagged / n,
        ratio=flagged / n / alpha,
        low=float(interval.low),
        high=float(interval.high),
    )


def recall_by_kind(kinds: Labels, p_values: Floats, alpha: float) -> tuple[KindRecall, ...]:
    """Return how many rows of each kind of attack have p <= alpha, kinds in alphabetical order.

    Examples
    --------
    >>> kinds = np.array(["normal", "scan", "scan"], dtype=object)
    >>> recall_by_kind(kinds, np.array([0.9, 0.001, 0.2]), 0.01)
    (KindRecall(kind='scan', n=2, found=1),)
    """
    attacks = sorted({str(kind) for kind in kinds} - {NORMAL})
    rows = [(kind, kinds == kind) for kind in attacks]
    return tuple(
        KindRecall(kind=kind, n=int(mask.sum()), found=int(np.count_nonzero(p_values[mask] <= alpha)))
        for kind, mask in rows
    )


def prevalence(attack: Mask) -> float:
    """Return the share of attacks: the average precision of random scores."""
    return float(attack.mean())


def trivial_f1(attack: Mask) -> float:
    """Return the F1 of calling everything an attack: what any F1 has to be compared with.

    Examples
    --------
    >>> trivial_f1(np.array([True, False]))
    0.6666666666666666
    """
    share = prevalence(attack)
    return 2 * share / (1 + share)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All figures of one detector on one test part."""

    n: int
    n_attacks: int
    prevalence: float
    trivial_f1: float
    roc_auc: float | None  # None, as the next two, where the part holds one class only
    average_precision: float | None
    average_precision_common: float | None  # at COMMON_PREVALENCE
    recall_at_fpr: tuple[RecallAtFpr, ...]
    false_alarms: tuple[FalseAlarms, ...]
    by_kind: Mapping[str, tuple[KindRecall, ...]]  # alpha as text -> kinds

    def to_json(self) -> dict[str, Any]:
        """Return JSON values, everything under its name: what manifests and cards hold."""
        recalls = {f"{row.fpr:g}": row.recall for row in self.recall_at_fpr}
        alarms = {f"{row.alpha:g}": asdict(row) for row in self.false_alarms}
        kinds = {
            alpha: {row.kind: f"{row.found} of {row.n}" for row in rows}
            for alpha, rows in self.by_kind.items()
        }
        return {
            "n": self.n,
            "n_attacks": self.n_attacks,
            "prevalence": self.prevalence,
            "trivial_f1": self.trivial_f1,
            "roc_auc": self.roc_auc,
            "average_precision": self.average_precision,
            f"average_precision_at_{COMMON_PREVALENCE:g}_attacks": self.average_precision_common,
            "recall_at_false_positive_rate": recalls,
            "false_alarms_at_alpha": alarms,
            "found_at_alpha": kinds,
        }


def figures(kinds: Labels, scores: Floats, p_values: Floats, *, alphas: Sequence[float] = ALPHAS) -> Figures:
    """Return all figures of a test part.

    Parameters
    ----------
    kinds : ndarray of shape (n,), str
        "normal" or the kind of attack of each row.
    scores, p_values : ndarray of shape (n,), float64
    alphas : sequence of float
        Target false-alarm rates at which alarms and attacks found are counted.
    """
    attack = np.asarray(kinds != NORMAL, dtype=np.bool_)
    if not attack.size:
        raise TrainingError("the test part has no rows; figures need at least one")
    both = bool(attack.any()) and not bool(attack.all())
    normal_p = p_values[~attack]
    return Figures(
        n=attack.size,
        n_attacks=int(attack.sum()),
        prevalence=prevalence(attack),
        trivial_f1=trivial_f1(attack),
        roc_auc=roc_auc(attack, scores) if both else None,
        average_precision=average_precision(attack, scores) if both else None,
        average_precision_common=(
            average_precision(attack, scores, prevalence=COMMON_PREVALENCE) if both else None
        ),
        recall_at_fpr=tuple(recall_at_fpr(attack, scores, fpr) for fpr in FPR_LIMITS) if both else (),
        false_alarms=tuple(false_alarms(normal_p, alpha) for alpha in alphas) if normal_p.size else (),
        by_kind={f"{alpha:g}": recall_by_kind(kinds, p_values, alpha) for alpha in alphas},
    )


def _check(attack: Mask, scores: Floats) -> None:
    if attack.shape != scores.shape:
        raise TrainingError(f"{attack.shape} labels for {scores.shape} scores; expected one for each row")
    if attack.all() or not attack.any():
        seen = "attacks only" if attack.size and attack.all() else "no attack"
        raise TrainingError(f"the rows hold {seen}; this figure needs normal rows and attacks")
    if not np.isfinite(scores).all():
        raise TrainingError("scores hold NaN or infinity; detectors must give finite scores")
