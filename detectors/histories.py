"""Rows laid out so that each stands behind the rows that a detector looks back on."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Places = npt.NDArray[np.int64]
"""Whole numbers: rows of a matrix, sources, positions in a lane."""


@dataclass(frozen=True, slots=True, eq=False)
class Laid:
    """Rows in the order in which a detector with history takes them.

    Parameters
    ----------
    steps : ndarray of shape (m,)
        Numbers of rows; a row stands there as often as it is needed.
    ends : ndarray of shape (n,)
        Where each row to be judged stands among the steps, right behind its history.
    """

    steps: Places
    ends: Places

    def windows(self, history: int, rows: Places | None = None) -> Places:
        """Return the numbers of the rows in the window of each row, or of some: (n, history + 1)."""
        ends = self.ends if rows is None else self.ends[rows]
        windows: Places = self.steps[ends[:, None] + np.arange(-history, 1)]
        return windows


def laid_out(
    sources: Places,
    history: int,
    *,
    n_past: int = 0,
    places: Places | None = None,
    reach: int | None = None,
) -> Laid:
    """Lay out rows, each behind the last `history` rows of its source.

    Where there are fewer, the first of them, or the row itself, stands for what was before. Rows of one
    source that follow each other share their steps, unless `reach` cuts the history of one of them.

    Parameters
    ----------
    sources : ndarray of shape (k,), int64
        Of all rows in their order, those only looked back on first. Rows of one lane, whatever their
        source, have one number.
    history : int
        Rows to look back on.
    n_past : int
        How many of the rows are only looked back on.
    places : ndarray of shape (k,), int64, optional
        Where the rows stand in their lane, ascending; needed where there is a reach.
    reach : int, optional
        Rows that stand further back than this are not looked back on.

    Examples
    --------
    >>> laid = laid_out(np.array([7, 8, 7]), 1)
    >>> laid.steps
    array([0, 0, 2, 1, 1])
    >>> laid.windows(1)
    array([[0, 0],
           [1, 1],
           [0, 2]])
    """
    order = np.argsort(sources, kind="stable").astype(np.int64)
    first = np.maximum(_first_seen(sources[order], None if places is None else places[order], reach), 0)
    at = np.arange(order.size)
    is_short = at - first < history
    first = np.maximum(first, at - history)
    mine = np.flatnonzero(order >= n_past)
    source, is_short, first = sources[order][mine], is_short[mine], first[mine]
    # A row whose history is cut short goes on behind the row before it only where both begin alike.
    begins = np.ones(mine.size, dtype=np.bool_)
    begins[1:] = (source[1:] != source[:-1]) | (is_short[1:] & (first[1:] != first[:-1]))
    run = np.cumsum(begins) - 1
    ends = np.empty(mine.size, dtype=np.int64)
    ends[order[mine] - n_past] = np.arange(mine.size) + history * (run + 1)
    return Laid(order[_steps(mine, first, begins, history)], ends)


def _first_seen(sources: Places, places: Places | None, reach: int | None) -> Places:
    """Return where among rows sorted by source and place each one's history may begin."""
    if places is None or reach is None or not sources.size:
        return np.searchsorted(sources, sources).astype(np.int64)
    # So far apart that the reach of no row comes to another source.
    number = np.cumsum(np.diff(sources, prepend=sources[0]) != 0)
    low, high = int(places.min()), int(places.max())
    key = number * (high - low + reach + 1) + (places - low)
    return np.searchsorted(key, key - reach).astype(np.int64)


def _steps(mine: Places, first: Places, begins: npt.NDArray[np.bool_], history: int) -> Places:
    """Return the steps of all runs, as places among the sorted rows."""
    starts = np.flatnonzero(begins)
    lengths = np.diff(starts, append=mine.size) + history
    offsets = np.cumsum(lengths) - lengths
    within = np.arange(lengths.sum()) - np.repeat(offsets, lengths)
    steps: Places = np.repeat(mine[starts] - history, lengths) + within
    return np.maximum(steps, np.repeat(first[starts], lengths))
