"""Which rows a model learns from, stops by, is calibrated on and is judged by.

The four parts never share a row. Attacks are in the test part alone. Where rows have an order, the
parts follow it: fit before val before cal before test, so that nothing is judged by its own future.
"""

import hashlib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from training.errors import TrainingError

Rows = npt.NDArray[np.int64]
"""Row numbers in a dataset, ascending."""

Times = npt.NDArray[np.int64]
"""Event times, microseconds since 1970."""

Mask = npt.NDArray[np.bool_]

US_PER_S = 1_000_000

NO_ROWS: Rows = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fractions:
    """Shares of the normal rows; what is left over goes to the test part."""

    fit: float = 0.6
    val: float = 0.1  # early stopping and whitening
    cal: float = 0.1  # p-values, nothing else

    def __post_init__(self) -> None:
        shares = (self.fit, self.val, self.cal)
        if min(shares) <= 0 or sum(shares) > 1 + 1e-9:
            raise TrainingError(
                f"fractions fit={self.fit}, val={self.val}, cal={self.cal}: "
                "each must be above 0 and their sum at most 1"
            )

    def borders(self, n: int) -> tuple[int, int, int]:
        """Return where fit, val and cal end among `n` rows."""
        ends = np.cumsum([self.fit, self.val, self.cal])
        fit, val, cal = (min(round(float(end) * n), n) for end in ends)
        return fit, val, cal


OWN_TEST = Fractions(fit=0.6, val=0.1, cal=0.3)
"""For datasets whose test part is a file or a day of its own."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row numbers of each part, and how they came about."""

    fit: Rows
    val: Rows
    cal: Rows
    test: Rows
    protocol: str
    left_out: Mapping[str, int] = field(default_factory=dict)  # reason -> rows
    anomalies: Rows = field(default_factory=lambda: NO_ROWS)  # attacks that a detector is told of
    unlabelled: Rows = field(default_factory=lambda: NO_ROWS)  # normal rows and attacks, it is not told which

    @property
    def parts(self) -> dict[str, Rows]:
        """The parts by name, in order; those that only some detectors use where they have rows."""
        lent = {"anomalies": self.anomalies, "unlabelled": self.unlabelled}
        given = {name: rows for name, rows in lent.items() if rows.size}
        return {"fit": self.fit, "val": self.val, "cal": self.cal, "test": self.test, **given}

    @property
    def normal(self) -> Rows:
        """The normal rows that training, early stopping and calibration use, ascending."""
        rows: Rows = np.sort(np.concatenate([self.fit, self.val, self.cal]))
        return rows

    def summary(self, times: Times | None = None) -> dict[str, Any]:
        """Return what a manifest records: rows, spans and a hash of each part (JSON values)."""
        parts = {name: _span(rows, times) for name, rows in self.parts.items()}
        return {"protocol": self.protocol, "parts": parts, "left_out": dict(self.left_out)}


def _span(rows: Rows, times: Times | None) -> dict[str, Any]:
    span: dict[str, Any] = {"rows": int(rows.size), "sha256": hashlib.sha256(rows.tobytes()).hexdigest()[:16]}
    if rows.size:
        span |= {"first_row": int(rows[0]), "last_row": int(rows[-1])}
        if times is not None:
            span |= {"first_us": int(times[rows].min()), "last_us": int(times[rows].max())}
    return span


def ordered_split(
    normal: Mask,
    *,
    times: Times | None = None,
    test: Mask | None = None,
    fractions: Fractions | None = None,
    gap_s: float = 0.0,
) -> Split:
    """Cut the normal rows into contiguous blocks, in order of time or, without times, as they stand.

    Parameters
    ----------
    normal : ndarray of shape (n,), bool
        Rows that are no attack.
    times : ndarray of shape (n,), int64, optional
        Event times; rows with equal times keep their order.
    test : ndarray of shape (n,), bool, optional
        Rows of a test part of its own: all of them are the test part, the other normal rows are
        cut into the rest, the other attacks are left out. Without it the last normal rows and
        every attack are the test part, attacks of earlier times included.
    fractions : Fractions, optional
        Default: 0.6, 0.1, 0.1; with a test part of its own 0.6, 0.1, 0.3.
    gap_s : float
        Normal rows so close behind the end of the part before are left out: for features over
        windows this long, which would otherwise count rows of two parts.

    Raises
    ------
    TrainingError
        If a part would have no row.
    """
    pool = _pool(normal, test)
    if times is not None:
        pool = pool[np.argsort(times[pool], kind="stable")]
    fractions = fractions or (Fractions() if test is None else OWN_TEST)
    blocks = np.split(pool, fractions.borders(pool.size))
    n_before = sum(block.size for block in blocks)
    if gap_s > 0:
        blocks = _purged(blocks, times, gap_s)
    left_out = {"gap": n_before - sum(block.size for block in blocks)} if gap_s > 0 else {}
    how = (
        "contiguous blocks in order of event time" if times is not None else "contiguous blocks as they stand"
    )
    if gap_s > 0:
        how += f", {gap_s:g} s left out behind each border"
    return _finish(blocks, normal, test, how=how, fractions=fractions, left_out=left_out)


def shuffled_split(
    normal: Mask,
    *,
    rng: np.random.Generator,
    test: Mask | None = None,
    fractions: Fractions | None = None,
) -> Split:
    """Deal the normal rows out at random: only for rows whose order has no meaning.

    See `ordered_split` for the parameters; the same `rng` state gives the same split.
    """
    pool = rng.permutation(_pool(normal, test))
    fractions = fractions or (Fractions() if test is None else OWN_TEST)
    blocks = np.split(pool, fractions.borders(pool.size))
    how = "random order by seed (theirs has no meaning)"
    return _finish(blocks, normal, test, how=how, fractions=fractions, left_out={})


def _pool(normal: Mask, test: Mask | None) -> Rows:
    return np.flatnonzero(normal if test is None else normal & ~test).astype(np.int64)


def _purged(blocks: list[Rows], times: Times | None, gap_s: float) -> list[Rows]:
    """Drop from each block the rows within `gap_s` behind the last row of the block before."""
    if times is None:
        raise TrainingError("a gap between parts needs event times; this dataset has none")
    kept = [blocks[0]]
    for before, block in itertools.pairwise(blocks):
        end = times[before].max() if before.size else np.int64(0)
        kept.append(block[times[block] > end + int(gap_s * US_PER_S)] if before.size else block)
    return kept


def _finish(
    blocks: list[Rows],
    normal: Mask,
    test: Mask | None,
    *,
    how: str,
    fractions: Fractions,
    left_out: dict[str, int],
) -> Split:
    """Add the attacks or the test part of its own, and refuse empty parts."""
    fit, val, cal, rest = (np.sort(block) for block in blocks)
    if test is None:
        where = "the rest and all attacks"
        tested = np.sort(np.concatenate([rest, np.flatnonzero(~normal)]))
    else:
        where = "rows of their own"
        tested = np.flatnonzero(test)
        left_out |= {"attacks outside the test part": int(np.count_nonzero(~normal & ~test))}
        left_out |= {"normal rows over": int(rest.size)} if rest.size else {}
    protocol = (
        f"normal rows in {how}: fit {fractions.fit:g}, val {fractions.val:g}, "
        f"cal {fractions.cal:g}; test: {where}"
    )
    split = Split(
        fit=fit, val=val, cal=cal, test=tested.astype(np.int64), protocol=protocol, left_out=left_out
    )
    for name, rows in split.parts.items():
        if not rows.size:
            raise TrainingError(
                f"the {name} part has no rows ({int(normal.sum())} normal rows in all, {protocol}); "
                "take more data or other fractions"
            )
    return split


def shared_rows(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> int:
    """Return how many rows of `b` occur, bit for bit, in `a` too: figures on them are optimistic.

    Examples
    --------
    >>> shared_rows(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0], [1.0, 2.0], [3.0, 4.0]]))
    2
    """
    return int(np.isin(_as_items(b), _as_items(a)).sum())


def _as_items(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    x = np.ascontiguousarray(x)
    return x.view(np.dtype((np.void, x.dtype.itemsize * x.shape[1]))).ravel()
