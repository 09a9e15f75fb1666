"""What the benchmarks share: their command line, their results, and a stream of real workers to measure.

Every benchmark prints its environment and tables and, with `--results FOLDER`, leaves them there as
`NAME.json`, from which `report.py` writes docs/performance.md.
"""

import argparse
import json
import os
import platform
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

# One BLAS thread, as in a worker; before numpy is imported, by this process or by its children.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from connectors.broker_kafka import kafka_broker, missing_tools
from connectors.broker_local import free_port, local_broker
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin
from pipeline.settings import Settings, load_settings
from pipeline.supervisor import WEIR
from pipeline.topic_plan import topic_specs

WAIT_S = 600.0
PACKAGES = ("faust-streaming", "aiokafka", "kafka-python", "numpy", "numba", "pyarrow")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of figures; numbers are printed with three significant digits, texts as they are."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    note: str = ""


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation, as a table shows them."""
    return f"{mean(values):.3f} ± {stdev(values) if len(values) > 1 else 0:.3f}"


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Lines over one axis: name -> (x, y)."""

    title: str
    x_label: str
    y_label: str
    lines: dict[str, tuple[Sequence[float], Sequence[float]]]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, kw_only=True)
class Aim:
    """A figure that is wanted, and what was measured."""

    what: str
    wanted: float
    measured: float
    unit: str = ""
    at_most: bool = False  # wanted is an upper limit

    @property
    def is_met(self) -> bool:
        """Whether the figure is reached."""
        return self.measured <= self.wanted if self.at_most else self.measured >= self.wanted

    @property
    def told(self) -> str:
        """The aim in one line."""
        limit = "at most" if self.at_most else "at least"
        return f"{self.what}: {shown(self.measured)} {self.unit}, wanted {limit} {shown(self.wanted)}"


@dataclass(kw_only=True)
class Report:
    """What one benchmark measured, and how."""

    name: str  # of the file, without folder and ending
    title: str
    protocol: str  # Markdown: what was measured over what, in which order, how often
    tables: list[Table] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    aims: list[Aim] = field(default_factory=list)

    def finish(self, args: argparse.Namespace) -> None:
        """Print everything and, if a folder is given, write NAME.json there."""
        found = environment()
        print("\n".join(f"{name}: {value}" for name, value in found.items()))
        print(f"\n# {self.title}\n\n{self.protocol}\n")
        print("\n\n".join(markdown(table) for table in self.tables))
        for aim in self.aims:
            print(f"{'met   ' if aim.is_met else 'MISSED'} {aim.told}")
        if args.results:
            args.results.mkdir(parents=True, exist_ok=True)
            content = {**asdict(self), "environment": found, "short": args.short}
            (args.results / f"{self.name}.json").write_text(json.dumps(content, indent=1) + "\n")


def markdown(table: Table) -> str:
    """Return a table as Markdown."""
    lines = [f"**{table.title}**", "", _line(table.columns), "|" + "---|" * len(table.columns)]
    lines += [_line([shown(value) for value in row]) for row in table.rows]
    return "\n".join([*lines, "", table.note] if table.note else lines)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def shown(value: str | float | None) -> str:
    """Return a figure as people read it: three significant digits, thousands apart."""
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def environment() -> dict[str, str]:
    """Return what the figures depend on."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "when": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": f"{_cpu()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB",
        "load": f"{os.getloadavg()[0]:.1f} when it ended",
        "software": f"{platform.system()}, Python {platform.python_version()}, {packages}",
    }


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a minute or two: less data, fewer repeats")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="leave the figures there as JSON")
    default = "local" if missing_tools() else "kafka"
    parser.add_argument("--broker", choices=["kafka", "local"], default=default)
    return parser


@contextmanager
def broker(args: argparse.Namespace) -> Iterator[KafkaSettings]:
    """Run the broker that the command line asks for; what is deleted there leaves the disk soon."""
    if args.broker == "local":
        with local_broker() as kafka:
            yield kafka
    else:
        with kafka_broker(properties={"log.segment.delete.delay.ms": "1000"}) as kafka:
            yield kafka


def settings_for(
    kafka: KafkaSettings, folder: Path, prefix: str, *, config: str = "", **sections: dict[str, Any]
) -> Settings:
    """Return the settings of a stream with its topics made; `FOLDER/CONFIG.yaml` holds them for workers.

    One lane, `conn`, the model `bench` of `FOLDER/models`, alpha 1e-4; `sections` changes any of it.
    `config` is `prefix` where left out: two of them may share the topics of one prefix.
    """
    given: dict[str, dict[str, Any]] = {
        "kafka": {"bootstrap_servers": kafka.servers},
        "topics": {"prefix": prefix, "lanes": 1},
        "features": {"feature_set": "conn"},
        "panel": {"models": "bench", "models_dir": str(folder / "models"), "alpha": 1e-4},
        "worker": {"state_dir": str(folder / "state" / (config or prefix)), "session_timeout_s": 6},
        "logging": {"level": "warning"},
    }
    for name, section in sections.items():
        given[name] = {**given.get(name, {}), **section}
    flat = {f"{name}.{key}": value for name, section in given.items() for key, value in section.items()}
    settings = load_settings(overrides=flat, env={})
    (folder / f"{config or prefix}.yaml").write_text(settings.model_dump_json(exclude_defaults=True))
    with TopicAdmin(kafka) as admin:
        admin.create(topic_specs(settings))
    return settings


def train(folder: Path, dataset: str = "synthetic", *, detector: str = "beaa") -> None:
    """Train the model `bench` into `FOLDER/models`."""
    options = ["--days", "2"] if dataset == "synthetic" else []
    where = ["--name", "bench", "--out", str(folder / "models"), "--max-rows", "20000"]
    command = [*WEIR, "train", dataset, "--detector", detector, *where, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@dataclass(frozen=True)
class Running:
    """A worker process, seen from outside."""

    process: subprocess.Popen[bytes]
    port: int

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        found = [line for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.split()[-1]) for line in found)

    @property
    def cpu_s(self) -> float:
        """CPU seconds of the process since it began."""
        return self.metric("process_cpu_seconds_total")

    @property
    def memory_mb(self) -> float:
        """Resident memory now."""
        return self.metric("process_resident_memory_bytes") / 1e6

    @property
    def spent_s(self) -> float:
        """CPU seconds of the process since it began, as the system says: asking costs it nothing."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(ticks) for ticks in fields[11:13]) / os.sysconf("SC_CLK_TCK")

    @property
    def peak_mb(self) -> float:
        """The most resident memory so far."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(float(line.split()[1]) / 1e3 for line in lines if line.startswith("VmHWM"))

    def wait_ready(self) -> None:
        """Return when the worker's group has given it lanes."""
        wait(self._is_ready, "the worker is not ready", every_s=0.1)

    def _is_ready(self) -> bool:
        self.check()
        return _answers(f"http://127.0.0.1:{self.port}/ready")

    def check(self) -> None:
        """Do nothing while the process lives.

        Raises
        ------
        RuntimeError
            If it has ended: waiting for it would be in vain.
        """
        if (code := self.process.poll()) is not None:
            raise RuntimeError(f"worker {self.process.args} has ended with {code}; see its output above")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False


def wait(done: Callable[[], bool], what: str, *, every_s: float = 0.05, within_s: float = WAIT_S) -> None:
    """Return when `done`.

    Raises
    ------
    TimeoutError
        Saying `what` did not come.
    """
    deadline = time.monotonic() + within_s
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        time.sleep(every_s)


@contextmanager
def worker(stage: str, folder: Path, config: str) -> Iterator[Running]:
    """Run a stage of the stream of `settings_for` from the log's beginning; it is stopped at the end."""
    port = free_port()
    command = [*WEIR, "worker", stage, "--config", str(folder / f"{config}.yaml"), "--from", "earliest"]
    process = subprocess.Popen([*command, "--set", f"worker.port={port}"], start_new_session=True)
    try:
        yield Running(process, port)
    finally:
        process.terminate()
        process.wait(30)
