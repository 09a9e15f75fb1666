"""The windows give exactly what their definition says, however the stream is cut."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.windows import MOST_BYTES, WINDOW_COLUMNS, LowMark, Windows, WindowSpec
from pipeline.messages import Low

Counts = npt.NDArray[np.int64]
SECOND = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Row:
    """A flow as the definition sees it."""

    sensor: str = "gate"
    src: str = "a"
    dst: str = "b"
    port: int = 80
    bytes: int = 100
    failed: bool = False
    time: int = 0  # microseconds


def by_definition(rows: Sequence[Row], spec: WindowSpec) -> Counts:
    """Count every window of every row from the definition alone, with nothing remembered."""
    clocks = [max(0, *(row.time for row in rows[: i + 1])) for i in range(len(rows))]
    return np.array(
        [
            [count for width in spec.widths_s for count in counts_of(i, width * SECOND, rows, clocks, spec)]
            for i in range(len(rows))
        ],
        dtype=np.int64,
    ).reshape(len(rows), len(spec.names))


def counts_of(
    i: int, width_us: int, rows: Sequence[Row], clocks: Sequence[int], spec: WindowSpec
) -> tuple[int, ...]:
    """Count the window of row i as it is defined."""
    window = [
        rows[j]
        for j in range(len(rows))
        if i - spec.capacity < j <= i
        and clocks[j] > clocks[i] - width_us
        and rows[j].sensor == rows[i].sensor
    ]
    of_src = [row for row in window if row.src == rows[i].src]
    of_dst = [row for row in window if row.dst == rows[i].dst]
    return (
        len(of_src),
        sum(min(row.bytes, 2**40) for row in of_src),
        sum(row.failed for row in of_src),
        len({row.dst for row in of_src}),
        len({(row.dst, row.port) for row in of_src}),
        len(of_dst),
        len({row.src for row in of_dst}),
        len([row for row in of_src if row.dst == rows[i].dst]),
    )


def address(name: str) -> bytes:
    """Return an address that differs from others in a few bits only, first or last."""
    return (name[:1] + name[1:].rjust(15, "\0")).encode("latin-1")


def columns(rows: Sequence[Row]) -> dict[str, Any]:
    """Return the arguments of `update` for some rows, sensors coded in the order they come."""
    sensors = list(dict.fromkeys(row.sensor for row in rows))
    return {
        "sensors": sensors,
        "sensor": np.array([sensors.index(row.sensor) for row in rows], np.int32),
        "src": np.frombuffer(b"".join(address(row.src) for row in rows), np.uint8).reshape(-1, 16),
        "dst": np.frombuffer(b"".join(address(row.dst) for row in rows), np.uint8).reshape(-1, 16),
        "dst_port": np.array([row.port for row in rows], np.int32),
        "src_bytes": np.array([row.bytes for row in rows], np.int64),
        "failed": np.array([row.failed for row in rows], np.bool_),
        "event_time_us": np.array([row.time for row in rows], np.int64),
    }


def cut(rows: Sequence[Row], cuts: Sequence[int]) -> Iterator[Sequence[Row]]:
    """Cut rows into batches at the given places, some of them empty."""
    edges = [0, *sorted(min(at, len(rows)) for at in cuts), len(rows)]
    for start, stop in pairwise(edges):
        yield rows[start:stop]


def fed(windows: Windows, batches: Iterator[Sequence[Row]] | Sequence[Sequence[Row]]) -> Counts:
    """Return the counts of all rows of some batches."""
    return np.concatenate([windows.update(**columns(batch)) for batch in batches])


# Back, none, within, exactly and just beyond the widths, years ahead.
EDGES = [width * SECOND + beyond for width in (3, 7) for beyond in (-1, 0, 1)]
STEPS = (-100 * SECOND, -SECOND, -1, 0, 0, 0, 1, SECOND, 4 * SECOND, 10**15, *EDGES)
SPECS = st.builds(
    WindowSpec,
    widths_s=st.sampled_from([(3, 7), (7,), (1, 3, 4)]),
    capacity=st.sampled_from([1, 2, 5, 20, 1_048_576]),
)
CUTS = st.lists(st.integers(0, 40), max_size=8)


@st.composite
def streams(draw: st.DrawFn) -> list[Row]:
    """Draw a stream in which keys repeat, times go anywhere, and sensors share addresses."""
    hosts = st.sampled_from(["a", "b", "c", "a1", "b1"])
    row = st.builds(
        Row,
        sensor=st.sampled_from(["north", "south"]),
        src=hosts,
        dst=hosts,
        port=st.sampled_from([-1, 0, 1, 65_535]),
        bytes=st.sampled_from([0, 1, 1_000, 2**40, 2**63 - 1]),
        failed=st.booleans(),
    )
    rows = draw(st.lists(row, max_size=40))
    steps = draw(st.lists(st.sampled_from(STEPS), min_size=len(rows), max_size=len(rows)))
    times = np.cumsum(np.array([10**9, *steps], dtype=np.int64))[1:]
    return [replace(r, time=int(time)) for r, time in zip(rows, times, strict=True)]


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[int, Sequence[Row]]]:
    """Draw a stream cut into messages, some empty, at ascending offsets with gaps."""
    batches = list(cut(draw(streams()), draw(CUTS)))
    gaps = draw(st.lists(st.integers(1, 3), min_size=len(batches), max_size=len(batches)))
    return [(int(offset), batch) for offset, batch in zip(np.cumsum(gaps), batches, strict=True)]


@given(streams(), SPECS)
@settings(max_examples=150, deadline=None)
def test_counts_are_those_of_the_definition(rows: list[Row], spec: WindowSpec) -> None:
    """Every count of every row is what counting its window from scratch gives."""
    counts = Windows(spec).update(**columns(rows))

    np.testing.assert_array_equal(by_definition(rows, spec), counts)


@given(streams(), SPECS, CUTS)
@settings(max_examples=100, deadline=None)
def test_batches_do_not_matter(rows: list[Row], spec: WindowSpec, cuts: list[int]) -> None:
    """However a stream is cut, and whatever numbers and hashes its keys get, the bits are the same."""
    whole = Windows(spec).update(**columns(rows))

    assert whole.tobytes() == fed(Windows(spec), cut(rows, cuts)).tobytes()


class Worker:
    """Does with messages what a features worker does, and can begin again at a low mark."""

    def __init__(self, spec: WindowSpec, low: Low) -> None:
        self.windows = Windows(spec, clock_us=low.clock_us, seq=low.seq)
        self.marks = LowMark[Low]()

    def output(self, offset: int, rows: Sequence[Row]) -> tuple[bytes, Low, int, int, int]:
        """Return all of an output message that the windows decide."""
        windows = self.windows
        low = Low(offset=offset, clock_us=windows.clock_us, seq=windows.seq)
        self.marks.append(windows.seq, low)
        counts = windows.update(**columns(rows)).tobytes()
        return counts, self.marks.low(windows.oldest()), windows.clock_us, windows.seq, windows.oldest()


@given(messages(), SPECS, st.integers(0, 50))
@settings(max_examples=150, deadline=None)
def test_a_crash_changes_nothing(
    stream: list[tuple[int, Sequence[Row]]], spec: WindowSpec, crash: int
) -> None:
    """A worker that begins again at the low mark of the last output goes on with the same bytes."""
    worker = Worker(spec, Low(offset=0, clock_us=0, seq=0))
    outputs = [worker.output(*message) for message in stream]
    crash %= len(stream)
    low = outputs[crash][1]

    again = Worker(spec, low)
    for message in stream[: crash + 1]:
        if message[0] >= low.offset:
            again.output(*message)

    assert outputs[crash + 1 :] == [again.output(*message) for message in stream[crash + 1 :]]


@given(streams(), SPECS)
@settings(max_examples=50, deadline=None)
def test_no_mark_lies_further_back_than_needed(rows: list[Row], spec: WindowSpec) -> None:
    """One row later than the low mark, and a row of the longest window would be missing."""
    worker = Worker(spec, Low(offset=0, clock_us=0, seq=0))
    clocks = [0]
    for i, row in enumerate(rows):
        _, low, clock, seq, oldest = worker.output(i, [row])
        clocks.append(clock)
        open_rows = [
            j
            for j in range(max(0, i + 1 - spec.capacity), i + 1)
            if clocks[j + 1] > clock - spec.widths_s[-1] * SECOND
        ]
        assert (open_rows[0], i + 1) == (oldest, seq)
        first = open_rows[0]
        assert Low(offset=first, clock_us=clocks[first], seq=first) == low


@given(streams(), SPECS)
@settings(max_examples=50, deadline=None)
def test_late_and_capped_rows_are_metered(rows: list[Row], spec: WindowSpec) -> None:
    """A row is late behind the clock, and capped where the row N before is still in the width."""
    windows = Windows(spec)
    windows.update(**columns(rows))
    clocks = [0, *(max(0, *(row.time for row in rows[: i + 1])) for i in range(len(rows)))]
    late = [clock - max(row.time, 0) for clock, row in zip(clocks, rows, strict=False)]
    back, width_us = spec.capacity, spec.widths_s[-1] * SECOND

    assert sum(by > 0 for by in late) == windows.n_late
    assert max([0, *late]) == windows.late_us
    assert windows.n_capped == sum(
        clocks[i + 1 - back] > clocks[i + 1] - width_us for i in range(back, len(rows))
    )


def column(counts: Counts, name: str, spec: WindowSpec) -> list[int]:
    """Return one count of all rows."""
    return [int(count) for count in counts[:, spec.names.index(name)]]


def test_columns_are_named_width_by_width() -> None:
    """Names say what is counted and over how many seconds."""
    names = Windows(WindowSpec()).names

    assert tuple(f"{name}_10s" for name in WINDOW_COLUMNS) == names[:8]
    assert tuple(f"{name}_60s" for name in WINDOW_COLUMNS) == names[8:]


def test_a_row_leaves_when_its_width_has_passed() -> None:
    """A row of exactly W seconds ago is out; one a microsecond younger is in."""
    spec = WindowSpec(widths_s=(10,))
    rows = [Row(time=0), Row(time=10 * SECOND - 1), Row(time=10 * SECOND), Row(time=20 * SECOND)]

    assert column(Windows(spec).update(**columns(rows)), "src_flows_10s", spec) == [1, 2, 2, 1]


def test_a_late_row_counts_at_the_current_clock() -> None:
    """A row that comes an hour late is counted with the rows around it in the log."""
    spec = WindowSpec(widths_s=(10,))
    rows = [Row(time=4_000 * SECOND), Row(time=400 * SECOND), Row(time=4_009 * SECOND)]
    windows = Windows(spec)

    assert column(windows.update(**columns(rows)), "src_flows_10s", spec) == [1, 2, 3]
    assert windows.n_late == 1
    assert windows.late_us == 3_600 * SECOND
    assert windows.clock_us == 4_009 * SECOND


def test_sensors_do_not_mix() -> None:
    """The same addresses behind two sensors are different hosts, however the sensors are coded."""
    spec = WindowSpec(widths_s=(10,))
    windows = Windows(spec)
    north, south = Row(sensor="north"), Row(sensor="south")

    counts = fed(windows, [[north, south, north], [south], [north], [Row(sensor="east"), south]])

    assert column(counts, "pair_flows_10s", spec) == [1, 1, 2, 2, 3, 1, 3]


def test_absurd_byte_counts_do_not_wrap() -> None:
    """A record that claims 2^63 - 1 bytes counts for 1 TiB, and leaves as what it came."""
    spec = WindowSpec(widths_s=(10,))
    rows = [Row(bytes=2**63 - 1), Row(bytes=2**63 - 1, time=5 * SECOND), Row(bytes=7, time=12 * SECOND)]

    counts = Windows(spec).update(**columns(rows))

    assert column(counts, "src_bytes_10s", spec) == [MOST_BYTES, 2 * MOST_BYTES, MOST_BYTES + 7]
    assert MOST_BYTES * WindowSpec(capacity=2**22).capacity < 2**63


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("src", np.zeros((2, 4), np.uint8), r"src is uint8 \(2, 4\), expected uint8 \(2, 16\)"),
        ("dst", np.zeros((2, 16), np.int8), r"dst is int8 \(2, 16\), expected uint8"),
        ("dst_port", np.array([80, 70_000]), r"dst_port has 80 to 70000, expected -1 to 65535"),
        ("dst_port", np.array([80]), r"dst_port is int64 \(1,\), expected integers \(2,\)"),
        ("src_bytes", np.array([-1, 5]), r"src_bytes has -1 to 5, expected at least 0"),
        ("src_bytes", np.array([1.0, 5.0]), r"src_bytes is float64 \(2,\), expected integers"),
        ("sensor", np.array([0, 1]), r"sensor has 0 to 1, expected 0 to 0"),
        ("failed", np.array([True]), r"failed is bool \(1,\), expected bool \(2,\)"),
        ("event_time_us", np.array(["now", "then"]), r"event_time_us is <U4 \(2,\), expected integers"),
    ],
)
def test_bad_columns_are_refused_whole(name: str, value: npt.NDArray[Any], complaint: str) -> None:
    """A column that is not as promised is named, and no row of its batch is counted."""
    windows = Windows(WindowSpec())
    before = windows.update(**columns([Row()]))

    with pytest.raises(ValueError, match=complaint):
        windows.update(**columns([Row(), Row()]) | {name: value})

    assert windows.seq == 1
    assert [2 * count for count in column(before, "src_bytes_60s", WindowSpec())] == column(
        windows.update(**columns([Row()])), "src_bytes_60s", WindowSpec()
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"widths_s": ()}, r"widths_s is \(\), expected positive whole seconds, ascending"),
        ({"widths_s": (60, 10)}, r"widths_s is \(60, 10\)"),
        ({"widths_s": (0, 10)}, r"widths_s is \(0, 10\)"),
        ({"widths_s": (2.5,)}, r"widths_s is \(2.5,\)"),
        ({"capacity": 0}, r"capacity is 0 rows, expected 1 to 4,194,304"),
        ({"capacity": 2**22 + 1}, r"capacity is 4194305 rows"),
    ],
)
def test_impossible_windows_are_refused(arguments: dict[str, Any], complaint: str) -> None:
    """A specification that no window can meet is refused with what it should be."""
    with pytest.raises(ValueError, match=complaint):
        WindowSpec(**arguments)


def test_a_lane_does_not_begin_before_its_log() -> None:
    """Neither clock nor seq can lie before the first row of a log."""
    with pytest.raises(ValueError, match="expected neither below 0"):
        Windows(WindowSpec(), seq=-1)


def test_marks_need_a_message() -> None:
    """Before any message there is nowhere to begin again."""
    with pytest.raises(LookupError, match=r"call append\(\)"):
        LowMark[Low]().low(0)


def test_idle_messages_leave_no_marks() -> None:
    """A quiet lane that only gets flush messages keeps one mark for them all."""
    marks = LowMark[int]()
    for offset in range(1_000):
        marks.append(7, offset)

    assert len(marks._marks) == 1
    assert marks.low(7) == 999
