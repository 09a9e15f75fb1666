"""Rows a CPU-second of the windows: `python tests/bench/bench_windows.py --help`."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rig import Aim, Report, Table, arguments
from traffic import Repeated

from connectors.records import FAILED_STATES
from pipeline.features import arrays
from pipeline.features.compiled import compiled
from pipeline.features.rhythm import Rhythm, RhythmSpec
from pipeline.features.windows import Windows, WindowSpec

Columns = dict[str, Any]
Integers = npt.NDArray[np.int64]
BATCH = 1_000
WANTED = 1.5e6

KINDS = ("office", "site", "uniform", "flood", "scan")
WIDTHS = ((1, 10), (10, 60), (60, 600))
"""Widths in seconds; the middle ones are those of `conn@1`."""

PLAN = """All windows of `conn@1` over {rows:,} rows in batches of {batch:,}, CPU time of the one thread: two
widths of eight counts (flows, bytes, failed flows, distinct destinations and ports by source; flows and
distinct sources by destination; flows by pair). Median of {repeats} repeats (cold: one).

- office: the generated traffic that the stream is measured with, about one flow a second;
- site: 400 hosts and 2,000 servers, both zipf, eight ports; 10,000 flows a second;
- uniform: 65,536 sources, destinations and ports at random: hardly a pair comes twice; 10,000 a second;
- flood: a million distinct spoofed sources on one port, 100,000 flows a second;
- scan: one source over a million distinct destinations and ports, 100,000 flows a second.

*cold*: a lane that has just begun, in a process that has not had the memory yet: tables grow, and pages are
handed out for the first time, as once in the life of a worker. *warm*: the same over memory that was used and
freed before. *steady*: the second half of the warm rows, when windows are full and tables have
their size: a worker's every day. The floor is one window that counts flows per source, with the sources
already numbered: nothing to look up, nothing distinct. A width of 600 s at these rates meets the
capacity of 1,048,576 rows.

The rhythm follows what leaves the site; here it follows every row, which is the worst that can come. Its
*repeated* rows are those that have at least one gap."""

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
    return office(n) if kind == "office" else drawn(kind, n)


def office(n: int) -> tuple[Integers, Columns]:
    """Return generated traffic."""
    chunks = Repeated("synthetic", n).chunks(rows=n)
    rows = pa.Table.from_batches([chunk.rows for chunk in chunks]).combine_chunks().to_batches()[0]
    src = arrays.addresses(rows, "src_ip")
    _, numbers = np.unique(src.view("V16").ravel(), return_inverse=True)
    return numbers.astype(np.int64), {
        "sensor": np.zeros(n, np.int32),
        "src": src,
        "dst": arrays.addresses(rows, "dst_ip"),
        "dst_port": arrays.ports(rows, "dst_port"),
        "src_bytes": arrays.whole_numbers(rows, "src_bytes"),
        "failed": arrays.equals(rows, "state", *FAILED_STATES),
        "event_time_us": arrays.times_us(rows),
    }


def drawn(kind: str, n: int) -> tuple[Integers, Columns]:
    """Return traffic of random hosts."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of the windows over all rows."""

    whole_s: float
    second_half_s: float
    longest_s: float  # batch
    memory_mb: float


def windows(columns: Columns, widths: tuple[int, ...]) -> Run:
    """Run the windows over all rows."""
    lane = Windows(WindowSpec(widths_s=widths))
    return timed(lambda batch: lane.update(sensors=["gate"], **batch), columns, lane)


def timed(step: Callable[[Columns], Any], columns: Columns, lane: Windows | Rhythm) -> Run:
    """Run a step over all batches."""
    spent = []
    for start in range(0, columns["sensor"].size, BATCH):
        batch = {name: column[start : start + BATCH] for name, column in columns.items()}
        began = time.thread_time()
        step(batch)
        spent.append(time.thread_time() - began)
    half = sum(spent[len(spent) // 2 :])
    return Run(
        whole_s=sum(spent), second_half_s=half, longest_s=max(spent), memory_mb=lane.memory_bytes / 1e6
    )


def rhythm(columns: Columns) -> tuple[Run, float]:
    """Run the rhythm over all rows; return the share of them that were repeated, too."""
    contacts = {name: columns[name] for name in ("sensor", "src", "dst", "dst_port")}
    clocks = np.maximum.accumulate(columns["event_time_us"])
    lane, gaps = Rhythm(RhythmSpec()), list[int]()

    def step(batch: Columns) -> None:
        counted = lane.update(sensors=["gate"], **batch)
        lane.pass_by(batch["clock_us"], int(batch["seq"][0]))
        gaps.append(int(np.count_nonzero(counted[:, 0])))

    run = timed(step, contacts | {"clock_us": clocks, "seq": np.arange(clocks.size)}, lane)
    return run, sum(gaps) / clocks.size


def rhythms(n: int, repeats: int) -> Table:
    """Return the figures of the rhythm."""
    rows: list[list[Any]] = []
    for kind in KINDS:
        _, columns = traffic(kind, n)
        rhythm({name: column[:BATCH] for name, column in columns.items()})  # compiles
        done = [rhythm(columns) for _ in range(repeats)]
        rates = [n / statistics.median(run.whole_s for run, _ in done)]
        rates.append(n / 2 / statistics.median(run.second_half_s for run, _ in done))
        longest = 1e3 * statistics.median(run.longest_s for run, _ in done)
        shown = [f"{rate / 1e6:.2f}" for rate in rates]
        rows.append([kind, *shown, f"{100 * done[0][1]:.0f} %", longest, done[0][0].memory_mb])
    names = ["traffic", "warm", "steady", "repeated", "longest batch, ms", "memory, MB"]
    return Table(title="Rhythm of every row, million rows a CPU-second", columns=names, rows=rows)


def cold(kind: str, n: int, widths: tuple[int, ...]) -> float:
    """Return the seconds of a run in a process of its own."""
    code = (
        "import sys; sys.path[:0] = [sys.argv[1]]; import bench_windows as b; n = int(sys.argv[3]);"
        "_, c = b.traffic(sys.argv[2], n); w = tuple(map(int, sys.argv[4].split(',')));"
        "b.windows({k: v[:1] for k, v in c.items()}, w); print(b.windows(c, w).whole_s)"
    )
    arguments = [sys.path[0], kind, str(n), ",".join(map(str, widths))]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True
    )
    return float(done.stdout)


def seconds(run: Callable[[], Any]) -> float:
    """Return the CPU time that a run takes."""
    began = time.thread_time()
    run()
    return time.thread_time() - began


def started() -> float:
    """Return the seconds from a new interpreter's first import to the first counts."""
    done = subprocess.run([sys.executable, "-c", STARTED], check=True, capture_output=True, text=True)
    return float(done.stdout)


def measure(kind: str, n: int, widths: Sequence[tuple[int, ...]], repeats: int) -> list[dict[str, Any]]:
    """Return the figures of one kind of traffic, one entry for each pair of widths."""
    src, columns = traffic(kind, n)
    floor(src[:BATCH], columns)  # compiles
    least_s = statistics.median(seconds(lambda: floor(src, columns)) for _ in range(repeats))
    found: list[dict[str, Any]] = []
    for pair in widths:
        cold_s = cold(kind, n, pair)
        windows(columns, pair)
        warm = [windows(columns, pair) for _ in range(repeats)]
        found.append(
            {
                "traffic": kind,
                "widths": pair,
                "cold": n / cold_s,
                "warm": n / statistics.median(run.whole_s for run in warm),
                "steady": n / 2 / statistics.median(run.second_half_s for run in warm),
                "floor": n / least_s,
                "longest_ms": 1e3 * statistics.median(run.longest_s for run in warm),
                "memory_mb": warm[-1].memory_mb,
            }
        )
        rate = found[-1]["steady"] / 1e6
        print(f"  {kind}, {pair} s: {rate:.2f} million rows per CPU-second", file=sys.stderr, flush=True)
    return found


def table(found: Sequence[dict[str, Any]]) -> Table:
    """Return all figures."""
    names = ("cold", "warm", "steady", "floor")
    rows = [
        [
            each["traffic"],
            ", ".join(f"{width} s" for width in each["widths"]),
            *(f"{each[name] / 1e6:.2f}" for name in names),
            f"{each['steady'] / each['floor']:.3f}",
            each["longest_ms"],
            each["memory_mb"],
        ]
        for each in found
    ]
    columns = ["traffic", "widths", *names, "steady of floor", "longest batch, ms", "memory, MB"]
    note = f"Import and first batch take {started():.2f} s, with compiled code on disk."
    return Table(title="Million rows a CPU-second", columns=columns, rows=rows, note=note)


def aims(found: Sequence[dict[str, Any]]) -> list[Aim]:
    """Return what is wanted of every kind of traffic, whatever the widths."""
    told = []
    for kind in dict.fromkeys(each["traffic"] for each in found):
        worst = min((each for each in found if each["traffic"] == kind), key=lambda each: each["steady"])
        what = f"windows, {kind}, worst of all widths"
        told.append(Aim(what=what, wanted=WANTED, measured=worst["steady"], unit="rows/CPU-s"))
    return told


def main() -> None:
    """Measure and report."""
    parser = arguments(__doc__)
    parser.add_argument("--n", type=int, help="rows; default 2,000,000, 600,000 with --short")
    args = parser.parse_args()
    n, repeats = args.n or (600_000 if args.short else 2_000_000), 1 if args.short else 3
    widths = WIDTHS[1:2] if args.short else WIDTHS
    started()  # leaves compiled code on disk
    found = [each for kind in KINDS for each in measure(kind, n, widths, repeats)]
    Report(
        name="windows",
        title="Windows alone",
        protocol=PLAN.format(rows=n, batch=BATCH, repeats=repeats),
        tables=[table(found), rhythms(n, repeats)],
        aims=aims(found),
    ).finish(args)


if __name__ == "__main__":
    main()
