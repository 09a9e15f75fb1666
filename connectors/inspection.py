"""What is in a source: read to its end without a broker, and summed up."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import Chunk, Reject, Source
from connectors.records import LATEST_US

EXAMPLES = 3
"""Rejects of each reason that are kept as examples."""
ROWS = 5
"""First rows that are kept."""
COUNTED = ("protocol", "service", "state", "label", "sensor")
"""Columns whose values are counted."""
MOST_VALUES, OTHERS = 200, "(others)"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True, kw_only=True)
class Inspection:
    """Counts over a whole source, and its first rows."""

    source: Source
    n_positions: int = 0  # lines or records, those that hold no flow included
    n_flows: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # rejects by reason
    examples: dict[str, list[Reject]] = field(default_factory=dict)  # the first rejects of each reason
    first_us: int | None = None  # least and greatest event time
    last_us: int | None = None
    counts: dict[str, Counter[str]] = field(default_factory=dict)  # of the columns of few values
    n_backwards: int = 0  # flows whose event time lies before that of an earlier one
    rows: list[dict[str, object]] = field(default_factory=list)  # the first ones

    @property
    def n_rejected(self) -> int:
        """Records that cannot be read."""
        return self.reasons.total()

    @property
    def n_other(self) -> int:
        """Positions without a flow: headers, events of another kind."""
        return self.n_positions - self.n_flows - self.n_rejected

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """Least and greatest event time."""
        if self.first_us is None or self.last_us is None:
            return None
        return _EPOCH + timedelta(microseconds=self.first_us), _EPOCH + timedelta(microseconds=self.last_us)

    def add(self, chunk: Chunk) -> None:
        """Take in the next chunk."""
        self.n_positions += chunk.next - chunk.first
        for reject in chunk.rejects:
            self.reasons[reject.reason] += 1
            kept = self.examples.setdefault(reject.reason, [])
            if len(kept) < EXAMPLES:
                kept.append(reject)
        if chunk.rows.num_rows:
            self._add_rows(chunk.rows)

    def _add_rows(self, rows: pa.RecordBatch) -> None:
        self.n_flows += rows.num_rows
        times = np.asarray(rows.column("event_time").cast(pa.int64()))
        latest = np.maximum.accumulate(np.maximum(times, self.last_us or 0))
        self.n_backwards += int((times < latest).sum())
        self.first_us = min(times.min().item(), self.first_us if self.first_us is not None else LATEST_US)
        self.last_us = int(latest[-1])
        for name in COUNTED:
            if name in rows.schema.names:
                self._count(name, rows.column(name))
        self.rows += rows.slice(0, ROWS - len(self.rows)).to_pylist()

    def _count(self, name: str, column: pa.Array) -> None:
        counts = self.counts.setdefault(name, Counter())
        for entry in pc.value_counts(column).to_pylist():
            value = "" if entry["values"] is None else str(entry["values"])
            if value in counts or len(counts) < MOST_VALUES:
                counts[value] += entry["counts"]
            else:
                counts[OTHERS] += entry["counts"]


def inspect(
    source: Source, *, limit: int | None = None, progress: Callable[[int], None] = lambda _: None
) -> Inspection:
    """Return what is in a source.

    Parameters
    ----------
    source : Source
        Read from its beginning.
    limit : int, optional
        Only its first so many positions.
    progress : callable
        Called with the position reached.
    """
    found = Inspection(source=source)
    for chunk in source.chunks():
        found.add(chunk)
        progress(chunk.next)
        if limit is not None and chunk.next >= limit:
            break
    return found
