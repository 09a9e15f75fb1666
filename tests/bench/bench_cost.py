"""Cost against size: flows a CPU-second and memory of the workers: `python tests/bench/bench_cost.py --help`.

One run for each number of flows, of sources and of lanes; then a long one, in which memory must not
grow; then workers that are started again while their windows are full.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rig
from load import SMALL_DISK, Behind, Load, write
from rig import Aim, Plot, Report, Table
from workers import Memory, Progress, Stream, full_window, modes, stream, train_on, way

from connectors.broker_kafka import kafka_broker
from connectors.broker_local import local_broker
from connectors.kafka_settings import KafkaSettings

PROTOCOL = """
Flows of `conn@1` among random hosts (`load.py`): hosts drawn in proportion to 1/rank, 1,000 destinations,
4,000 rows a message, 1,000 flows a second of event time and lane, so that windows of 60 s hold 60,000 rows.
Of each shape of load its own model (BEAA) is trained, so that about one flow in 10,000 is flagged. A writer
stays at most {ahead} messages ahead of the workers, which all run at once; CPU seconds are those of the
worker processes from the sixth message on, without the broker's and the writer's; memory is sampled four
times a second. Each figure is of one run. Flows a second of wall time are those of this machine with writer,
broker and workers on it. In a restart the worker that holds the windows is started again under {restart}
unread flows.
"""
AHEAD = 250
WARM_UP = 5
RESTART_FLOWS = 100_000
BASE = Load()
GROWTH_FLOWS = 10**7
"""Buffers and pools fill in the first millions of flows: growth before that says nothing."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run: how many flows of which load."""

    load: Load
    n_flows: int


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one run took."""

    case: Case
    seconds: float
    cpu_s: dict[str, float]  # stage -> CPU seconds
    memory: Memory
    flagged: float  # share

    @property
    def total(self) -> float:
        """Flows a CPU-second of all workers together."""
        return self.case.n_flows / sum(self.cpu_s.values())

    def row(self, mode: str) -> list[str | float | None]:
        """Return its line of the table."""
        load = self.case.load
        each = [self._rate(stage) for stage in ("features", "detect", "alerts")]
        shape: list[str | float | None] = [mode, self.case.n_flows, load.n_sources, load.lanes]
        peak = max(self.memory.peak(stage) for stage in self.cpu_s)
        return [*shape, *each, self.total / 1e3, self.case.n_flows / self.seconds / 1e3, peak, self.flagged]

    def _rate(self, stage: str) -> float | None:
        return self.case.n_flows / max(self.cpu_s[stage], 0.01) / 1e3 if stage in self.cpu_s else None


COLUMNS = [
    "mode", "flows", "sources", "lanes", "features", "detect", "alerts", "together",
    "flows/s, thousand", "largest worker, MB", "flagged",
]  # fmt: skip
NOTE = "Features, detect, alerts, together: thousand flows a CPU-second of that worker, of all of them."


class Bench:
    """The runs on one broker."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self._kafka = kafka
        self._folder = folder
        self._models: dict[Load, str] = {}
        self._n_prefixes = 0

    def _prefix(self) -> str:
        self._n_prefixes += 1
        return f"cost{self._n_prefixes}"

    def model(self, load: Load) -> str:
        """Return the name of the model for a load, trained when first asked for."""
        if load not in self._models:
            name = f"m{len(self._models)}"
            train_on(self._folder, load, name)
            self._models[load] = name
        return self._models[load]

    def run(self, mode: str, case: Case) -> Cost:
        """Carry the flows of a case through fresh workers."""
        sections: dict[str, Any] = {
            "topics": {"lanes": case.load.lanes},
            "panel": {"models": self.model(case.load)},
        }
        flows = replace(case.load, seed=case.load.seed + 1)  # not those that the model learned from
        warm = WARM_UP * flows.lanes
        with stream(self._kafka, self._folder, self._prefix(), mode, **sections) as running:
            write(self._kafka, running.topics, flows.messages(warm * flows.rows))
            running.wait_answered(warm)
            return self._measure(running, case, flows, warm)

    def _measure(self, running: Stream, case: Case, flows: Load, warm: int) -> Cost:
        pids = {stage: worker.process.pid for stage, worker in running.workers.items()}
        memory = Memory(pids, lambda: running.behind.n_answered * flows.rows)
        told = Progress(f"{len(running.workers)} workers", case.n_flows)
        messages = flows.messages(warm * flows.rows + case.n_flows, first=warm * flows.rows)
        before, begun = running.cpu_s(), time.monotonic()
        with memory.sampled():
            write(self._kafka, running.topics, messages, room=running.room(AHEAD), progress=told)
            running.wait_answered(warm + -(-case.n_flows // flows.rows))
        seconds, after = time.monotonic() - begun, running.cpu_s()
        running.behind.trim()
        n_flagged = running.workers["detect"].metric("weir_flagged_records_total")
        return Cost(
            case=case,
            seconds=seconds,
            cpu_s={stage: after[stage] - before[stage] for stage in after},
            memory=memory,
            flagged=n_flagged / (case.n_flows + warm * flows.rows),
        )

    def restart(self, mode: str, load: Load) -> list[str | float | None]:
        """Return how a worker comes back whose windows are full: a line of the table."""
        holder = "features" if mode == "two hops" else "detect"
        n_window = full_window(load)
        n_before = -(-n_window // load.rows) + WARM_UP
        prefix = self._prefix()
        with stream(self._kafka, self._folder, prefix, mode, panel={"models": self.model(load)}) as running:
            write(self._kafka, running.topics, load.messages(n_before * load.rows))
            running.wait_answered(n_before)
        first = n_before * load.rows
        write(self._kafka, running.topics, load.messages(first + RESTART_FLOWS, first=first))
        output = way(running.settings, mode)[1]
        behind = Behind(self._kafka, [running.topics.flows, output])
        begun = time.monotonic()
        with rig.worker(holder, self._folder, prefix) as worker:
            rig.wait(lambda: behind.answered() > 0, "the first answer", every_s=0.02)
            first_s = time.monotonic() - begun
            rig.wait(lambda: behind.answered() >= RESTART_FLOWS // load.rows, "lag 0", every_s=0.02)
            lag0_s, cpu_s = time.monotonic() - begun, worker.spent_s
        behind.close()
        return [mode, holder, load.rate, n_window, first_s, lag0_s, cpu_s]


def cases(args: argparse.Namespace) -> list[Case]:
    """Return the runs that a table compares."""
    n = 200_000 if args.short else 2_000_000
    sizes = (10**5,) if args.short else (10**5, 10**6, 10**7)
    sources = (10**6,) if args.short else (1, 100, 10**6)
    lanes = (16,) if args.short else (4, 16)
    return [
        *(Case(load=BASE, n_flows=size) for size in sizes),
        *(Case(load=replace(BASE, n_sources=count), n_flows=n) for count in sources),
        *(Case(load=replace(BASE, lanes=count, rate=BASE.rate * count), n_flows=n) for count in lanes),
    ]


def growth(mode: str, cost: Cost) -> list[list[str | float | None]]:
    """Return the memory of each worker over a run."""
    memory = cost.memory
    return [
        [mode, stage, cost.case.n_flows, mb[0], mb[-1], memory.peak(stage), memory.slope(stage)]
        for stage, mb in memory.mb.items()
    ]


def memory_aims(mode: str, cost: Cost) -> list[Aim]:
    """Return what is wanted of the memory of the largest worker."""
    stages = cost.cpu_s
    peak, slope = max(map(cost.memory.peak, stages)), max(map(cost.memory.slope, stages))
    what = f"{mode}, {cost.case.n_flows:,} flows"
    aims = [Aim(what=f"{what}: memory of a worker", wanted=500, measured=peak, unit="MB", at_most=True)]
    if cost.case.n_flows >= GROWTH_FLOWS:
        unit = "MB a million flows"
        aims.append(Aim(what=f"{what}: its growth", wanted=1, measured=slope, unit=unit, at_most=True))
    return aims


def measure(bench: Bench, args: argparse.Namespace, report: Report) -> None:
    """Fill the report."""
    costs, grown, restarts = [], [], []
    lines: dict[str, Any] = {}
    for mode in args.modes:
        found = [_told(mode, bench.run(mode, case)) for case in cases(args)]
        long_run = _told(mode, bench.run(mode, Case(load=BASE, n_flows=args.memory_flows)))
        costs += [cost.row(mode) for cost in [*found, long_run]]
        grown += growth(mode, long_run)
        report.aims += memory_aims(mode, long_run)
        for stage, mb in long_run.memory.mb.items():
            lines[f"{mode}: {stage}"] = ([at / 1e6 for at in long_run.memory.at], mb)
        rates = (50_000.0,) if args.short else (1.0, 1_000.0, 50_000.0)
        restarts += [bench.restart(mode, replace(BASE, rate=rate)) for rate in rates]
    report.tables = [
        Table(title="Cost against size", columns=COLUMNS, rows=costs, note=NOTE),
        Table(
            title="Memory over a long run",
            columns=["mode", "worker", "flows", "first, MB", "last, MB", "peak, MB", "MB a million flows"],
            rows=grown,
            note="The last column is the slope over the second half.",
        ),
        Table(
            title="Restart with full windows",
            columns=[
                "mode", "worker", "flows/s of event time", "rows in the windows", "first answer, s",
                "lag 0, s", "CPU, s",
            ],
            rows=restarts,
            note=f"From the start of the process, {RESTART_FLOWS:,} unread flows before it.",
        ),
    ]  # fmt: skip
    report.plots = [
        Plot(title="Memory over a long run", x_label="million flows", y_label="resident, MB", lines=lines)
    ]


def _told(mode: str, cost: Cost) -> Cost:
    print(" ".join(rig.shown(value) for value in cost.row(mode)), flush=True)
    return cost


def huge(bench: Bench, mode: str, n_flows: int) -> Report:
    """Carry very many flows through one configuration, with progress."""
    cost = _told(mode, bench.run(mode, Case(load=BASE, n_flows=n_flows)))
    lines = {stage: ([at / 1e6 for at in cost.memory.at], mb) for stage, mb in cost.memory.mb.items()}
    return Report(
        name="many",
        title="Very many flows",
        protocol=f"One run as in the section on cost against size, {mode}: `bench_cost.py --huge {n_flows}`.",
        tables=[Table(title="Very many flows", columns=COLUMNS, rows=[cost.row(mode)], note=NOTE)],
        plots=[Plot(title="Memory over very many flows", x_label="million flows", y_label="MB", lines=lines)],
        aims=memory_aims(mode, cost),
    )


@contextmanager
def broker(args: argparse.Namespace) -> Iterator[KafkaSettings]:
    """Run the broker asked for; Apache Kafka keeps its disk small."""
    chosen = kafka_broker(properties=SMALL_DISK) if args.broker == "kafka" else local_broker()
    with chosen as kafka:
        yield kafka


def main() -> None:
    """Measure and report."""
    parser = rig.arguments(__doc__)
    parser.add_argument("--modes", nargs="+", choices=modes(), help="default: all; short: the last")
    parser.add_argument(
        "--memory-flows", type=int, help="flows of the long run (20 million, short: 1 million)"
    )
    parser.add_argument(
        "--huge",
        type=int,
        metavar="N",
        help="only one run of N flows in the last mode, as 100000000 (10 minutes at 170,000 flows/s)",
    )
    args = parser.parse_args()
    args.modes = args.modes or (modes()[-1:] if args.short else modes())
    args.memory_flows = args.memory_flows or (1_000_000 if args.short else 20_000_000)
    protocol = PROTOCOL.strip().format(ahead=AHEAD, restart=f"{RESTART_FLOWS:,}")
    report = Report(name="cost", title="Cost against size", protocol=protocol)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, broker(args) as kafka:
        bench = Bench(kafka, Path(name))
        if args.huge:
            huge(bench, args.modes[-1], args.huge).finish(args)
            return
        measure(bench, args, report)
    report.finish(args)


if __name__ == "__main__":
    main()
