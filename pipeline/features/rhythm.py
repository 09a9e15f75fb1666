"""The rhythm of contacts: how regularly a source comes back to a destination and port, for every row.

Windows of a minute do not see what happens once a minute. Here each contact (sensor, source,
destination, destination port) keeps the times of its last few flows only, so that an hour costs little
memory. A row sees the flows j of its contact with `clock_i - clock_j < W` and `seq_i - seq_j < N`, of
these the newest K + 1, its own included: at most K gaps. Clock and seq are those of the lane, the clock
in whole milliseconds. As with the windows, all state is integers: any split of a stream into batches,
and a lane that is rebuilt from the rows that are still seen, gives the same bits.
"""

import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.features import rhythm_kernels as kernels
from pipeline.features.window_tables import CHUNK, Integers, Sensors, Words, slots_for

RHYTHM_COLUMNS = ("rhythm_gaps", "rhythm_ms", "rhythm_squares")
"""Gaps between the flows that a row sees, their sum (ms) and the sum of their squares (ms²)."""

MOST_GAPS = 64
MOST_WIDTH_S = 86_400
"""The squares of 64 gaps of a day in milliseconds fit into 63 bits."""

SPARE = 4096
"""Contacts for which there is always room: below this, memory is not worth a move."""

MILESTONES = 64
"""Into how many parts the width is cut to remember which rows are still seen."""


@dataclass(frozen=True, kw_only=True)
class RhythmSpec:
    """How far back gaps are seen, how many of them, and over how many rows of the lane."""

    width_s: int = 3600
    gaps: int = 16
    capacity: int = 1_048_576

    def __post_init__(self) -> None:
        for name, most in (("width_s", MOST_WIDTH_S), ("gaps", MOST_GAPS), ("capacity", 1 << 22)):
            value = getattr(self, name)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise ValueError(f"{name} is {value}, expected a whole number from 1 to {most:,}")


class Rhythm:
    """The contacts of one lane: feed it the rows to follow, in log order.

    Memory: up to about 175 bytes for each contact of the last hour, and 16 (K + 1) more for one that
    came again: 175 MB for a million addresses, for the moment of a move twice that.

    Not safe for use by two threads at once; the interpreter is released while it computes.

    Parameters
    ----------
    spec : RhythmSpec
        Width, number of gaps, capacity.
    seq : int
        Position in the lane of the first row that may be fed.
    hash_seed : int, optional
        Only for tests; results never depend on it.

    Examples
    --------
    >>> rhythm = Rhythm(RhythmSpec())
    >>> hosts = np.zeros((3, 16), np.uint8)
    >>> rhythm.update(
    ...     sensors=["gate"], sensor=np.zeros(3, np.int32), src=hosts, dst=hosts, dst_port=np.full(3, 443),
    ...     clock_us=np.array([0, 60, 121]) * 1_000_000, seq=np.arange(3),
    ... )[:, :2]
    array([[     0,      0],
           [     1,  60000],
           [     2, 121000]])
    """

    def __init__(self, spec: RhythmSpec, *, seq: int = 0, hash_seed: int | None = None) -> None:
        self._spec = spec
        self._reach = kernels.Reach(spec.width_s * 1000, spec.capacity)
        seed = secrets.randbits(64) if hash_seed is None else hash_seed
        self._beats = self._new(0, 0, np.array([seed], np.uint64))
        self._sensors = Sensors()
        self._clock_ms = 0
        self._seq = seq
        self._first_seq = seq
        self._milestones: deque[tuple[int, int]] = deque()

    @property
    def n_contacts(self) -> int:
        """Contacts in memory, those waiting to be dropped included."""
        return int(self._beats.used[kernels.CONTACTS])

    @property
    def memory_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._beats)

    def oldest(self) -> int:
        """Return a seq at or before that of the oldest row that the next one may still see.

        It may lie too early by what came in a 64th of the width.
        """
        first = self._milestones[0][1] if self._milestones else self._first_seq
        return max(first, self._seq - self._reach.capacity)

    def pass_by(self, clock_us: Integers, seq: int) -> None:
        """Go on over rows, followed or not, with these lane clocks and from position `seq` on.

        To be called after `update` with those of them that are followed.
        """
        clocks = clock_us // 1000
        step_ms = max(1, self._reach.width_ms // MILESTONES)
        steps = clocks // step_ms
        before = self._clock_ms // step_ms if self._milestones else -1
        fresh = np.flatnonzero(np.diff(steps, prepend=before))
        self._milestones.extend((int(clocks[i]), seq + int(i)) for i in fresh)
        if clocks.size:
            self._clock_ms, self._seq = int(clocks[-1]), seq + clocks.size
        seen_from = self._clock_ms - self._reach.width_ms
        while len(self._milestones) > 1 and self._milestones[1][0] <= seen_from:
            self._milestones.popleft()
        if fresh.size:
            self._tidy()

    def update(
        self,
        *,
        sensors: Sequence[str],
        sensor: npt.NDArray[np.integer],
        src: npt.NDArray[np.uint8],
        dst: npt.NDArray[np.uint8],
        dst_port: npt.NDArray[np.integer],
        clock_us: Integers,
        seq: Integers,
    ) -> Integers:
        """Return the rhythm of the next n rows that are followed.

        Parameters
        ----------
        sensors, sensor, src, dst, dst_port
            As `Windows.update` takes them, checked there.
        clock_us, seq : ndarray of shape (n,), int64
            The lane clock at each row and its position: neither ever goes back.

        Returns
        -------
        ndarray of shape (n, 3), int64
            In the order of `RHYTHM_COLUMNS`.
        """
        src_words, dst_words = (np.ascontiguousarray(a).view(np.uint64) for a in (src, dst))
        clocks = clock_us // 1000
        out: Integers = np.empty((seq.size, len(RHYTHM_COLUMNS)), np.int64)
        for start in range(0, seq.size, CHUNK):
            rows = slice(start, min(start + CHUNK, seq.size))
            self._make_room(clocks[start], seq[start], rows.stop - start)  # first: it may forget sensors
            keys = np.empty((rows.stop - start, kernels.N_WORDS), np.uint64)
            keys[:, 0:2], keys[:, 2:4] = src_words[rows], dst_words[rows]
            keys[:, 4] = self._sensors.numbers(sensors, sensor[rows])
            keys[:, 5] = dst_port[rows] + 1  # -1 is no port
            kernels.update(self._beats, keys, clocks[rows], seq[rows], self._reach, out[rows])
        return out

    def _make_room(self, clock_ms: int, seq: int, n: int) -> None:
        """Move to new tables if there is no room for n rows."""
        beats = self._beats
        n_contacts, n_rings = (int(count) for count in beats.used)
        if n_contacts + n > len(beats.keys) or n_rings + n > len(beats.rings):
            self._move(clock_ms, seq, n)

    def _tidy(self) -> None:
        """Give memory back that a scan has left behind."""
        alive, _ = kernels.living(self._beats, self._clock_ms, self._seq, self._reach)
        if len(self._beats.keys) > 8 * (alive + SPARE):
            self._move(self._clock_ms, self._seq, 0)

    def _move(self, clock_ms: int, seq: int, n: int) -> None:
        """Carry what is still seen over into tables of the right size, and forget sensors with the rest."""
        old = self._beats
        alive = kernels.living(old, clock_ms, seq, self._reach)
        contacts, rings = (count + max(SPARE, count // 2) + n for count in alive)
        self._beats = self._new(contacts, rings, old.seed)
        kernels.move(old, self._beats, clock_ms, seq, self._reach)
        self._sensors.keep(self._beats.keys[: self.n_contacts, 4])

    def _new(self, contacts: int, rings: int, seed: Words) -> kernels.Beats:
        return kernels.Beats(
            slots=np.zeros(slots_for(contacts), np.uint64),
            keys=np.zeros((contacts, kernels.N_WORDS), np.uint64),
            nodes=np.zeros(contacts, kernels.NODE),
            rings=np.zeros((rings, self._spec.gaps + 1), kernels.TIME),
            used=np.zeros(2, np.int64),
            seed=seed,
        )
