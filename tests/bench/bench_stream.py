"""Flows a second of each stage and of the whole stream: `python tests/bench/bench_stream.py --help`.

Fills the flows topic first, then runs one stage after another, each alone, over the whole log:
rows over the time from its first to its last output message (broker time stamps), and rows a CPU-second
of the worker process. Last, a second prefix is replayed with all three workers running: end to end, from
the first flow written to the last verdict.
"""

import argparse
import os
import platform
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from connectors.base import Source
from connectors.broker_kafka import kafka_broker, missing_tools
from connectors.broker_local import free_port, local_broker
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.replay import again
from connectors.sources import Generated, open_source
from connectors.topics import TopicAdmin, Topics
from pipeline.account import Accountant
from pipeline.feed import feed
from pipeline.settings import Settings, load_settings
from pipeline.supervisor import STAGES, WEIR
from pipeline.topic_plan import topic_specs

WAIT_S = 300.0
FEATURE_SETS = {"synthetic": "conn", "nsl-kdd": "nsl-kdd", "unsw-nb15": "unsw-nb15"}


def settings_for(kafka: KafkaSettings, folder: Path, prefix: str, args: argparse.Namespace) -> Settings:
    overrides = {
        "kafka.bootstrap_servers": kafka.servers,
        "topics.prefix": prefix,
        "topics.lanes": 1,
        "writer.rows": args.rows,
        "features.feature_set": FEATURE_SETS[args.dataset],
        "panel.models": "bench",
        "panel.models_dir": str(folder / "models"),
        "panel.alpha": 1e-4,
        "worker.state_dir": str(folder / "state" / prefix),
        "worker.session_timeout_s": 6,
        "logging.level": "warning",
    }
    settings = load_settings(overrides=overrides, env={})
    (folder / f"{prefix}.yaml").write_text(settings.model_dump_json(exclude_defaults=True))
    with TopicAdmin(kafka) as admin:
        admin.create(topic_specs(settings))
    return settings


def train(folder: Path, dataset: str) -> None:
    command = [
        *WEIR,
        "train",
        dataset,
        "--name",
        "bench",
        "--out",
        str(folder / "models"),
        "--max-rows",
        "20000",
    ]
    options = ["--days", "2"] if dataset == "synthetic" else []
    subprocess.run([*command, *options], check=True, stdout=subprocess.DEVNULL)


def source_runs(dataset: str, runs: int) -> Iterator[Source]:
    """Yield the source and further runs of it, each behind the one before."""
    generated = Generated(seed=1, days=runs, attacks=True) if dataset == "synthetic" else None
    source = open_source(dataset, part="train" if dataset == "nsl-kdd" else None, generated=generated)
    yield source
    if dataset != "synthetic":
        for run in range(1, runs):
            yield again(source, run)


def fill(settings: Settings, args: argparse.Namespace) -> int:
    return sum(
        feed(settings, source, rebase=index > 0).summary.n_sent
        for index, source in enumerate(source_runs(args.dataset, args.runs))
    )


@contextmanager
def worker(stage: str, folder: Path, prefix: str) -> Iterator[int]:
    """Run a stage and yield its metrics port."""
    port = free_port()
    command = [*WEIR, "worker", stage, "--config", str(folder / f"{prefix}.yaml"), "--from", "earliest"]
    process = subprocess.Popen([*command, "--set", f"worker.port={port}"], start_new_session=True)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(30)


def metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name) and line[len(name)] in " {")


def wait_ready(port: int) -> None:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the worker is not ready")


def stage_rates(stage: str, folder: Path, settings: Settings, n_messages: int, n_rows: int) -> str:
    """Run one stage alone over the log and return its line of the table."""
    topics = Topics(settings.topics.prefix)
    features = topics.features(settings.features.feature_set)
    output = features if stage == "features" else topics.detections(settings.panel.name)
    with worker(stage, folder, settings.topics.prefix) as port, KafkaReader(settings.kafka) as reader:
        wait_ready(port)
        before = metric(port, "process_cpu_seconds_total")
        while sum(end for _, end in reader.offsets(output).values()) < n_messages + (stage == "detect"):
            time.sleep(0.2)
        cpu = metric(port, "process_cpu_seconds_total") - before
        memory = metric(port, "process_resident_memory_bytes") / 1e6
        stamps = [m.timestamp_ms for m in reader.read_range(output, 0, int(stage == "detect"), 1 << 60)]
    seconds = (stamps[-1] - stamps[0]) / 1000
    share = (len(stamps) - 1) / len(stamps)  # the first message only starts the clock
    return row(stage, n_rows * share / seconds, n_rows / cpu, memory)


def row(name: str, per_s: float, per_cpu: float | None, memory: float | None) -> str:
    cpu = "" if per_cpu is None else f"{per_cpu / 1e3:,.0f}"
    return f"| {name} | {per_s / 1e3:,.0f} | {cpu} | {'' if memory is None else f'{memory:,.0f}'} |"


def end_to_end(folder: Path, settings: Settings, args: argparse.Namespace) -> str:
    prefix = settings.topics.prefix
    with (
        worker("features", folder, prefix) as one,
        worker("detect", folder, prefix) as two,
        worker("alerts", folder, prefix) as three,
        Accountant(settings) as accountant,
    ):
        for port in (one, two, three):
            wait_ready(port)
        started = time.monotonic()
        n_rows = fill(settings, args)
        while accountant.update().n_accounted < n_rows:
            time.sleep(0.05)
        return row("end to end", n_rows / (time.monotonic() - started), None, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", choices=FEATURE_SETS, default="synthetic")
    parser.add_argument("--rows", type=int, default=4000, help="rows a flows message")
    parser.add_argument("--runs", type=int, default=4, help="days of synthetic traffic, or runs of a dataset")
    parser.add_argument(
        "--broker", choices=["kafka", "local"], default="local" if missing_tools() else "kafka"
    )
    args = parser.parse_args()
    version = platform.python_version()
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, Python {version}")
    start = kafka_broker if args.broker == "kafka" else local_broker
    with tempfile.TemporaryDirectory(prefix="weir-bench-") as name, start() as kafka:
        folder = Path(name)
        train(folder, args.dataset)
        settings = settings_for(kafka, folder, "alone", args)
        n_rows = fill(settings, args)
        with KafkaReader(kafka) as reader:
            (_, n_messages), *_ = reader.offsets(Topics("alone").flows).values()
        print(f"{args.dataset}: {n_rows:,} flows in {n_messages} messages, broker {args.broker}\n")
        print("| stage | thousand flows/s | thousand flows per CPU-second | memory, MB |\n|---|---|---|---|")
        for stage in STAGES[:2]:
            print(stage_rates(stage, folder, settings, n_messages, n_rows), flush=True)
        print(end_to_end(folder, settings_for(kafka, folder, "together", args), args))


if __name__ == "__main__":
    main()
