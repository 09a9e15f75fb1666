"""What a lane has told of the groups of the current bucket, so that a storm is not explained row by row."""

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline.group_keys import Indices, RowKey, keyed, nth, spans
from pipeline.grouping import MAX_GROUPS
from pipeline.publication import OVERFLOW
from pipeline.suppressions import is_suppressed


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """How many rows of each group the verdicts of a lane have held in the current bucket.

    Grouping publishes the first rows of a group, in log order; a row behind them needs no reasons. This
    follows the groups as `Grouper` makes them. It follows from the log: a worker that is started again
    reads it back from the detections of the bucket.
    """

    first: int  # rows of a group to explain
    width_us: int
    max_groups: int = MAX_GROUPS
    bucket: int = -1  # -1: nothing seen
    counts: dict[RowKey, int] = field(default_factory=dict)

    def entered(self, clock_us: int) -> "Told":
        """Return the state when the lane clock is there."""
        bucket = clock_us // self.width_us
        if bucket <= self.bucket:
            return self
        return replace(self, bucket=bucket, counts={})

    def closed(self, clock_end_us: int, *, flush: bool) -> "Told":
        """Return the state after a message; a flush has the groups that are known begin anew."""
        now = self.entered(clock_end_us)
        return replace(now, counts=dict.fromkeys(now.counts, 0)) if flush else now

    def behind(self, rows: pa.RecordBatch, clock_us: int) -> tuple[Indices, "Told"]:
        """Return which flagged rows of a message grouping publishes, and the state behind them.

        Parameters
        ----------
        rows : RecordBatch
            In log order, with the columns of `FLAGGED`; `reasons` is not read. Suppressed ones are in no
            group.
        clock_us : int
            Lane clock before the message.
        """
        kept = np.flatnonzero(~is_suppressed(rows))
        rows = rows.take(pa.array(kept))
        now, found = self.entered(clock_us), [np.zeros(0, dtype=np.int64)]
        buckets = np.maximum(rows.column("clock_us").to_numpy() // self.width_us, now.bucket)
        for bucket, begin, end in spans(np.maximum.accumulate(buckets)):
            wanted, now = now.entered(bucket * self.width_us).counted(rows.slice(begin, end - begin))
            found.append(begin + wanted)
        return kept[np.concatenate(found)], now

    def counted(self, rows: pa.RecordBatch) -> tuple[Indices, "Told"]:
        """Return what `behind` does, for rows that are all in the current bucket."""
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
        """Return the key of the group of each key; all are counted from now on."""
        room = self.max_groups - len(counts)
        if room > 0:
            new = [key for key in keys if key not in counts][:room]
            counts.update(dict.fromkeys(new, 0))
        groups = [key if key in counts else (key[0], OVERFLOW, key[2]) for key in keys]
        for group in groups:
            counts.setdefault(group, 0)
        return groups
