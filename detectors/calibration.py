"""From scores to p-values, which say how rare a score is among normal flows.

Up to the largest calibration score the p-value is that of split conformal prediction [1]_: under
exchangeable normal traffic, P(p <= a) <= a. Beyond it, a generalised Pareto tail [2]_ fitted to the
largest calibration scores extrapolates; that part is a model, not a guarantee, and `notes` says so.

References
----------
.. [1] Vovk, Gammerman & Shafer (2005), Algorithmic Learning in a Random World.
.. [2] Pickands (1975), Annals of Statistics 3(1), 119-131.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from detectors.base import Scores
from detectors.errors import FitError, StateError
from detectors.tiles import elementwise

PEAK_SHARE = 0.02
"""Share of the largest scores that the tail is fitted to: 98th percentile, as is usual for POT."""

WANTED_PEAKS = 200
"""Take more than `PEAK_SHARE` until there are this many peaks: below, the shape is mostly noise."""

LEAST_PEAKS = 30
"""With fewer peaks no tail is fitted at all."""

SMALLEST = float(np.finfo(np.float64).tiny)
"""p-values are never below this, so never 0."""

LARGEST_SCORE = 1e300
"""Larger scores count as this: differences of scores stay finite."""


@dataclass(frozen=True, slots=True)
class Tail:
    """A generalised Pareto tail beyond the largest calibration score."""

    shape: float  # gamma >= 0: a bounded tail would call the first score beyond it impossible
    scale: float  # sigma at the largest calibration score
    n_peaks: int  # scores it was fitted to

    def exponent(self, excess: Scores) -> Scores:
        """Return -log of the probability that a score beyond is larger by `excess`, (n,) >= 0."""
        with np.errstate(over="ignore"):  # infinitely far out is far out
            scaled = excess / self.scale
            found: Scores = np.log1p(self.shape * scaled) / self.shape if self.shape > 0 else scaled
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """p-values of anomaly scores, from the scores of held-out normal flows.

    Valid while normal traffic does not drift. p-values fall as scores rise, are in (0, 1], and
    depend on the one score alone, bit for bit.

    Examples
    --------
    >>> calibration = Calibration.fit(np.arange(999.0))
    >>> calibration.p_value(np.array([-1.0, 500.0, 998.0]))
    array([1. , 0.5 , 0.002])
    >>> bool(calibration.p_value(np.array([5000.0]))[0] < calibration.resolution)
    True
    """

    scores: Scores  # ascending
    tail: Tail | None
    notes: tuple[str, ...]

    @classmethod
    def fit(cls, scores: Scores) -> Self:
        """Learn from the scores of normal flows that no part of the model has seen.

        Parameters
        ----------
        scores : ndarray of shape (n,), float64
            Finite, n >= 1.

        Raises
        ------
        FitError
            If there is no score, or one that is not finite.
        """
        _check_scores(scores)
        ascending = np.sort(np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE))
        tail, reason = _fit_tail(ascending)
        return cls(ascending, tail, _notes(ascending, tail, reason))

    @property
    def resolution(self) -> float:
        """Smallest p-value that the calibration scores themselves support, 1 / (n + 1)."""
        return 1.0 / (self.scores.size + 1)

    def p_value(self, scores: Scores) -> Scores:
        """Return p-values in (0, 1], shape (n,); smaller is more anomalous."""
        if not np.isfinite(scores).all():
            raise FitError("p_value needs finite scores; check the rows before scoring them")
        n, scores = self.scores.size, np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE)
        # In order, each search begins where the one before has left the cache warm: half of the time.
        order = np.argsort(scores)
        at_least = np.empty(scores.shape, dtype=np.int64)
        at_least[order] = n - np.searchsorted(self.scores, scores[order], side="left")
        p: Scores = (1 + at_least) / (n + 1)
        beyond = np.flatnonzero(at_least == 0)
        if self.tail is not None and beyond.size:
            p[beyond] = elementwise(scores[beyond], self._beyond)
        return p

    def carried(self, alpha: float) -> str:
        """Return what a p-value of `alpha` rests on: calibration flows, the fitted tail, or nothing."""
        if alpha >= self.resolution:
            return f"carried by {self.scores.size} calibration flows"
        if self.tail is None:
            return (
                f"below 1/(n+1) = {self.resolution:.3g} and without a tail: nothing will ever alarm; "
                "calibrate on more flows or raise the budget"
            )
        return f"below 1/(n+1) = {self.resolution:.3g}: extrapolated by the fitted tail"

    def alpha_by_kde(self, share: float) -> tuple[float, str]:
        """Return the alpha that alarms from `kde_threshold(scores, share)` on, and a sentence on it.

        An alternative to a stated alpha, for comparison with figures that were made so: the smoothed
        scores decide, not their ranks, so the alpha that a panel is given differs a little from `share`.

        Parameters
        ----------
        share : float
            False alarms that the smoothed calibration scores have beyond the threshold, in (0, 1).
        """
        threshold = kde_threshold(self.scores, share)
        alpha = float(self.p_value(np.array([threshold]))[0])
        return alpha, f"alpha {alpha:.3g}: score {threshold:.6g}, KDE with {share:g} beyond it"

    def to_arrays(self) -> dict[str, npt.NDArray[np.float64]]:
        """Return all of it as arrays, for the bundle."""
        tail = [] if self.tail is None else [self.tail.shape, self.tail.scale, float(self.tail.n_peaks)]
        return {"scores": self.scores, "tail": np.array(tail, dtype=np.float64)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> Self:
        """Take over what `to_arrays` returned; p-values are equal bit for bit.

        Raises
        ------
        StateError
            If something is missing or makes no sense.
        """
        scores, tail = (np.asarray(arrays.get(name, [np.nan]), np.float64) for name in ("scores", "tail"))
        sound = scores.ndim == 1 and scores.size > 0 and np.isfinite(scores).all()
        if not sound or (np.diff(scores) < 0).any() or tail.shape not in {(0,), (3,)}:
            raise StateError("the calibration is damaged: scores or tail make no sense; calibrate again")
        if not np.isfinite(tail).all() or (tail.size and not (tail[0] >= 0 < tail[1])):
            raise StateError(f"the calibration is damaged: tail is {tail.tolist()}; calibrate again")
        fitted = Tail(float(tail[0]), float(tail[1]), int(tail[2])) if tail.size else None
        reason = "" if fitted else (_why_no_tail(scores, _peaks(scores)) or "its fit failed")
        return cls(scores, fitted, _notes(scores, fitted, reason))

    def _beyond(self, scores: Scores) -> Scores:
        """Return the tail's p-values; they mean something beyond the largest calibration score."""
        assert self.tail is not None
        exponent = self.tail.exponent(np.maximum(scores - self.scores[-1], 0.0))
        survival: Scores = self.resolution * np.exp(-np.minimum(exponent, 700.0))
        floored: Scores = np.maximum(survival, SMALLEST)
        return floored


def _check_scores(scores: Scores) -> None:
    if scores.ndim != 1 or scores.size == 0 or not np.isfinite(scores).all():
        raise FitError(
            f"calibration needs finite scores of shape (n,) with n >= 1, got shape {scores.shape}; "
            "give it held-out normal flows scored by the fitted detector"
        )


def kde_threshold(scores: Scores, share: float) -> float:
    """Return the smallest score beyond which a kernel density estimate has at most `share` of its mass.

    The rule of the adVAE article [1]_: Gaussian kernels at the scores, with Silverman's bandwidth
    0.9 min(sd, IQR / 1.349) n^(-1/5) ([2]_, equation 3.31), and the smallest s with CDF(s) >= 1 - share. It
    smooths the scores of the training rows, with share 0.1: here give held-out ones, for those of
    training rows are too small, and a share that a stream can bear. The authors' code looks s up on a
    grid of 1,024 points, which is another than that of its CDF; here it is exact.

    Parameters
    ----------
    scores : ndarray of shape (n,), float64
        Of held-out normal flows, finite, n >= 1.
    share : float
        In (0, 1).

    Returns
    -------
    float
        A threshold: a flow is anomalous if its score is at least that.

    Raises
    ------
    FitError
        If there is no score, one that is not finite, or no such share.

    References
    ----------
    .. [1] Wang et al. (2019), arXiv 1903.00904, section on the decision threshold, and the function
       `learning_threshold` of its code.
    .. [2] Silverman (1986), Density Estimation for Statistics and Data Analysis.

    Examples
    --------
    >>> round(kde_threshold(np.array([0.0, 1.0, 2.0, 3.0, 4.0]), 0.5), 9)
    2.0
    """
    from scipy.special import ndtr

    _check_scores(scores)
    if not 0.0 < share < 1.0:
        raise FitError(f"share is {share}, expected a number between 0 and 1")
    clipped = np.clip(scores, -LARGEST_SCORE, LARGEST_SCORE)
    unit = float(np.abs(clipped).max()) or 1.0
    points = clipped / unit
    bandwidth = _silverman(points)
    if bandwidth == 0.0:  # kernels of no width: the scores' own distribution
        return float(np.quantile(clipped, 1.0 - share, method="inverted_cdf"))
    low = float(points.min()) - 40.0 * bandwidth
    high = float(np.nextafter(points.max() + 40.0 * bandwidth, np.inf))
    with np.errstate(over="ignore"):  # infinitely many bandwidths away is far away
        while low < (middle := 0.5 * (low + high)) < high:
            enough = float(ndtr((middle - points) / bandwidth).mean()) >= 1.0 - share
            low, high = (low, middle) if enough else (middle, high)
    return high * unit


def _silverman(points: Scores) -> float:
    """Return Silverman's bandwidth; the standard deviation's alone where half of the points are equal."""
    if points.size < 2:
        return 0.0
    deviation = float(points.std(ddof=1))
    quartiles = np.quantile(points, [0.25, 0.75])
    middle = float(quartiles[1] - quartiles[0]) / 1.349
    return 0.9 * (min(deviation, middle) or deviation) * float(points.size**-0.2)


def _peaks(ascending: Scores) -> Scores:
    """Return the excesses of the largest scores over the largest score below them."""
    n = ascending.size
    count = min(max(int(np.ceil(PEAK_SHARE * n)), WANTED_PEAKS), n // 4)
    excesses: Scores = ascending[n - count :] - ascending[n - count - 1]
    return excesses


def _why_no_tail(ascending: Scores, peaks: Scores) -> str:
    """Return why no tail should be fitted, or nothing."""
    if peaks.size < LEAST_PEAKS:
        return f"{ascending.size} calibration scores leave {peaks.size} peaks, {LEAST_PEAKS} are needed"
    distinct = np.unique(peaks[peaks > 0]).size
    if 2 * distinct < peaks.size:
        return f"only {distinct} of the {peaks.size} largest calibration scores differ: too discrete"
    return ""


def _fit_tail(ascending: Scores) -> tuple[Tail | None, str]:
    """Return the tail beyond the largest score, or None and the reason."""
    peaks = _peaks(ascending)
    reason = _why_no_tail(ascending, peaks)
    if reason:
        return None, reason
    shape, scale = _pareto(peaks[peaks > 0])
    # A Pareto tail seen from further out is a Pareto tail of the same shape and a larger scale.
    beyond = scale + shape * float(peaks[-1])
    if not (np.isfinite(beyond) and beyond > 0):
        return None, "its fit failed"
    return Tail(shape, beyond, peaks.size), ""


def _pareto(excess: Scores) -> tuple[float, float]:
    """Return (gamma >= 0, sigma) of largest likelihood.

    Grimshaw's reduction: for a given theta = gamma / sigma the best gamma is the mean of
    log(1 + theta y), which leaves one bounded search.
    """
    from scipy.optimize import minimize_scalar

    unit = float(excess.mean())
    y = excess / unit

    def cost(log_theta: float) -> float:
        theta = np.exp(log_theta)
        gamma = float(np.log1p(theta * y).mean())
        return float(np.log(gamma / theta) + gamma + 1.0)

    best = minimize_scalar(cost, bounds=(-12.0, 12.0), method="bounded")
    # theta -> 0 is the exponential tail, whose cost with mean 1 is 1.
    if best.fun >= 1.0 - 1e-9:
        return 0.0, unit
    theta = float(np.exp(best.x))
    gamma = float(np.log1p(theta * y).mean())
    return gamma, gamma / theta * unit


def _notes(ascending: Scores, tail: Tail | None, reason: str) -> tuple[str, ...]:
    n = ascending.size
    floor = f"{1 / (n + 1):.3g}"
    if tail is None:
        return (f"no tail beyond the {n} calibration scores ({reason}): p-values end at {floor}",)
    fitted = f"(shape {tail.shape:.2f}) fitted to the {tail.n_peaks} largest of {n} calibration scores"
    said = [f"p-values below {floor} are extrapolated by a generalised Pareto tail {fitted}"]
    if tail.n_peaks < WANTED_PEAKS:
        said.append(f"{tail.n_peaks} peaks are few for a tail; {WANTED_PEAKS} or more are better")
    if tail.shape > 0.5:
        said.append("the tail is heavy (shape above 0.5): p-values far out are rough")
    return tuple(said)
