"""The rhythm gives exactly what its definition says, however the stream is cut and wherever it is rebuilt."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.records import CONN
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import LaneFeatures
from pipeline.features.rhythm import RHYTHM_COLUMNS, Rhythm, RhythmSpec
from pipeline.features.windows import MOST_MARKS, LowMark

Integers = npt.NDArray[np.int64]
SECOND = 1_000_000
SENSORS = ("north", "south")


class Stream(NamedTuple):
    """Rows of a lane: who, when, and which of them are followed."""

    sensor: Integers
    src: Integers
    dst: Integers
    port: Integers
    clock: Integers  # microseconds, never going back
    followed: npt.NDArray[np.bool_]


def hosts(numbers: Integers) -> npt.NDArray[np.uint8]:
    """Return addresses that differ in their first or their last bytes only."""
    found = np.zeros((numbers.size, 16), np.uint8)
    found[:, :4] = (numbers % 3).astype(">u4").view(np.uint8).reshape(-1, 4)
    found[:, 8:] = (numbers // 3).astype(">u8").view(np.uint8).reshape(-1, 8)
    return found


def drawn(n: int, seed: int, *, n_hosts: int = 4, scan: float = 0.1, per_s: float = 10.0) -> Stream:
    """Draw a stream in which contacts come again, now and then in silence or among a scan."""
    rng = np.random.default_rng(seed)
    steps = rng.exponential(SECOND / per_s, n).astype(np.int64) * rng.integers(0, 2, n)
    steps[rng.random(n) < 3 / n] += rng.choice([19_999, 20_000, 20_001, 10**9]) * 1000
    dst = np.where(rng.random(n) < scan, 10**6 + np.arange(n), rng.integers(0, n_hosts, n))
    return Stream(
        sensor=rng.integers(0, 2, n),
        src=rng.integers(0, n_hosts, n),
        dst=dst,
        port=rng.integers(-1, 2, n),
        clock=10**9 + np.cumsum(steps),
        followed=rng.random(n) < 0.8,
    )


def by_definition(stream: Stream, spec: RhythmSpec) -> Integers:
    """Return the rhythm of every followed row from the definition alone."""
    rows = [row for row in zip(range(len(stream.clock)), *stream, strict=True) if row[-1]]
    times: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    found = []
    for seq, *key, clock_us, _ in rows:
        clock = int(clock_us) // 1000
        before = times.setdefault(tuple(key), [])
        before.append((clock, seq))
        seen = [
            then for then, at in before if clock - then < spec.width_s * 1000 and seq - at < spec.capacity
        ][-spec.gaps - 1 :]
        gaps = [b - a for a, b in pairwise(seen)]
        found.append((len(gaps), sum(gaps), sum(gap * gap for gap in gaps)))
    return np.array(found, np.int64).reshape(-1, len(RHYTHM_COLUMNS))


def fed(rhythm: Rhythm, stream: Stream, first: int = 0) -> Integers:
    """Feed a stream whose first row has this position."""
    at = np.flatnonzero(stream.followed)
    found = rhythm.update(
        sensors=SENSORS,
        sensor=stream.sensor[at],
        src=hosts(stream.src[at]),
        dst=hosts(stream.dst[at]),
        dst_port=stream.port[at],
        clock_us=stream.clock[at],
        seq=first + at,
    )
    rhythm.pass_by(stream.clock, first)
    return found


def part(stream: Stream, start: int, stop: int) -> Stream:
    """Return some of the rows."""
    return Stream._make(column[start:stop] for column in stream)


def edges(n: int, cuts: Sequence[int]) -> list[tuple[int, int]]:
    """Return where batches begin and end."""
    return list(pairwise([0, *sorted(cut % (n + 1) for cut in cuts), n]))


SPECS = st.builds(
    RhythmSpec,
    width_s=st.sampled_from([1, 20]),
    gaps=st.sampled_from([1, 2, 5]),
    capacity=st.sampled_from([1, 3, 50, 1_048_576]),
)
CUTS = st.lists(st.integers(0, 10_000), max_size=6)


@given(st.integers(0, 10_000), SPECS, CUTS)
@settings(max_examples=60, deadline=None)
def test_every_row_has_the_rhythm_of_the_definition(seed: int, spec: RhythmSpec, cuts: list[int]) -> None:
    """In any batches, every count is what looking at all rows before gives."""
    stream = drawn(300, seed)
    rhythm = Rhythm(spec)

    found = [fed(rhythm, part(stream, *edge), edge[0]) for edge in edges(300, cuts)]

    np.testing.assert_array_equal(by_definition(stream, spec), np.concatenate(found))


@given(st.integers(0, 10_000), SPECS, st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_what_is_rebuilt_goes_on_alike(seed: int, spec: RhythmSpec, crash: int) -> None:
    """Fed again from the oldest row that it names, the rest is the same."""
    stream = drawn(300, seed)
    lost = Rhythm(spec)
    for start in range(0, crash, 7):
        fed(lost, part(stream, start, min(start + 7, crash)), start)
    low = lost.oldest()
    expected = fed(lost, part(stream, crash, 300), crash)

    again = Rhythm(spec, seq=low)
    fed(again, part(stream, low, crash), low)

    assert expected.tobytes() == fed(again, part(stream, crash, 300), crash).tobytes()


@given(st.integers(0, 10_000), st.sampled_from([50, 1_048_576]))
@settings(max_examples=30, deadline=None)
def test_little_more_is_read_again_than_is_seen(seed: int, capacity: int) -> None:
    """What it names as needed begins at most a 64th of the width before what is seen."""
    spec, stream = RhythmSpec(width_s=20, capacity=capacity), drawn(300, seed, per_s=3)
    rhythm, clocks = Rhythm(spec), stream.clock // 1000
    for end in range(1, 301):
        fed(rhythm, part(stream, end - 1, end), end - 1)
        seen = clocks[:end] > clocks[end - 1] - 20_000
        seen[: max(0, end - capacity)] = False
        too_many = clocks[rhythm.oldest() : int(np.argmax(seen))]
        assert rhythm.oldest() <= np.argmax(seen)
        assert np.ptp(too_many) <= 20_000 / 64 if too_many.size else True


@pytest.mark.parametrize("capacity", [700, 1_048_576])
@pytest.mark.parametrize("size", [77, 5_000])
def test_cleaning_up_changes_nothing(capacity: int, size: int) -> None:
    """With tables that grow and drop the dead on the way, and whatever the hashes, every count is exact."""
    stream = drawn(20_000, seed=capacity, n_hosts=12, scan=0.7, per_s=150)
    spec = RhythmSpec(width_s=20, gaps=5, capacity=capacity)
    rhythm, found, kept = Rhythm(spec, hash_seed=size), [], []
    for start in range(0, 20_000, size):
        found.append(fed(rhythm, part(stream, start, start + size), start))
        kept.append(rhythm.n_contacts)

    np.testing.assert_array_equal(by_definition(stream, spec), np.concatenate(found))
    assert any(after < before for before, after in pairwise(kept))


def test_a_scan_leaves_its_memory_when_it_is_over() -> None:
    """A scan of 200,000 addresses is forgotten an hour later, as are sensors nobody hears of."""
    rhythm = Rhythm(RhythmSpec())
    n = 200_000
    scan = drawn(n, seed=1, scan=1.0, per_s=1000)
    fed(rhythm, scan)
    most = rhythm.memory_bytes

    quiet = drawn(1_000, seed=2, scan=0.0)._replace(sensor=np.zeros(1_000, np.int64))
    for start in range(0, 1_000, 100):
        later = part(quiet, start, start + 100)
        fed(rhythm, later._replace(clock=later.clock + scan.clock[-1] + 3_600 * SECOND), n + start)

    assert most < 200 * 0.8 * n
    assert rhythm.memory_bytes < most / 10
    assert set(rhythm._sensors.names) == {SENSORS[0]}


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"width_s": 0}, "width_s is 0, expected a whole number from 1 to 86,400"),
        ({"width_s": 0.5}, "width_s is 0.5"),
        ({"gaps": 65}, "gaps is 65, expected a whole number from 1 to 64"),
        ({"capacity": 2**22 + 1}, "capacity is 4194305, expected a whole number from 1 to 4,194,304"),
    ],
)
def test_an_impossible_rhythm_is_refused(arguments: dict[str, Any], complaint: str) -> None:
    """What the integers cannot hold is refused with what it should be."""
    with pytest.raises(ValueError, match=complaint):
        RhythmSpec(**arguments)


def test_squares_of_the_longest_gaps_fit() -> None:
    """A contact twice a day, for months, with the widest rhythm there is."""
    n, day = 100, 86_400 * SECOND
    rhythm = Rhythm(RhythmSpec(width_s=86_400, gaps=64))
    ones = np.ones(n, np.int64)
    stream = Stream(ones, ones, ones, ones, 10**9 + np.arange(n) * (day - SECOND), ones.astype(np.bool_))

    assert fed(rhythm, stream)[-1].tolist() == [1, 86_399_000, 86_399_000**2]


def test_marks_stay_few_and_reach_back_far_enough() -> None:
    """A lane of small messages keeps some marks of an hour, and never begins behind what it needs."""
    marks = LowMark[int]()
    for seq in range(40 * MOST_MARKS):
        marks.append(seq, seq)
        oldest = max(0, seq - 20 * MOST_MARKS)
        assert len(marks._marks) <= MOST_MARKS
        assert 0 <= oldest - marks.low(oldest) <= 32

    for seq in range(40 * MOST_MARKS, 40 * MOST_MARKS + 100):  # a window that empties is exact again
        marks.append(seq, seq)
        assert seq - marks.low(seq) <= 32
    assert marks.low(seq) == seq


def conn_rows(times_s: npt.NDArray[np.floating[Any]], src: str, dst: str, port: int = 443) -> pa.RecordBatch:
    """Return flows of one contact at these times."""

    def packed(address: str) -> bytes:
        return b"\0" * 10 + b"\xff\xff" + bytes(int(part) for part in address.split("."))

    given = {
        "flow_id": [f"f{i}" for i in range(times_s.size)],
        "sensor": ["gate"] * times_s.size,
        "event_time": (1_700_000_000 * SECOND + times_s * SECOND).astype(np.int64),
        "src_ip": [packed(src)] * times_s.size,
        "dst_ip": [packed(dst)] * times_s.size,
        "dst_port": [port] * times_s.size,
        "protocol": ["tcp"] * times_s.size,
        "state": ["established"] * times_s.size,
    }
    columns = []
    for column in CONN.schema:
        empty = [None if column.nullable else 0] * times_s.size
        columns.append(pa.array(given.get(column.name, empty), column.type))
    rows = pa.RecordBatch.from_arrays(columns, schema=CONN.schema)
    checked = feature_set("conn").check(rows)
    assert not checked.bad
    return checked.rows


def rhythm_of(rows: pa.RecordBatch) -> npt.NDArray[np.float32]:
    """Return the feature."""
    found: npt.NDArray[np.float32] = (
        LaneFeatures(feature_set("conn")).process(rows).column("outbound_rhythm_3600s").to_numpy()
    )
    return found


INSIDE, OUTSIDE = "10.0.0.7", "198.51.100.9"


def test_a_clock_is_regular_and_chance_is_not() -> None:
    """A clock counts every gap, up to 16; a Poisson process none but by luck; jitter costs a little."""
    rng = np.random.default_rng(5)
    ticks = np.arange(60) * 60.0
    clock = rhythm_of(conn_rows(ticks, INSIDE, OUTSIDE))
    jitter = rhythm_of(conn_rows(ticks + rng.normal(0, 2.4, 60), INSIDE, OUTSIDE))
    sleepy = rhythm_of(conn_rows(np.cumsum(rng.uniform(30, 60, 500)), INSIDE, OUTSIDE))
    chance = rhythm_of(conn_rows(np.cumsum(rng.exponential(30, 2_000)), INSIDE, OUTSIDE))

    assert clock.tolist() == [0, 0, *range(2, 17), *[16] * 43]
    assert 11 < jitter[30:].min() < jitter.max() < 16
    assert np.median(sleepy) > 6  # as implants are told to vary their sleep, by half of it
    assert np.median(chance) < 0.2
    assert chance.max() < 8


@pytest.mark.parametrize(
    ("src", "dst"), [(OUTSIDE, INSIDE), (INSIDE, "10.0.0.8"), (OUTSIDE, OUTSIDE), (INSIDE, "239.255.255.250")]
)
def test_only_what_leaves_has_a_rhythm(src: str, dst: str) -> None:
    """Strangers, neighbours and groups may call by the clock."""
    assert not rhythm_of(conn_rows(np.arange(40) * 60.0, src, dst)).any()


def test_many_at_once_have_no_rhythm() -> None:
    """Flows of one millisecond have no gaps to be regular; single gaps are as regular as they are long."""
    assert not rhythm_of(conn_rows(np.zeros(40), INSIDE, OUTSIDE)).any()
    assert not rhythm_of(conn_rows(np.arange(9) * 3_599.0, INSIDE, OUTSIDE)).any()


def test_a_rebuilt_lane_keeps_the_rhythm() -> None:
    """A lane whose windows are long closed is still fed again from an hour back."""
    rows = conn_rows(np.arange(200) * 100.0, INSIDE, OUTSIDE)
    lane = LaneFeatures(feature_set("conn"))
    clocks = [0]
    for i in range(150):
        lane.process(rows.slice(i, 1))
        clocks.append(lane.clock_us)
    low = lane.oldest_seq

    again = LaneFeatures(feature_set("conn"), clock_us=clocks[low], seq=low)
    again.process(rows.slice(low, 150 - low))

    assert 110 < low <= 150 - 36
    assert lane.process(rows.slice(150)).equals(again.process(rows.slice(150)))
