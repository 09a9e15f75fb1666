"""Flows a second and a CPU-second of each stage and of the whole stream, beside bare consumers.

`python tests/bench/bench_stream.py --help`. The floors decode the very same messages, in the same run.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
from load import Behind, Load, Room, write
from measure import Leg, Log, Watched
from rig import Aim, Plot, Report, Running, Table, arguments, broker, settings_for, train, wait, worker
from traffic import FEATURE_SETS, PROTOCOL, Repeated
from workers import train_on

from connectors.kafka_settings import KafkaSettings
from connectors.topics import Topics
from pipeline.features.feature_sets import feature_set
from pipeline.feed import feed
from pipeline.settings_sections import FeatureSettings

SHORT = {250: 150_000, 1000: 400_000, 4000: 1_600_000}
LONG = {250: 1_000_000, 1000: 2_000_000, 4000: 4_000_000}
"""Rows a message -> flows: enough for seconds of work."""

FLOORS = ("faust", "faust-tuned", "kafka-python")
FLOORED = {"features": "flows", "detect": "features", "inline": "flows"}
"""Stage -> the topic that its floors decode."""
INLINE = "inline" in FeatureSettings.model_fields

WAYS = {"two hops": ("alerts", "detect", "features"), **({"inline": ("alerts", "detect")} if INLINE else {})}
"""Way from flow to alert -> its workers, the one that begins last."""

Legs = dict[str, list[Leg]]
"""What was measured -> one leg a repeat."""

PLAN = """{traffic}

On {broker}. For each number of rows a message the flows topic is filled first; everything below reads that
same log.
Each repeat runs, one after the other: the floors over the flows, the features worker, the floors over
its features, the detect worker (BEAA), then, from cleared topics, features, detect and alerts workers
together (two hops), and detect and alerts workers with `features.inline` (inline). *drained*: the log
is full when the first worker starts; *live*: the flows are written while the workers run, by the real
writer, on the same cores (once). A floor makes the numeric columns of each message a matrix of float64 and
does nothing else: *faust* is an agent of stock Faust with the worker's settings, and what the aims refer to;
*faust-tuned* one in the worker's own app, with what weir changes in Faust; *kafka-python* a bare consumer.

The first {skip:.0%} of the messages warm everything up and are left out: a span goes from the end of one
message to the end of the last. CPU is that of the process with all its threads over the span; of the two
hops, that of all three workers together. *inline, two workers*: random flows of two sensors are written into
two lanes while a detect worker with `features.inline` for each of them runs (once). Memory is the most that
was resident. Median of {repeats} repeats, and the least and the most in brackets; ratios are taken within a
repeat."""
SKIP = 0.05
AHEAD = 100
"""Messages that two workers may be behind their writer."""


class Bench:
    """One size of messages: its log, and everything that is measured over it."""

    def __init__(self, kafka: KafkaSettings, folder: Path, rows: int, args: argparse.Namespace) -> None:
        self._kafka, self._folder, self._rows = kafka, folder, rows
        self._set = FEATURE_SETS[args.dataset]
        self._n = args.flows.get(rows, min(args.flows.values())) // rows
        self._skip = max(2, round(self._n * SKIP))
        self.source = Repeated(args.dataset, self._n * rows)
        self._prefix = f"rows{rows}"
        self.legs: Legs = defaultdict(list)
        self.flagged = 0.0  # share of the flows

    def run(self, repeats: int, *, end_to_end: bool) -> None:
        """Measure every stage, and the whole stream where wanted."""
        with self.log(self._prefix) as log:
            tell(f"{self._rows} rows a message: {self._n * self._rows:,} flows")
            feed(log.settings, self.source)
            for _ in range(repeats):
                self._floors(log.flows, "flows")
                self._alone(log, "features")
                self._floors(log.features, "features")
                self._alone(log, "detect")
                self.whole(log, WAYS if end_to_end else {})
        for way, stages in (WAYS if end_to_end else {}).items():
            self._live(way, stages)
        if end_to_end and self._set == "conn":
            self._two_workers(Load(lanes=2, rows=self._rows))

    def whole(self, log: Log, ways: Mapping[str, Sequence[str]] = WAYS) -> None:
        """Measure the stream from end to end, each way from a log without any outputs, and leave it so."""
        log.clear()
        for way, stages in ways.items():
            self.drained(log, way, stages)
            log.clear()

    @contextmanager
    def log(self, prefix: str) -> Iterator[Log]:
        """Make the topics of a prefix; `PREFIX inline` is a second configuration of it."""
        sections = {"writer": {"rows": self._rows, "linger_s": 60.0}}
        if INLINE:
            inline = {"feature_set": self._set, "inline": True}
            config = f"{prefix} inline"
            settings_for(self._kafka, self._folder, prefix, config=config, features=inline, **sections)
        features = {"feature_set": self._set}
        settings = settings_for(self._kafka, self._folder, prefix, features=features, **sections)
        with Log(settings, self._rows) as log:
            yield log
            log.delete()

    def _keep(self, what: str, leg: Leg) -> None:
        self.legs[what].append(leg)
        tell(f"  {what}: {leg.per_s / 1e3:,.0f} k/s, {leg.per_cpu_s / 1e3:,.0f} k per CPU-second")

    def _floors(self, topic: str, kind: str) -> None:
        columns = flows_columns(self._set) if kind == "flows" else feature_columns(self._set)
        config = self._folder / f"{self._prefix}.yaml"
        for client in FLOORS:
            script = Path(__file__).with_name("floors.py")
            tail = [topic, ",".join(columns), str(self._skip), str(self._n)]
            command = [sys.executable, str(script), client, str(config), *tail]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
            self._keep(f"{client} over {kind}", Leg(**json.loads(done.stdout)))

    def _alone(self, log: Log, stage: str) -> None:
        with worker(stage, self._folder, self._prefix) as running:
            watched = log.watch(stage, running)
            self._keep(stage, log.run([watched], skip=self._skip, target=self._n)[0])
        if stage == "detect":
            self.flagged = log.flagged()

    def drained(self, log: Log, way: str, stages: Sequence[str]) -> None:
        """Start the workers against the stream, the first stage last; all of the flows are there."""
        with ExitStack() as stack:
            watched = self._started(log, way, stages, stack)
            helped_s = watched["alerts"].running.spent_s
            stepped = [watched[stage] for stage in reversed(stages) if stage != "alerts"]
            legs = log.run(stepped, skip=self._skip, target=self._n)
            helped_s = watched["alerts"].running.spent_s - helped_s
            began = log.written_s(stepped[0].topic, stepped[0].base + self._skip - 1)
            ended = log.written_s(log.detections, stepped[-1].base + self._n - 1)
        cpu_s = sum(leg.cpu_s for leg in legs) + helped_s * (1 - self._skip / self._n)
        peak_mb = max(leg.peak_mb for leg in legs)
        whole = Leg(rows=legs[0].rows, cpu_s=cpu_s, wall_s=ended - began, peak_mb=peak_mb)
        self._keep(f"{way}, drained", whole)
        if way == "inline":
            self._keep(way, legs[0])

    def _started(self, log: Log, way: str, stages: Sequence[str], stack: ExitStack) -> dict[str, Watched]:
        prefix = log.settings.topics.prefix
        config = f"{prefix} inline" if way == "inline" else prefix
        watched = {}
        for stage in stages:
            running = stack.enter_context(worker(stage, self._folder, config))
            watched[stage] = log.watch(stage, running) if stage != "alerts" else alerts(log, running)
        return watched

    def _live(self, way: str, stages: Sequence[str]) -> None:
        """Write the flows while the workers run: first a few that warm them up, then the others."""
        with self.log(f"live{self._rows}") as log, ExitStack() as stack:
            watched = self._started(log, way, stages, stack)
            base = watched["detect"].base
            feed(log.settings, self.source, limit=self._skip * self._rows)
            self._settled(log, base)
            first, spent_s = log.count(log.flows), sum(each.running.spent_s for each in watched.values())
            feed(log.settings, self.source)
            self._settled(log, base)
            cpu_s = sum(each.running.spent_s for each in watched.values()) - spent_s
            ended = log.written_s(log.detections, log.count(log.detections) - 1)
            wall_s = ended - log.written_s(log.flows, first)
            peak_mb = max(each.running.peak_mb for each in watched.values())
        rows = (self._n - self._skip) * self._rows
        self._keep(f"{way}, live", Leg(rows=rows, cpu_s=cpu_s, wall_s=wall_s, peak_mb=peak_mb))

    def _two_workers(self, load: Load) -> None:
        """Write flows into two lanes while a worker for each carries them from flow to verdict."""
        train_on(self._folder, load, "pair")
        prefix = f"pair{self._rows}"
        sections = {
            "features": {"inline": True},
            "panel": {"models": "pair"},
            "topics": {"lanes": load.lanes},
        }
        settings = settings_for(self._kafka, self._folder, prefix, **sections)
        topics, flows = Topics(prefix), replace(load, seed=load.seed + 1)
        with ExitStack() as stack:
            workers = [stack.enter_context(worker("detect", self._folder, prefix)) for _ in range(load.lanes)]
            for each in workers:
                each.wait_ready()
            way = [topics.flows, topics.detections(settings.panel.name)]
            behind = stack.enter_context(closing(Behind(self._kafka, way)))
            skip = self._skip * load.rows

            def carry(first: int, upto: int) -> None:
                messages, room = flows.messages(upto, first=first), Room(behind, AHEAD)
                write(self._kafka, topics, messages, room=room)
                wait(lambda: behind.answered() >= upto // load.rows, "not every flow has a verdict")

            carry(0, skip)
            began, spent_s = time.monotonic(), sum(each.spent_s for each in workers)
            carry(skip, self._n * load.rows)
            wall_s, cpu_s = time.monotonic() - began, sum(each.spent_s for each in workers) - spent_s
            peak_mb = max(each.peak_mb for each in workers)
        rows = self._n * load.rows - skip
        self._keep("inline, two workers", Leg(rows=rows, cpu_s=cpu_s, wall_s=wall_s, peak_mb=peak_mb))

    def _settled(self, log: Log, base: int) -> None:
        wait(lambda: log.count(log.detections) - base >= log.count(log.flows), "not every flow has a verdict")


def alerts(log: Log, running: Running) -> Watched:
    """Return the alerts worker, whose progress no topic of one message for each message shows."""
    running.wait_ready()
    return Watched(running=running, topic=log.detections)


def flows_columns(name: str) -> list[str]:
    """Return the columns of a flows message that are numbers."""
    schema = feature_set(name).record_type.schema
    numeric = [f.name for f in schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
    return [name for name in numeric if name != "position"]


def feature_columns(name: str) -> list[str]:
    """Return the features of a features message."""
    return [feature.name for feature in feature_set(name).features]


def tell(text: str) -> None:
    """Report progress."""
    print(text, file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> str:
    """Return median, least and most, in thousands."""
    middle = f"{statistics.median(values) / 1e3:,.0f}"
    return middle if len(values) < 2 else f"{middle} ({min(values) / 1e3:,.0f}-{max(values) / 1e3:,.0f})"


def per_cpu_s(legs: Sequence[Leg]) -> float:
    """Return the median."""
    return statistics.median(leg.per_cpu_s for leg in legs)


def ratio(legs: Legs, stage: str, client: str) -> float | None:
    """Return flows a CPU-second of a stage over those of its floor."""
    if stage not in FLOORED:
        return None
    pairs = zip(legs[stage], legs[f"{client} over {FLOORED[stage]}"], strict=True)
    return statistics.median(leg.per_cpu_s / floor.per_cpu_s for leg, floor in pairs)


def table(found: dict[int, Legs], note: str) -> Table:
    """Return all figures."""
    rows: list[list[str | float | None]] = []
    for size, legs in found.items():
        for what, repeats in legs.items():
            wall, cpu = spread([leg.per_s for leg in repeats]), spread([leg.per_cpu_s for leg in repeats])
            peak = max(leg.peak_mb for leg in repeats) or None
            floors = [ratio(legs, what, client) for client in FLOORS]
            rows.append([f"{size:,}", what, wall, cpu, *floors, peak])
    return Table(
        title="Thousand flows a second and a CPU-second",
        columns=[
            "rows a message",
            "what",
            "k flows/s",
            "k flows per CPU-second",
            *(f"of {client}" for client in FLOORS),
            "peak memory, MB",
        ],
        rows=rows,
        note=note,
    )


def plot(found: dict[int, Legs]) -> Plot:
    """Return flows a CPU-second over rows a message."""
    names = dict.fromkeys(what for legs in found.values() for what in legs if "live" not in what)
    lines = {}
    for what in names:
        sizes = [size for size, legs in found.items() if what in legs]
        lines[what] = (sizes, [per_cpu_s(found[size][what]) / 1e3 for size in sizes])
    return Plot(
        title="Thousand flows per CPU-second",
        x_label="rows a message",
        y_label="k flows per CPU-second",
        lines=lines,
        log_x=True,
    )


def aims(legs: Legs) -> list[Aim]:
    """Return what is wanted of the largest messages."""
    drained = statistics.median(leg.per_s for leg in legs["two hops, drained"])
    found = [
        Aim(what=f"{stage}, part of the Faust floor per CPU-second", wanted=wanted, measured=measured)
        for stage, wanted in (("detect", 0.65), ("features", 0.35))
        if (measured := ratio(legs, stage, "faust")) is not None
    ]
    found.append(Aim(what="two hops end to end, drained", wanted=400_000, measured=drained, unit="flows/s"))
    if "inline" in legs:
        both = legs["inline, two workers"][0].per_s
        found.append(
            Aim(what="inline end to end, two workers", wanted=400_000, measured=both, unit="flows/s")
        )
        measured = per_cpu_s(legs["inline"])
        found.append(Aim(what="inline worker", wanted=600_000, measured=measured, unit="flows/CPU-s"))
    peak_mb = max(leg.peak_mb for repeats in legs.values() for leg in repeats)
    found.append(Aim(what="peak memory of a worker", wanted=500, measured=peak_mb, unit="MB", at_most=True))
    return found


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = arguments(__doc__)
    parser.add_argument("--dataset", choices=FEATURE_SETS, default="synthetic")
    parser.add_argument("--rows", type=int, nargs="+", default=list(LONG), help="rows a message, some sizes")
    parser.add_argument("--repeats", type=int, help="default 3, 1 with --short")
    parser.add_argument("--messages", type=int, help="of each size; default: thousands, or seconds of work")
    args = parser.parse_args()
    args.repeats = args.repeats or (1 if args.short else 3)
    args.flows = SHORT if args.short else LONG
    if args.messages:
        args.flows = {rows: rows * args.messages for rows in args.rows}
    return args


def main() -> None:
    """Measure and report."""
    args = parsed()
    benches = {}
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as folder, broker(args) as kafka:
        train(Path(folder), args.dataset)
        for rows in args.rows:
            benches[rows] = Bench(kafka, Path(folder), rows, args)
            benches[rows].run(args.repeats, end_to_end=not args.short or rows == max(args.rows))
    found = {rows: bench.legs for rows, bench in benches.items()}
    flagged = ", ".join(f"{100 * bench.flagged:.2g} %" for bench in benches.values())
    name = "stream" if args.dataset == "synthetic" else f"stream-{args.dataset}"
    of_what = "" if args.dataset == "synthetic" else f" ({args.dataset})"
    broker_name = {"kafka": "Apache Kafka", "local": "the local broker"}[args.broker]
    plan = PLAN.format(broker=broker_name, traffic=PROTOCOL[args.dataset], skip=SKIP, repeats=args.repeats)
    Report(
        name=name,
        title=f"Stream, stage by stage and end to end{of_what}",
        protocol=plan,
        tables=[table(found, f"Flagged, by rows a message: {flagged} of the flows.")],
        plots=[plot(found)],
        aims=aims(found[max(found)]) if args.dataset == "synthetic" else [],
    ).finish(args)


if __name__ == "__main__":
    main()
