"""What a lane has told of the groups of the current bucket, so that a storm is not explained row by row."""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline.group_keys import Indices, RowKey, keyed, nth, spans
from pipeline.grouping import MAX_GROUPS
from pipeline.publication import OVERFLOW

MOST_KEYS = 65_536
"""Keys that are counted where the groups are not known; what comes after them counts as new."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How many rows of each group the verdicts of a lane have held in the current bucket.

    Grouping publishes the first rows of a group, in log order; a row behind them needs no reasons. This
    follows the groups as `Grouper` makes them, whose overflow group it knows only in a bucket that it has
    seen from its beginning: not in the first one after a restart. There it counts every key by itself,
    which leaves out nothing that grouping can publish: all rows of a key are of one group.
    """

    first: int  # rows of a group to explain
    width_us: int
    max_groups: int = MAX_GROUPS
    bucket: int = -1  # -1: nothing seen
    whole: bool = False  # seen from its beginning
    counts: dict[RowKey, int] = field(default_factory=dict)

    def entered(self, clock_us: int) -> "Told":
        """Return the state when the lane clock is there."""
        bucket = clock_us // self.width_us
        if bucket <= self.bucket:
            return self
        return replace(self, bucket=bucket, whole=self.bucket >= 0, counts={})

    def flushed(self) -> "Told":
        """Return the state after a flush: groups are known, and begin anew."""
        return replace(self, counts=dict.fromkeys(self.counts, 0))

    def added(self, rows: pa.RecordBatch) -> tuple[Indices, "Told"]:
        """Return which flagged rows grouping may publish, and the state behind them.

        Parameters
        ----------
        rows : RecordBatch
            In log order, with the columns of `FLAGGED`; `reasons` is not read.
        """
        now, found = self, [np.zeros(0, dtype=np.int64)]
        buckets = np.maximum(rows.column("clock_us").to_numpy() // self.width_us, self.bucket)
        for bucket, begin, end in spans(np.maximum.accumulate(buckets)):
            wanted, now = now.entered(bucket * self.width_us).counted(rows.slice(begin, end - begin))
            found.append(begin + wanted)
        return np.concatenate(found), now

    def counted(self, rows: pa.RecordBatch) -> tuple[Indices, "Told"]:
        """Return what `added` does, for rows that are all in the current bucket."""
        seen, counts = keyed(rows), dict(self.counts)
        groups = self._groups(seen.keys, counts)
        number = {group: at for at, group in enumerate(dict.fromkeys(groups))}
        of_row = np.array([number[group] for group in groups], dtype=np.int64)[seen.of_row]
        before = np.array([counts.get(group, 0) for group in number])
        for group, more in zip(number, np.bincount(of_row).tolist(), strict=True):
            if group in counts:
                counts[group] += more
        return np.flatnonzero(before[of_row] + nth(of_row) < self.first), replace(self, counts=counts)

    def _groups(self, keys: list[RowKey], counts: dict[RowKey, int]) -> list[RowKey]:
        """Return the key of the group of each key; all but overlong ones are counted from now on."""
        room = (self.max_groups if self.whole else MOST_KEYS) - len(counts)
        if room > 0:
            new = [key for key in keys if key not in counts][:room]
            counts.update(dict.fromkeys(new, 0))
        if not self.whole:
            return keys
        groups = [key if key in counts else (key[0], OVERFLOW, key[2]) for key in keys]
        for group in groups:
            counts.setdefault(group, 0)
        return groups
