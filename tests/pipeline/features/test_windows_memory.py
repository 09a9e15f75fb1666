"""The tables of the windows grow, are cleaned up and stay within the capacity, counting exactly."""

from collections import Counter, deque
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.features.windows import Windows, WindowSpec

Counts = npt.NDArray[np.int64]
Columns = dict[str, Any]
SECOND = 1_000_000
MEGABYTE = 1_000_000
LEAST = 5 * MEGABYTE
"""Memory that is always allowed: room for a chunk of rows with new keys only."""


def hosts(numbers: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return IPv6 addresses whose last eight bytes are the numbers."""
    addresses = np.zeros((numbers.size, 16), np.uint8)
    addresses[:, 8:] = numbers.astype(">u8").view(np.uint8).reshape(-1, 8)
    return addresses


def flows(
    src: Counts, dst: Counts, port: Counts, *, time: Counts, sensors: tuple[str, ...] = ("gate",)
) -> Columns:
    """Return the arguments of `update` for flows that differ in what is given."""
    row = np.arange(src.size)
    return {
        "sensors": sensors,
        "sensor": row % len(sensors),
        "src": hosts(src),
        "dst": hosts(dst),
        "dst_port": port,
        "src_bytes": row % 1_500,
        "failed": row % 3 == 0,
        "event_time_us": time,
    }


def batches(stream: Columns, size: int) -> Iterator[Columns]:
    """Cut a stream into batches of one size."""
    for start in range(0, len(stream["sensor"]), size):
        yield {
            name: column if name == "sensors" else column[start : start + size]
            for name, column in stream.items()
        }


def churn(n: int, *, rng: np.random.Generator, per_s: int) -> Columns:
    """Return traffic whose hosts come and go: a tenth of it scans, spoofed sources, or both."""
    base = np.arange(n) // 500  # a new crowd every now and then
    src, dst = base + rng.zipf(1.5, n) % 50, base + rng.zipf(1.5, n) % 80
    odd = rng.random((2, n)) < 0.1
    src, dst = np.where(odd[0], 10**9 + np.arange(n), src), np.where(odd[1], 2 * 10**9 + np.arange(n), dst)
    steps = rng.exponential(SECOND / per_s, n).astype(np.int64)
    steps[rng.integers(0, n, 3)] += 50 * SECOND  # silence: most of the window leaves at once
    times = 10 * SECOND + np.cumsum(steps) - rng.integers(0, 2, n) * rng.integers(0, 5 * SECOND, n)
    ports = rng.choice([-1, 53, 80, 443], n)
    return flows(src, dst, ports, time=times, sensors=("north", "south"))


class Reference:
    """Counts one window with the containers of the language."""

    def __init__(self, width_us: int, capacity: int) -> None:
        self.width_us, self.capacity = width_us, capacity
        self.open: deque[tuple[int, tuple[Any, ...], int, int]] = deque()
        self.sums: Counter[tuple[Any, ...]] = Counter()
        self.sets: dict[tuple[Any, ...], Counter[Any]] = {}

    def change(self, key: tuple[Any, ...], n_bytes: int, failed: int, by: int) -> None:
        """Add or take away a row."""
        sensor, src, dst, port = key
        self.sums.update({("flows", sensor, src): by, ("bytes", sensor, src): by * n_bytes})
        self.sums.update({("failed", sensor, src): by * failed, ("in", sensor, dst): by})
        self.sums[("pair", sensor, src, dst)] += by
        for name, member in (
            (("dsts", sensor, src), dst),
            (("ports", sensor, src), (dst, port)),
            (("srcs", sensor, dst), src),
        ):
            members = self.sets.setdefault(name, Counter())
            members[member] += by
            if not members[member]:
                del members[member]

    def count(self, clock: int, key: tuple[Any, ...], n_bytes: int, failed: int) -> list[int]:
        """Return the counts of the next row."""
        while self.open and (self.open[0][0] <= clock - self.width_us or len(self.open) >= self.capacity):
            _, gone_key, gone_bytes, gone_failed = self.open.popleft()
            self.change(gone_key, gone_bytes, gone_failed, by=-1)
        self.open.append((clock, key, n_bytes, failed))
        self.change(key, n_bytes, failed, by=1)
        sensor, src, dst, _ = key
        sums = [self.sums[(name, sensor, src)] for name in ("flows", "bytes", "failed")]
        sets = [len(self.sets[(name, sensor, src)]) for name in ("dsts", "ports")]
        of_dst = [self.sums[("in", sensor, dst)], len(self.sets[("srcs", sensor, dst)])]
        return [*sums, *sets, *of_dst, self.sums[("pair", sensor, src, dst)]]


def by_reference(stream: Columns, spec: WindowSpec) -> Counts:
    """Return the counts of all rows, row by row."""
    windows = [Reference(width * SECOND, spec.capacity) for width in spec.widths_s]
    clocks = np.maximum.accumulate(stream["event_time_us"])
    ids = [
        zip(
            stream["sensor"].tolist(),
            (row.tobytes() for row in stream["src"]),
            (row.tobytes() for row in stream["dst"]),
            stream["dst_port"].tolist(),
            strict=True,
        )
    ]
    rows = zip(clocks.tolist(), *ids, stream["src_bytes"].tolist(), stream["failed"].tolist(), strict=True)
    return np.array([[count for window in windows for count in window.count(*row)] for row in rows])


@pytest.mark.parametrize("capacity", [700, 3_000, 1_048_576])
@pytest.mark.parametrize("size", [77, 1_000, 20_000])
def test_cleaning_up_changes_no_count(capacity: int, size: int) -> None:
    """With tables that grow, drop the dead and shrink on the way, every count is exact."""
    stream = churn(20_000, rng=np.random.default_rng(capacity), per_s=150)
    spec = WindowSpec(capacity=capacity)
    windows = Windows(spec)
    sizes = []
    counts = []
    for batch in batches(stream, size):
        counts.append(windows.update(**batch))
        sizes.append(windows.n_keys)

    np.testing.assert_array_equal(by_reference(stream, spec), np.concatenate(counts))
    assert size == 20_000 or any(after < before for before, after in pairwise(sizes))


def test_hash_seeds_do_not_matter() -> None:
    """The counts are the same whatever the hashes are."""
    stream = churn(10_000, rng=np.random.default_rng(1), per_s=200)
    counts = {Windows(WindowSpec(), hash_seed=seed).update(**stream).tobytes() for seed in (0, 1, 2**64 - 1)}

    assert {Windows(WindowSpec()).update(**stream).tobytes()} == counts


def test_a_crash_in_the_churn_changes_nothing() -> None:
    """Begun again at a message before the oldest open row, with empty tables, the bytes are the same."""
    stream = list(batches(churn(30_000, rng=np.random.default_rng(2), per_s=200), 500))
    windows = Windows(WindowSpec())
    starts, outputs, oldest = [], [], []
    for batch in stream:
        starts.append((windows.clock_us, windows.seq))
        outputs.append(windows.update(**batch).tobytes())
        oldest.append(windows.oldest())

    for crash in (10, 33, 58):
        low = max(i for i, (_, seq) in enumerate(starts) if seq <= oldest[crash])
        assert low > 0 or crash == 10
        again = Windows(WindowSpec(), clock_us=starts[low][0], seq=starts[low][1])
        repeated = [again.update(**batch).tobytes() for batch in stream[low:]]
        assert outputs[crash + 1 :] == repeated[crash + 1 - low :]


def test_a_million_distinct_sources_are_counted_and_forgotten() -> None:
    """A flood of spoofed sources is counted exactly to the last, and gives its memory back after."""
    n = 1_000_000
    rows = np.arange(n)
    flood = flows(rows, np.full(n, -1), np.full(n, 80), time=rows * 50)
    windows = Windows(WindowSpec())
    counts = np.concatenate([windows.update(**batch) for batch in batches(flood, 4_000)])

    expected = {
        "src_flows": rows * 0 + 1,
        "src_dsts": rows * 0 + 1,
        "dst_flows": rows + 1,
        "dst_srcs": rows + 1,
    }
    for name, per_row in expected.items():
        for width, at_most in ((10, 200_000), (60, n)):
            given = counts[:, windows.names.index(f"{name}_{width}s")]
            np.testing.assert_array_equal(np.minimum(per_row, at_most), given)
    assert windows.memory_bytes < 600 * MEGABYTE
    assert windows.n_keys == 3 * n + 1

    quiet = flows(rows[:10], rows[:10], rows[:10], time=rows[:10] + 10**12)
    assert windows.update(**quiet)[:, windows.names.index("dst_srcs_60s")].tolist() == [1] * 10
    windows.update(**quiet)
    assert windows.memory_bytes < LEAST
    assert windows.n_keys < 100


@pytest.mark.parametrize("capacity", [100, 15_000])
def test_memory_is_bounded_by_the_capacity(capacity: int) -> None:
    """However long a stream in which every row has new hosts, memory stays within its bound."""
    n = 300_000
    rows = np.arange(n)
    stream = flows(rows, rows + 10**9, rows % 65_536, time=rows // 10)
    windows = Windows(WindowSpec(capacity=capacity))
    most = 0
    for batch in batches(stream, 1_000):
        windows.update(**batch)
        most = max(most, windows.memory_bytes)

    assert windows.n_capped == n - capacity
    assert windows.seq - windows.oldest() == capacity
    assert most < LEAST + 700 * capacity


def test_sensors_that_went_silent_are_forgotten() -> None:
    """A lane whose sensors change their names all the time does not remember them all."""
    windows = Windows(WindowSpec())
    for batch in range(300):
        time = np.full(100, batch * 100 * SECOND)
        names = tuple(f"sensor {batch}-{i}" for i in range(100))
        counts = windows.update(**flows(np.zeros(100, int), time, time % 7, time=time, sensors=names))
        assert counts[:, 0].tolist() == [1] * 100

    assert len(windows._sensors.names) < 10_000
