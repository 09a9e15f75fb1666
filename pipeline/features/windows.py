"""The windows of `conn@1`: exact counts over the last seconds of a lane, for every row.

Rows of a lane have a position `seq` (log order) and a clock: the largest event time up to the row. The
window of row i for a key, a width W and a capacity N is every row j of the same key with
`seq_i - N < seq_j <= seq_i` and `clock_j > clock_i - W`, row i included. Keys are the source, the
destination and the pair of both, each together with the sensor. Nothing else is read: no wall clock,
no batch boundary, no waiting; a late row counts at the current clock.

Offline and live the same code runs, and the state is integers only: any split of a stream into batches
gives the same bits.
"""

import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.features import window_kernels as kernels
from pipeline.features.window_tables import (
    CHUNK,
    ROW,
    Integers,
    Limits,
    Rows,
    Sensors,
    Sizes,
    Words,
    new_links,
    new_tables,
    part,
    sizes_of,
)

WINDOW_COLUMNS = (
    "src_flows",
    "src_bytes",
    "src_failed",
    "src_dsts",
    "src_dst_ports",
    "dst_flows",
    "dst_srcs",
    "pair_flows",
)
"""What a window gives to a row: of its source, of its destination, of the pair; in this order."""

MOST_BYTES = 1 << 40
"""A row counts for at most 1 TiB: sums over any window stay below 2^62, whatever a record claims."""

MOST_ROWS = 1 << 22
"""The largest capacity: 2^22 rows of 2^40 bytes are the largest sum that fits."""

SPARE = 4096
"""Keys and rows for which there is always room: below this, memory is not worth a move."""


@dataclass(frozen=True, kw_only=True)
class WindowSpec:
    """Which windows to keep: their widths, narrowest first, and the most rows any may hold.

    Examples
    --------
    >>> WindowSpec(widths_s=(10,)).names[:2]
    ('src_flows_10s', 'src_bytes_10s')
    """

    widths_s: tuple[int, ...] = (10, 60)
    capacity: int = 1_048_576

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in pairwise((0, *self.widths_s)))
        whole = all(isinstance(width, int) for width in self.widths_s)
        if not (self.widths_s and whole and ascending):
            raise ValueError(f"widths_s is {self.widths_s}, expected positive whole seconds, ascending")
        if not 1 <= self.capacity <= MOST_ROWS:
            raise ValueError(f"capacity is {self.capacity} rows, expected 1 to {MOST_ROWS:,}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, width by width."""
        return tuple(f"{name}_{width}s" for width in self.widths_s for name in WINDOW_COLUMNS)


class Windows:
    """The windows of one lane: feed it the rows in log order, get each row's counts.

    Memory grows with the open rows and their keys, doubling, to at most about 700 bytes times the
    capacity (where every row has a new source and a new destination), for the moment of a move twice
    that. When a flood is over it is given back within a few batches, or used by the next keys. A move,
    due after as many new keys as are open, takes about a tenth of a microsecond for each of them.

    Not safe for use by two threads at once; the interpreter is released while it computes.

    Parameters
    ----------
    spec : WindowSpec
        Widths and capacity.
    clock_us, seq : int
        Where to begin, with no row open: 0 and 0 in an empty lane, or both as they were before a row
        at or before `oldest` (see `LowMark`), from which rows must then be fed again.
    hash_seed : int, optional
        Only for tests; results never depend on it. Random by default, so that nobody can craft
        addresses that crowd one corner of a table.

    Examples
    --------
    >>> windows = Windows(WindowSpec(widths_s=(10,)))
    >>> hosts = np.zeros((3, 16), np.uint8)
    >>> counts = windows.update(
    ...     sensors=["gate"], sensor=np.zeros(3, np.int32), src=hosts, dst=hosts,
    ...     dst_port=np.array([53, 80, 53]), src_bytes=np.array([70, 500, 80]),
    ...     failed=np.array([False, True, False]), event_time_us=np.array([0, 5, 11]) * 1_000_000,
    ... )
    >>> counts[:, windows.names.index("src_bytes_10s")]
    array([ 70, 570, 580])
    """

    def __init__(
        self, spec: WindowSpec, *, clock_us: int = 0, seq: int = 0, hash_seed: int | None = None
    ) -> None:
        if clock_us < 0 or seq < 0:
            raise ValueError(f"clock_us is {clock_us} and seq {seq}, expected neither below 0")
        self.names = spec.names
        self._limits = Limits(np.array(spec.widths_s, np.int64) * 1_000_000, spec.capacity)
        self._sensors = Sensors()
        self._links = new_links()
        self._tables = new_tables(Sizes(1, 0, 0, 0), len(spec.widths_s))
        self._tables.lane[:] = clock_us, seq
        self._tables.tails[:] = seq
        self._tables.seed[:] = secrets.randbits(64) if hash_seed is None else hash_seed

    @property
    def clock_us(self) -> int:
        """The lane clock after the last row: the largest event time so far, microseconds."""
        return int(self._tables.lane[kernels.CLOCK])

    @property
    def seq(self) -> int:
        """The position of the next row: how many came before, counted from the lane's beginning."""
        return int(self._tables.lane[kernels.SEQ])

    def oldest(self) -> int:
        """Return the seq of the oldest row open in the widest window, or `seq` if none is."""
        return int(self._tables.tails[-1])

    @property
    def n_late(self) -> int:
        """Rows so far whose event time lay behind the lane clock."""
        return int(self._tables.meters[kernels.N_LATE])

    @property
    def late_us(self) -> int:
        """The largest lateness in the last `update`, microseconds."""
        return int(self._tables.meters[kernels.LATE_US])

    @property
    def n_capped(self) -> int:
        """Rows so far whose widest window would have held more rows than the capacity."""
        return int(self._tables.meters[kernels.N_CAPPED])

    @property
    def n_keys(self) -> int:
        """Entities, pairs, and pairs with port in memory, those waiting to be dropped included."""
        return int(self._tables.used.sum())

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in (*self._tables, *self._links))

    def update(
        self,
        *,
        sensors: Sequence[str],
        sensor: npt.NDArray[np.integer],
        src: npt.NDArray[np.uint8],
        dst: npt.NDArray[np.uint8],
        dst_port: npt.NDArray[np.integer],
        src_bytes: npt.NDArray[np.integer],
        failed: npt.NDArray[np.bool_],
        event_time_us: npt.NDArray[np.integer],
    ) -> npt.NDArray[np.int64]:
        """Return the counts of the next n rows of the lane, each with the rows before it.

        Parameters
        ----------
        sensors, sensor : sequence of str and ndarray of shape (n,)
            Names, and the index of each row's name: dictionary and indices of an Arrow column after
            `dictionary_encode()`.
        src, dst : ndarray of shape (n, 16), uint8
            Addresses; the caller gives zeros (`::`) where there is none.
        dst_port : ndarray of shape (n,)
            -1 where there is none.
        src_bytes : ndarray of shape (n,)
            At least 0; counted up to `MOST_BYTES` a row.
        failed : ndarray of shape (n,), bool
            Attempted or rejected.
        event_time_us : ndarray of shape (n,)
            Microseconds since 1970.

        Returns
        -------
        ndarray of shape (n, len(names)), int64
            In the order of `names`.

        Raises
        ------
        ValueError
            If a column has another length, shape or range; nothing has then been counted.
        """
        rows = _checked(
            len(sensors),
            sensor=sensor,
            src=src,
            dst=dst,
            dst_port=dst_port,
            src_bytes=src_bytes,
            failed=failed,
            event_time_us=event_time_us,
        )
        n = rows.sensor.size
        out: Integers = np.empty((n, len(self.names)), np.int64)
        self._tables.meters[kernels.LATE_US] = 0
        for start in range(0, n, CHUNK):
            stop = min(start + CHUNK, n)
            self._update(sensors, part(rows, start, stop), out[start:stop])
        return out

    def _update(self, sensors: Sequence[str], rows: Rows, out: Integers) -> None:
        n = rows.sensor.size
        self._make_room(n)
        rows = rows._replace(sensor=self._sensors.numbers(sensors, rows.sensor.view(np.int64)))
        kernels.update(self._tables, rows, part(self._links, 0, n), self._limits, out)

    def _make_room(self, n: int) -> None:
        """Move to new tables if there is no room for n rows, or far more than is needed."""
        tables = self._tables
        n_open = self.seq - self.oldest()
        most = Sizes(ring=n_open + n, entities=2 * n_open + n, pairs=n_open + n, triples=n_open + n)
        has = sizes_of(tables)
        used = Sizes(n_open, *(int(count) for count in tables.used))
        needs = Sizes(used.ring + n, used.entities + 2 * n, used.pairs + n, used.triples + n)
        full = any(need > have for need, have in zip(needs, has, strict=True))
        idle = any(have > 8 * (need + SPARE) for need, have in zip(most, has, strict=True))
        if full or idle:
            self._move(n_open, n)

    def _move(self, n_open: int, n: int) -> None:
        """Carry what is open over into tables of the right size, and forget sensors with the rest."""
        old = self._tables
        spare = max(SPARE, n_open // 8)
        room = [alive + max(spare, alive) + 2 * n for alive in kernels.living(old)]
        new = new_tables(Sizes(0, *room), old.tails.size)
        ring = old.ring
        if not n_open + n <= ring.size <= 8 * (n_open + SPARE):
            ring = np.zeros(min(max(2 * n_open, SPARE), self._limits.capacity) + CHUNK, ROW)
        self._tables = new._replace(ring=ring)
        kernels.move(old, self._tables, self._links)
        self._sensors.keep(new.entity_keys[: new.used[kernels.ENTITIES], 2])


def _checked(
    n_sensors: int,
    *,
    sensor: npt.NDArray[np.integer],
    src: npt.NDArray[np.uint8],
    dst: npt.NDArray[np.uint8],
    dst_port: npt.NDArray[np.integer],
    src_bytes: npt.NDArray[np.integer],
    failed: npt.NDArray[np.bool_],
    event_time_us: npt.NDArray[np.integer],
) -> Rows:
    """Return copies of the columns in the one layout that the compiled code takes."""
    n = len(sensor)
    rows = Rows(
        src=_addresses("src", src, n),
        dst=_addresses("dst", dst, n),
        sensor=_column("sensor", sensor, n, 0, n_sensors - 1).view(np.uint64),
        dst_port=_column("dst_port", dst_port, n, -1, 65_535),
        bytes=np.minimum(_column("src_bytes", src_bytes, n, 0), MOST_BYTES),
        failed=_flags("failed", failed, n),
        event_time=_column("event_time_us", event_time_us, n),
    )
    # The clock never lies before 0: neither does a time that could move it.
    np.maximum(rows.event_time, 0, out=rows.event_time)
    return rows


def _addresses(name: str, column: npt.NDArray[np.uint8], n: int) -> Words:
    if column.shape != (n, 16) or column.dtype != np.uint8:
        raise ValueError(f"{name} is {column.dtype} {column.shape}, expected uint8 ({n}, 16)")
    return np.array(column, order="C").view(np.uint64)


def _flags(name: str, column: npt.NDArray[np.bool_], n: int) -> npt.NDArray[np.bool_]:
    if column.shape != (n,) or column.dtype != np.bool_:
        raise ValueError(f"{name} is {column.dtype} {column.shape}, expected bool ({n},)")
    return np.array(column)


def _column(
    name: str, column: npt.NDArray[np.integer], n: int, low: int | None = None, high: int | None = None
) -> Integers:
    if column.shape != (n,) or column.dtype.kind not in "iu":
        raise ValueError(f"{name} is {column.dtype} {column.shape}, expected integers ({n},)")
    values: Integers = np.array(column, np.int64)
    least, most = (int(values.min()), int(values.max())) if n else (low or 0, high or 0)
    if (low is not None and least < low) or (high is not None and most > high):
        expected = f"at least {low}" if high is None else f"{low} to {high}"
        raise ValueError(f"{name} has {least} to {most}, expected {expected}")
    return values


Mark = TypeVar("Mark")

MOST_MARKS = 4096


class LowMark(Generic[Mark]):
    """Knows at which message to begin again, so that no row is missing that is still needed.

    Of more than `MOST_MARKS` messages whose rows are needed it remembers every second, fourth and so
    on: then a little more is read again, and memory stays bounded.

    Examples
    --------
    >>> marks = LowMark[str]()
    >>> marks.append(0, "first message")
    >>> marks.append(500, "second message")
    >>> marks.low(499), marks.low(500)
    ('first message', 'second message')
    """

    def __init__(self) -> None:
        self._marks: deque[tuple[int, Mark]] = deque()
        self._stride = 1  # of so many messages one has a mark
        self._passed = 0  # messages since the last mark

    def append(self, seq: int, mark: Mark) -> None:
        """Note a message, with the seq of the windows before its rows are counted."""
        self._passed += 1
        if self._marks and self._marks[-1][0] == seq:
            self._marks[-1] = seq, mark  # the message before had no rows
        elif not self._marks or self._passed >= self._stride:
            self._marks.append((seq, mark))
            self._passed = 0
        if len(self._marks) > MOST_MARKS:
            self._marks = deque(islice(self._marks, 0, None, 2))
            self._stride *= 2

    def low(self, oldest: int) -> Mark:
        """Return the last mark at or before row `oldest`, forgetting those before it.

        Raises
        ------
        LookupError
            If no message has been noted.
        """
        if not self._marks:
            raise LookupError("no message noted yet; call append() before each message's rows")
        while len(self._marks) > 1 and self._marks[1][0] <= oldest:
            self._marks.popleft()
        if len(self._marks) < MOST_MARKS // 4:
            self._stride = max(1, self._stride // 2)
        return self._marks[0][1]
