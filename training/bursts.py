"""The excess of bursts: what one address sends, or gets, in a minute beyond the usual.

Attacks in traffic that is learned teach the model that they are normal. Most of their flows come in bursts: a
scan is thousands of flows of one source in a minute, a flood as many to one destination, of sources that are
made up. So the flows of a source in a minute are cut to what sources usually send, then those to a
destination to what that destination usually gets: servers get much more than others, and every day.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.history import destination_numbers, source_numbers
from training.datasets import Dataset
from training.splits import US_PER_S, Rows

MINUTE_US = 60 * US_PER_S

USUAL = 0.9
"""Share of the minutes of an address in which it sends, or gets, the usual number of flows or fewer."""

MINUTES = 10
"""Minutes with flows that tell what is usual for a destination; one with fewer is taken as any.

Where the capture is so short that nobody has twice as many, half of what the busiest one has.
"""

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """How many flows of one minute are no burst."""

    sent: int  # by a source
    received: int  # by a destination; a busier one has its own number


@dataclass(frozen=True, slots=True)
class Ends:
    """Which address is at one end of each flow, as a number, and a number for it in each minute."""

    of_row: Numbers  # (n,)
    in_minute: Numbers  # (n,)

    @classmethod
    def of(cls, numbers: Numbers, times_us: Numbers) -> "Ends":
        """Return them for flows with these ends at these times."""
        minutes = times_us // MINUTE_US
        return cls(numbers, numbers * (minutes.max(initial=0) + 1) + minutes)

    def minutes(self, rows: Rows) -> tuple[Numbers, Numbers]:
        """Return for each minute of each end that some rows have the end, and how many rows it has."""
        _, first, counts = np.unique(self.in_minute[rows], return_index=True, return_counts=True)
        return self.of_row[rows[first]], counts

    def shortened(self, rows: Rows, longest: Numbers) -> Rows:
        """Return the first rows of each end in each minute, as many as `longest` says of the end."""
        groups = self.in_minute[rows]
        order = np.argsort(groups, kind="stable")
        ordered = groups[order]
        rank = np.arange(rows.size) - np.searchsorted(ordered, ordered, side="left")
        return np.sort(rows[order[rank < longest[self.of_row[rows[order]]]]])


def without_bursts(dataset: Dataset, parts: Sequence[Rows]) -> tuple[list[Rows], Usual]:
    """Return the rows of each part without the excess of bursts, and what is usual in the first part.

    Parameters
    ----------
    dataset : Dataset
        What the rows are of.
    parts : sequence of (n,) arrays
        Numbers of rows, ascending.
    """
    sources = Ends.of(source_numbers(dataset.features), dataset.times)
    sent = _usual(sources.minutes(parts[0])[1])
    same = np.full(sources.of_row.max(initial=0) + 1, sent)
    parts = [sources.shortened(rows, same) for rows in parts]

    destinations = Ends.of(destination_numbers(dataset.features), dataset.times)
    received, own = usual_of_each(destinations, parts[0])
    return [destinations.shortened(rows, own) for rows in parts], Usual(sent=sent, received=received)


def usual_of_each(ends: Ends, rows: Rows) -> tuple[int, Numbers]:
    """Return what is usual for any end, and for each one by its number: the larger of that and its own."""
    of_minute, counts = ends.minutes(rows)
    anyone = _usual(counts)
    usual = np.full(ends.of_row.max(initial=0) + 1, anyone)
    busy, begins, lengths = np.unique(of_minute, return_index=True, return_counts=True)
    enough = min(MINUTES, lengths.max(initial=0) / 2)
    for end, begin, length in zip(busy, begins, lengths, strict=True):
        if length >= enough:  # minutes of one end stand together: `ends.minutes` sorts them
            usual[end] = max(anyone, _usual(counts[begin : begin + length]))
    return anyone, usual


def _usual(counts: Numbers) -> int:
    return int(np.quantile(counts, USUAL, method="higher"))
