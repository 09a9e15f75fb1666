"""An alert storm beside the quiet rate: every flow is flagged: `python tests/bench/bench_storm.py --help`."""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rig
from load import Load, write
from rig import Aim, Plot, Report, Table
from workers import Memory, Progress, Stream, modes, stream, train_on

from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings

PROTOCOL = """
Flows of `conn@1` among random hosts, 4,000 rows a message, {rate:,.0f} flows a second of event time, carried
by all workers at once, the writer at most {ahead} messages ahead of the slowest. Quiet: alpha 1e-4 with a
model (BEAA) of this load. Storm: the same flows with alpha 1, so that each is flagged; once from 10,000
sources (many groups), once from one (few). Alerts are grouped as usual: the first three flows of a group,
then one summary a minute. Flows a second: from the first flow written to the last message that the alerts
worker has done. CPU seconds are those of the worker processes; memory is sampled four times a second.
One run each.
"""
RATE = 50_000.0
AHEAD = 100
WARM_UP = 5
LOOK_S = 0.25
CASES = (("quiet", 10_000, 1e-4), ("storm, many sources", 10_000, 1.0), ("storm, one source", 1, 1.0))


@dataclass(frozen=True, kw_only=True)
class Storm:
    """What one run measured."""

    mode: str
    name: str
    n_flows: int
    seconds: float
    cpu_s: dict[str, float]
    memory: Memory
    n_flagged: int  # since the workers began
    n_alerts: int

    @property
    def per_s(self) -> float:
        """Flows a second."""
        return self.n_flows / self.seconds

    def row(self) -> list[str | float | None]:
        """Return its line of the table."""
        stages = ("features", "detect", "alerts")
        cpu = [self.n_flows / max(self.cpu_s[s], 0.01) / 1e3 if s in self.cpu_s else None for s in stages]
        together = self.n_flows / sum(self.cpu_s.values()) / 1e3
        peaks = [self.memory.peak(s) if s in self.cpu_s else None for s in stages]
        rates = [self.per_s / 1e3, *cpu, together]
        return [self.mode, self.name, self.n_flows, *rates, self.n_flagged, self.n_alerts, *peaks]


class Done:
    """How many messages the slowest worker has answered; the alerts worker is asked now and then."""

    def __init__(self, running: Stream) -> None:
        self._running = running
        self._n = 0
        self._looked = 0.0

    def __call__(self) -> int:
        """Return it; the first message of a panel answers nothing."""
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            alerts = self._running.workers["alerts"].metric("weir_stage_duration_seconds_count")
            self._n = min(self._running.answered(), int(alerts) - 1)
        return self._n


class Bench:
    """The runs on one broker."""

    def __init__(self, kafka: KafkaSettings, folder: Path) -> None:
        self._kafka = kafka
        self._folder = folder

    def train(self) -> None:
        """Train a model of the load for each number of sources."""
        for n_sources in {n for _, n, _ in CASES}:
            train_on(self._folder, Load(n_sources=n_sources, rate=RATE), f"m{n_sources}")

    def run(self, mode: str, name: str, n_sources: int, alpha: float, n_flows: int) -> Storm:
        """Carry flows with this alpha."""
        load = Load(n_sources=n_sources, rate=RATE, seed=1)
        panel = {"models": f"m{n_sources}", "alpha": alpha}
        prefix = f"{mode}-{name}".replace(" ", "").replace(",", "-")
        warm = WARM_UP * load.rows
        with stream(self._kafka, self._folder, prefix, mode, panel=panel) as running:
            done = Done(running)
            write(self._kafka, running.topics, load.messages(warm))
            rig.wait(lambda: done() >= WARM_UP, "the first messages", every_s=LOOK_S)
            before, begun = running.cpu_s(), time.monotonic()
            memory = self._carry(running, done, load, warm + n_flows, f"{mode}, {name}")
            seconds, after = time.monotonic() - begun, running.cpu_s()
            running.behind.trim()
            return Storm(
                mode=mode,
                name=name,
                n_flows=n_flows,
                seconds=seconds,
                cpu_s={stage: after[stage] - before[stage] for stage in after},
                memory=memory,
                n_flagged=int(running.workers["detect"].metric("weir_flagged_records_total")),
                n_alerts=self._n_alerts(running),
            )

    def _carry(self, running: Stream, done: Done, load: Load, upto: int, what: str) -> Memory:
        pids = {stage: worker.process.pid for stage, worker in running.workers.items()}
        memory = Memory(pids, lambda: running.behind.n_answered * load.rows)
        room = running.room(AHEAD, done)
        flows = load.messages(upto, first=WARM_UP * load.rows)
        with memory.sampled():
            write(self._kafka, running.topics, flows, room=room, progress=Progress(what, upto))
            rig.wait(lambda: done() >= -(-upto // load.rows), "the last alerts", every_s=LOOK_S)
        return memory

    def _n_alerts(self, running: Stream) -> int:
        with KafkaReader(self._kafka) as reader:
            return sum(end - begin for begin, end in reader.offsets(running.topics.alerts).values())


def aims(quiet: Storm, storm: Storm) -> list[Aim]:
    """Return what is wanted of a storm beside the quiet rate."""
    what = f"{storm.mode}, {storm.name}"
    stages = storm.cpu_s
    peak = max(map(storm.memory.peak, stages))
    share = storm.n_alerts / storm.n_flagged
    return [
        Aim(what=f"{what}: flows/s over the quiet rate", wanted=0.5, measured=storm.per_s / quiet.per_s),
        Aim(what=f"{what}: alerts a flagged flow", wanted=0.01, measured=share, at_most=True),
        Aim(what=f"{what}: memory of a worker", wanted=500, measured=peak, unit="MB", at_most=True),
    ]


def measure(bench: Bench, args: argparse.Namespace, report: Report) -> None:
    """Fill the report."""
    found: list[Storm] = []
    lines: dict[str, Any] = {}
    bench.train()
    for mode in args.modes:
        runs = [bench.run(mode, *case, args.flows) for case in CASES if case[1] > 1 or not args.short]
        found += runs
        for run in runs:
            print(" ".join(rig.shown(value) for value in run.row()), flush=True)
            lines |= {
                f"{mode}, {run.name}: {stage}": ([at / 1e6 for at in run.memory.at], mb)
                for stage, mb in run.memory.mb.items()
            }
        for run in runs[1:]:
            report.aims += aims(runs[0], run)
    cpu = ["features", "detect", "alerts", "together"]
    counts = ["flagged", "alerts", "features, MB", "detect, MB", "alerts, MB"]
    report.tables = [
        Table(
            title="A storm beside the quiet rate",
            columns=["mode", "load", "flows", "flows/s, thousand", *cpu, *counts],
            rows=[run.row() for run in found],
            note="Features, detect, alerts, together: thousand flows a CPU-second. MB: peaks. "
            "The summaries of the last minute are not among the alerts.",
        )
    ]
    report.plots = [
        Plot(title="Memory in a storm", x_label="million flows", y_label="resident, MB", lines=lines)
    ]


def main() -> None:
    """Measure and report."""
    parser = rig.arguments(__doc__)
    parser.add_argument("--modes", nargs="+", choices=modes(), help="default: all; short: the last")
    parser.add_argument("--flows", type=int, help="of each run (4 million, short: 300,000)")
    args = parser.parse_args()
    args.modes = args.modes or (modes()[-1:] if args.short else modes())
    args.flows = args.flows or (300_000 if args.short else 4_000_000)
    protocol = PROTOCOL.strip().format(rate=RATE, ahead=AHEAD)
    report = Report(name="storm", title="An alert storm", protocol=protocol)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, rig.broker(args) as kafka:
        measure(Bench(kafka, Path(name)), args, report)
    report.finish(args)


if __name__ == "__main__":
    main()
