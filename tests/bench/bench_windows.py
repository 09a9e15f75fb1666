"""How many rows a second the windows take: `python tests/bench/bench_windows.py [rows]`.

Kinds of traffic, each in batches of 1,000 rows at the widths and capacity of `conn@1`:

- site: 400 hosts and 2,000 servers, both zipf, eight ports; 10,000 flows a second;
- uniform: 65,536 sources, destinations and ports at random: hardly a pair comes twice;
- flood: a million distinct spoofed sources on one port, 100,000 flows a second: meets the capacity;
- scan: one source over a million distinct destinations and ports.

The floor, measured in the same run over the same rows, is one window that counts flows per source, with
the sources already numbered: nothing to look up, nothing distinct. Each kind runs twice: memory that the
system has never handed out is slow to get, and a worker meets it once. All but the start is CPU time: others
may use the machine.
"""

import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from pipeline.features.window_kernels import compiled
from pipeline.features.windows import Windows, WindowSpec

Columns = dict[str, Any]
Integers = npt.NDArray[np.int64]
BATCH = 1_000

STARTED = """
import time; began = time.perf_counter()
import numpy as np
from pipeline.features.windows import Windows, WindowSpec
one, hosts = np.zeros(1, np.int64), np.zeros((1, 16), np.uint8)
Windows(WindowSpec()).update(sensors=["gate"], sensor=one, src=hosts, dst=hosts, dst_port=one,
                             src_bytes=one, failed=one > 0, event_time_us=one)
print(time.perf_counter() - began)
"""


def addresses(numbers: Integers) -> npt.NDArray[np.uint8]:
    """Return IPv4 addresses mapped into IPv6."""
    out = np.zeros((numbers.size, 16), np.uint8)
    out[:, 10:12] = 255
    out[:, 12:] = numbers.astype(">u4").view(np.uint8).reshape(-1, 4)
    return out


def zipf(n: int, hosts: int, rng: np.random.Generator) -> Integers:
    """Return the numbers of n hosts, the first of them the busiest."""
    weights = 1 / np.arange(1, hosts + 1)
    return np.asarray(rng.choice(hosts, n, p=weights / weights.sum()), np.int64)


def traffic(kind: str, n: int) -> tuple[Integers, Columns]:
    """Return the number of each row's source, and all columns."""
    rng, rows = np.random.default_rng(7), np.arange(n)
    random = rng.integers(0, 65_536, (3, n))
    common = np.array([53, 443, 80, 22, 25, 123, 8080, 3306])
    src, dst, port, per_s = {
        "site": (zipf(n, 400, rng), 10**6 + zipf(n, 2_000, rng), common[zipf(n, 8, rng)], 10_000),
        "uniform": (*random, 10_000),
        "flood": (rng.permutation(n) % 1_000_000, rows * 0 + 7, rows * 0 + 80, 100_000),
        "scan": (rows * 0 + 7, rows % 1_000_000, random[2], 100_000),
    }[kind]
    return src, {
        "sensor": np.zeros(n, np.int32),
        "src": addresses(src),
        "dst": addresses(dst),
        "dst_port": port.astype(np.int32),
        "src_bytes": rng.integers(0, 10**6, n),
        "failed": rng.random(n) < 0.1,
        "event_time_us": 10**15 + rows * (10**6 // per_s),
    }


@compiled
def one_window(
    keys: Integers, clocks: Integers, start: int, tail: int, flows: Integers, out: Integers
) -> int:
    """Count the rows of 60 s with the same key; return the oldest row."""
    for i in range(start, start + out.size):
        while clocks[tail] <= clocks[i] - 60_000_000 or tail <= i - 1_048_576:
            flows[keys[tail]] -= 1
            tail += 1
        flows[keys[i]] += 1
        out[i - start] = flows[keys[i]]
    return tail


def floor(src: Integers, columns: Columns) -> None:
    """Run the floor over all rows."""
    flows, out, tail = np.zeros(int(src.max()) + 1, np.int64), np.empty(BATCH, np.int64), 0
    for start in range(0, src.size, BATCH):
        tail = one_window(src, columns["event_time_us"], start, tail, flows, out)


def windows(columns: Columns) -> tuple[float, int]:
    """Run the windows over all rows; return the longest batch in seconds, and the bytes at the end."""
    lane, longest = Windows(WindowSpec()), 0.0
    for start in range(0, columns["sensor"].size, BATCH):
        batch = {name: column[start : start + BATCH] for name, column in columns.items()}
        began = time.thread_time()
        lane.update(sensors=["gate"], **batch)
        longest = max(longest, time.thread_time() - began)
    return longest, lane.memory_bytes


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """Return the CPU time that a run takes, and what it returns."""
    began = time.thread_time()
    result = run()
    return time.thread_time() - began, result


def environment() -> str:
    """Return what the figures depend on."""
    cpu = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):  # noqa: PTH110 - one line
        with open("/proc/cpuinfo") as file:  # noqa: PTH123
            cpu = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), cpu)
    versions = f"Python {platform.python_version()}, numpy {np.__version__}, numba {numba.__version__}"
    return f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {platform.system()}; {versions}"


def started() -> float:
    """Return the seconds from a new interpreter's first import to the first counts."""
    done = subprocess.run([sys.executable, "-c", STARTED], check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Print a table."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 2_000_000
    print(environment())
    print(f"import and first batch: {started():.2f} s (compiled code on disk: {started():.2f} s)")
    print(f"{n:,} rows, batches of {BATCH:,}; million rows per CPU second")
    titles = ("first", "again", "floor", "ratio")
    print(f"{'traffic':8}", *(f"{title:>6}" for title in titles), " longest batch   memory")
    for kind in ("site", "uniform", "flood", "scan"):
        src, columns = traffic(kind, n)
        floor(src[:BATCH], columns)  # compiles
        first, again = (seconds(lambda: windows(columns)) for _ in range(2))  # noqa: B023 - run at once
        least, _ = seconds(lambda: floor(src, columns))  # noqa: B023
        longest, memory = again[1]
        rates = [n / took / 1e6 for took in (first[0], again[0], least)]
        print(
            f"{kind:8} {rates[0]:6.2f} {rates[1]:6.2f} {rates[2]:6.1f} {rates[2] / rates[1]:6.1f}"
            f" {longest * 1e3:11.0f} ms {memory / 1e6:5.0f} MB"
        )


if __name__ == "__main__":
    main()
