"""The same flows through other stream processors, as their users write them, beside weir.

`python tests/bench/bench_peers.py --help`. The peers live in an environment of their own (`make peers`):
their dependencies exclude some of weir's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np
import pyarrow as pa
from bench_stream import Bench, per_cpu_s, spread, tell
from measure import Leg
from rig import Aim, Report, Table, arguments, broker, train
from traffic import PROTOCOL, Repeated

from connectors.kafka_client import producer
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, TopicSpec
from detectors.base import Matrix
from detectors.registry import create
from pipeline.features.base import Feature, FeatureSet
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from pipeline.features.normaliser import Normaliser
from pipeline.feed import feed

PEERS = {
    "Quix Streams": ("quix_streams.py", "beaa"),
    "Bytewax": ("bytewax_flow.py", "beaa"),
    "kafka-python + PyOD IForest": ("pyod_batches.py", "iforest"),
    "kafka-python + PyOD ECOD": ("pyod_batches.py", "ecod"),
    "confluent-kafka + numpy, by hand": ("by_hand.py", "beaa"),
}
"""Name -> script and detector."""
BY_HAND = "confluent-kafka + numpy, by hand"
PACKAGES = ("quixstreams", "bytewax", "pyod", "kafka-python", "confluent-kafka", "orjson", "numpy")
FIT_ROWS, PYOD_ROWS = 20_000, 5_000
ALERTS = 0.001
ROWS = 4000

PLAN = """{traffic}

The peers get {n:,} of these flows, one JSON message a flow: identity, and the features that the model
takes, computed beforehand; weir gets {n_weir:,} plain flows in messages of {rows:,} rows and computes the
features, windows included, itself. One broker ({broker}), one run, one lane, one peer at a time; the
CPU of weir is that of all its workers, alerts worker included. *all*: the {d_all} features that weir's model
takes, windows included; *flow*: the {d_flow} of them that say something of the flow alone, a smaller message
and less to score (left out of the short form).

Quix Streams and Bytewax: decode, score with numpy, filter, send on, a message at a time, as in their
tutorials; the score is BEAA's (an affine map and its norm), the threshold flags {alerts:.1%}. kafka-python +
PyOD: polls of up to 1,000 messages, scored as one batch by PyOD's detector, fitted on {pyod:,} rows.
*By hand*: no framework, the best that we could write over JSON; no aim refers to it. All use orjson. No peer
calibrates, explains, groups, recovers windows or journals its progress; weir does all of it.

CPU is that of the process with all threads, from the first message to the last; what a client
fetches ahead of its first message is not counted, which favours the peers. Median of {repeats} repeats, least
and most in brackets. Software of the peers: {versions}."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the peers get: messages, and the model as arrays."""

    name: str  # of this choice of features
    features: tuple[Feature, ...]
    rows: pa.RecordBatch  # features and identity, n flows
    model: Path
    n_alerts: int  # scores above the threshold

    @property
    def topic(self) -> str:
        """Where the messages are."""
        return f"peers.{self.name}"


def prepared(folder: Path, name: str, chosen: Sequence[Feature], rows: pa.RecordBatch, n: int) -> Given:
    """Fit the model on these features and write it as the peers read it; they get the first n rows."""
    x = columns_of(rows, chosen)
    logs = np.array([feature.transform == "log1p" for feature in chosen])
    y = np.where(logs, np.log1p(x), x)
    centre, scale = y[:FIT_ROWS].mean(axis=0), y[:FIT_ROWS].std(axis=0)
    z = (y - centre) / scale
    rng = np.random.default_rng(1)
    beaa = create("beaa").fit(z[:FIT_ROWS], held_out=z[FIT_ROWS : FIT_ROWS * 5 // 4], rng=rng)
    arrays, threshold = beaa.state().arrays, np.quantile(beaa.score(z), 1 - ALERTS)
    path = folder / f"{name}.npz"
    np.savez(
        path,
        names=np.array([feature.name for feature in chosen]),
        logs=logs,
        centre=centre,
        scale=scale,
        weights=arrays["form.both.weights"],
        constants=arrays["form.both.constants"],
        threshold=threshold,
        train=x[:PYOD_ROWS],
    )
    n_alerts = int((beaa.score(z[:n]) > threshold).sum())
    return Given(name=name, features=tuple(chosen), rows=rows.slice(0, n), model=path, n_alerts=n_alerts)


def columns_of(rows: pa.RecordBatch, chosen: Sequence[Feature]) -> Matrix:
    """Return features in their own units."""
    return np.column_stack([rows.column(f.name).to_numpy().astype(np.float64) for f in chosen])


def choices(folder: Path, chosen: FeatureSet, n: int) -> Iterator[Given]:
    """Yield what the peers get: features of the flow alone, then all."""
    source = Repeated("synthetic", max(n, 2 * FIT_ROWS))
    table = offline_features(chosen, (chunk.rows for chunk in source.chunks())).features
    rows = table.combine_chunks().to_batches()[0]
    kinds = create("beaa").columns
    inputs = Normaliser.fit(chosen, rows.slice(0, FIT_ROWS), kinds=kinds, scaling="standard").inputs
    windows = () if chosen.windows is None else tuple(f"_{width}s" for width in chosen.windows.widths_s)
    alone = [feature for feature in inputs if not feature.name.endswith(windows)]
    yield prepared(folder, "flow", alone, rows, n)
    yield prepared(folder, "all", inputs, rows, n)


def send(kafka: KafkaSettings, given: Given) -> None:
    """Bring the flows into a topic, one JSON message each."""
    names = ["flow_id", "sensor", "protocol", "src_port", "dst_port"]
    texts = [given.rows.column(name).to_pylist() for name in names]
    times = given.rows.column("event_time").cast(pa.int64()).to_pylist()
    numbers = columns_of(given.rows, given.features)
    keys = [*names, "event_time_us", *(feature.name for feature in given.features)]
    client = producer(kafka, linger_ms=20, batch_size=256 * 1024)
    for *identity, time_us, values in zip(*texts, times, numbers.tolist(), strict=True):
        seven = [float(f"{value:.7g}") for value in values]  # digits, what float32 holds
        flow = dict(zip(keys, [*identity, time_us, *seven], strict=True))
        client.send(given.topic, msgspec.json.encode(flow))
    client.flush()
    client.close(timeout=5)


def run_peer(kafka: KafkaSettings, python: Path, name: str, given: Given) -> tuple[Leg, int]:
    """Return the figures of one peer, and how many alerts it has written."""
    script, detector = PEERS[name]
    alerts = f"alerts.{uuid.uuid4().hex[:12]}"
    with TopicAdmin(kafka) as admin:
        admin.create([TopicSpec(name=alerts, partitions=1)])
    path = Path(__file__).parent / "peers" / script
    job = [kafka.servers, given.topic, alerts, str(given.rows.num_rows), str(given.model), detector]
    command = [str(python), "-W", "ignore", str(path), *job]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{name} has ended with {done.returncode}: {done.stderr[-2000:]}")
    leg = Leg(**json.loads(done.stdout.splitlines()[-1]))
    n_alerts = ends(kafka, alerts)
    if not n_alerts:
        raise RuntimeError(f"{name} has written no alert of {given.rows.num_rows:,} flows: it scored nothing")
    tell(f"  {name}, {given.name}: {leg.per_cpu_s / 1e3:,.1f} k per CPU-second, {n_alerts} alerts")
    return leg, n_alerts


def ends(kafka: KafkaSettings, topic: str) -> int:
    """Return how many messages a topic holds."""
    with KafkaReader(kafka) as reader:
        return sum(end for _, end in reader.offsets(topic).values())


Found = dict[tuple[str, str], list[tuple[Leg, int]]]
"""(peer, features) -> figures and alerts, one pair a repeat."""


def peers(kafka: KafkaSettings, python: Path, all_given: Sequence[Given], repeats: int) -> Found:
    """Run every peer over every choice of features."""
    found: Found = {}
    for given in all_given:
        with TopicAdmin(kafka) as admin:
            admin.create([TopicSpec(name=given.topic, partitions=1)])
        send(kafka, given)
        for _ in range(repeats):
            for name in PEERS:
                found.setdefault((name, given.name), []).append(run_peer(kafka, python, name, given))
    return found


def weir(kafka: KafkaSettings, folder: Path, args: argparse.Namespace) -> dict[str, list[Leg]]:
    """Run weir over the same traffic, both ways."""
    train(folder)
    bench = Bench(kafka, folder, ROWS, args)
    with bench.log("weir") as log:
        feed(log.settings, bench.source)
        for _ in range(args.repeats):
            bench.whole(log)
    return {way.partition(",")[0]: legs for way, legs in bench.legs.items() if "drained" in way}


def best(found: Found, among: Sequence[str]) -> tuple[str, float]:
    """Return the peer with the most flows a CPU-second over some choice of features, and how many."""
    named = [(name, legs) for (name, chosen), legs in found.items() if name != BY_HAND and chosen in among]
    return max(
        ((name, per_cpu_s([leg for leg, _ in legs])) for name, legs in named), key=lambda pair: pair[1]
    )


def table(found: Found, ours: dict[str, list[Leg]], note: str) -> Table:
    """Return all figures."""
    _, most = best(found, ("all",))
    rows: list[list[str | float | None]] = []
    for (name, features), pairs in found.items():
        legs = [leg for leg, _ in pairs]
        alerts = statistics.median(n for _, n in pairs)
        rows.append([name, features, rate(legs), cpu(legs), per_cpu_s(legs) / most, alerts])
    for way, legs in ours.items():
        name = f"weir, {way}"
        rows.append(
            [name, "computed", spread([leg.per_s for leg in legs]), cpu(legs), per_cpu_s(legs) / most, None]
        )
    columns = [
        "what",
        "features",
        "k flows/s",
        "k flows per CPU-second",
        "of the best peer over all features",
        "alerts",
    ]
    title = "Thousand flows a second and a CPU-second"
    return Table(title=title, columns=columns, rows=rows, note=note)


def expected(all_given: Sequence[Given]) -> str:
    """Return how many alerts the model itself makes of the same flows."""
    numbers = ", ".join(f"{given.n_alerts} ({given.name})" for given in all_given)
    return f"Alerts that BEAA makes of these flows: {numbers}."


def rate(legs: Sequence[Leg]) -> str:
    """Return flows a second."""
    return spread([leg.per_s for leg in legs])


def cpu(legs: Sequence[Leg]) -> str:
    """Return flows a CPU-second."""
    return spread([leg.per_cpu_s for leg in legs])


TOLD = {"all": "best peer over the same features", "flow": "best peer over the features of the flow alone"}
WANTED = {"two hops": 4.0, "inline": 8.0}


def aims(found: Found, ours: dict[str, list[Leg]]) -> list[Aim]:
    """Return how many times the best peer weir is: over the same features, and over fewer."""
    made = []
    for chosen in ("all", "flow"):
        if not any(features == chosen for _, features in found):
            continue
        name, most = best(found, (chosen,))
        for way, wanted in WANTED.items():
            if way in ours:
                what = f"{way} against the {TOLD[chosen]} ({name}), per CPU-second"
                measured = per_cpu_s(ours[way]) / most
                made.append(Aim(what=what, wanted=wanted, measured=measured, unit="times"))
    return made


def versions(python: Path) -> str:
    """Return what the peers run with.

    Raises
    ------
    SystemExit
        If their environment is not there.
    """
    if not python.exists():
        raise SystemExit(f"{python} is not there; make the peers' environment with: make peers")
    code = (
        "import sys, importlib.metadata as m; print(*(f'{n} {m.version(n)}' for n in sys.argv[1:]), sep=', ')"
    )
    done = subprocess.run([python, "-c", code, *PACKAGES], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def parsed() -> argparse.Namespace:
    """Return the command line."""
    parser = arguments(__doc__)
    default = Path(sys.prefix).parent / ".venv-peers" / "bin" / "python"
    parser.add_argument("--python", type=Path, default=default, help="interpreter of the peers' environment")
    parser.add_argument("--flows", type=int, help="for each peer; default 200,000, 60,000 with --short")
    parser.add_argument("--repeats", type=int, help="default 3, 1 with --short")
    args = parser.parse_args()
    args.n = args.flows or (60_000 if args.short else 200_000)
    args.repeats = args.repeats or (1 if args.short else 3)
    args.dataset, args.flows = "synthetic", {ROWS: 800_000 if args.short else 2_000_000}
    return args


def main() -> None:
    """Measure and report."""
    args = parsed()
    software = versions(args.python)
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, broker(args) as kafka:
        given = list(choices(Path(name), feature_set("conn"), args.n))
        found = peers(kafka, args.python, given[1:] if args.short else given, args.repeats)
        ours = weir(kafka, Path(name), args)
    Report(
        name="peers",
        title="Beside other stream processors",
        protocol=PLAN.format(
            traffic=PROTOCOL["synthetic"],
            broker={"kafka": "Apache Kafka", "local": "the local one"}[args.broker],
            n=args.n,
            n_weir=args.flows[ROWS],
            rows=ROWS,
            d_flow=len(given[0].features),
            d_all=len(given[1].features),
            alerts=ALERTS,
            pyod=PYOD_ROWS,
            repeats=args.repeats,
            versions=software,
        ),
        tables=[table(found, ours, expected(given))],
        aims=aims(found, ours),
    ).finish(args)


if __name__ == "__main__":
    main()
