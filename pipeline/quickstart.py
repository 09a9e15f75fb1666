"""From a source of flows to explained alerts, by itself: ingest, features, collect, train, watch."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from connectors.alerts_subscriber import AlertsSubscriber
from connectors.broker_local import free_port, local_broker
from connectors.child import tied
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, Topics
from pipeline.agents.collecting import counter
from pipeline.bundle_files import versions
from pipeline.capture_files import capture_files, captured_rows
from pipeline.cli.alerts import render_alert
from pipeline.errors import PipelineError
from pipeline.quantities import duration
from pipeline.settings import Settings
from pipeline.supervisor import WEIR, Child, Supervisor, worker_children
from pipeline.topic_plan import stages, topic_specs

MODEL = "quickstart"
LEAST_FLOWS = 1000
"""With fewer flows nothing is trained, however long it took."""

LEAST_SPAN_S = 600.0
"""Nor with flows of less time: the parts of the split lie a window of a minute apart."""

LOOK_S = 0.5
LAST_LINES = 12
SAY_EVERY_S = 30.0
"""How often progress is said where there is no terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be done, as the command line says."""

    source: str
    ingest: tuple[str, ...]  # options of weir ingest
    folder: Path
    flows: int
    seconds: float
    train: tuple[str, ...]  # options of weir train
    options: tuple[str, ...]  # settings, for every child

    @property
    def models(self) -> Path:
        """Folder of the models."""
        return self.folder / "models"

    @property
    def capture(self) -> Path:
        """Folder of the captured flows."""
        return self.folder / "capture"

    @property
    def rereads(self) -> bool:
        """Whether the source is read from its beginning where the log forgets how far it came."""
        return "://" not in self.source


@contextmanager
def forgetful_broker(wanted: Wanted) -> Iterator[KafkaSettings]:
    """Run a local broker; flows that are still to be learned, and are read again, are forgotten first."""
    if wanted.rereads and not versions(wanted.models / MODEL):
        for file in capture_files(wanted.capture):
            file.path.unlink()
    with local_broker(log=wanted.folder / "broker.log") as kafka:
        yield kafka


class Quickstart:
    """One run over a source, in a folder that a later run goes on from.

    Parameters
    ----------
    wanted : Wanted
        What to do.
    settings : Settings
        As the children load them.
    stop : Event
        Ends it.
    """

    def __init__(self, wanted: Wanted, settings: Settings, stop: threading.Event) -> None:
        self._wanted, self._settings, self._stop = wanted, settings, stop
        self._console = Console(highlight=False)

    def run(self) -> None:
        """Return when told to stop.

        Raises
        ------
        PipelineError
            If a part of it fails for good; with its last words.
        """
        with TopicAdmin(self._settings.kafka) as admin:
            admin.create(topic_specs(self._settings))
        with self._children() as supervisor, self._alerts():
            if not versions(self._wanted.models / MODEL):
                self._collect(supervisor)
                self._train()
            if not self._stop.is_set():
                self._say(
                    f"watching: alerts come here as they are published (model in {self._wanted.models})"
                )
            self._until(supervisor, lambda: False)

    def _say(self, text: str) -> None:
        self._console.print(text, style="bold", markup=False, soft_wrap=True)

    @contextmanager
    def _children(self) -> Iterator[Supervisor]:
        """Keep ingest and workers running until the block ends."""
        self._say(f"reading {self._wanted.source}; logs in {self._wanted.folder}")
        options, chosen = self._wanted.options, stages(self._settings)
        ingest = [*WEIR, "ingest", self._wanted.source, *self._wanted.ingest, *options]
        workers = worker_children(chosen, "latest", options, [free_port() for _ in chosen])
        log = self._wanted.folder / "workers.log"
        supervisor = Supervisor([Child("ingest", ingest), *workers], log=log)
        thread = threading.Thread(target=supervisor.run, name="children", daemon=True)
        thread.start()
        try:
            yield supervisor
        finally:
            supervisor.stop_soon()
            thread.join()

    @contextmanager
    def _alerts(self) -> Iterator[None]:
        """Print alerts as they come until the block ends."""
        done = threading.Event()
        thread = threading.Thread(target=self._follow, args=(done,), name="alerts", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _follow(self, done: threading.Event) -> None:
        with AlertsSubscriber(self._settings.kafka, Topics(self._settings.topics.prefix)) as subscriber:
            for received in subscriber.follow("latest", stop=done):
                self._console.print(render_alert(received.alert), soft_wrap=True)

    def _until(self, supervisor: Supervisor, done: Callable[[], bool]) -> None:
        """Wait until `done` or told to stop; fail as soon as a child has given up."""
        while not (done() or self._stop.wait(LOOK_S)):
            if supervisor.ended is not None:
                log = (self._wanted.folder / "workers.log").read_text(errors="replace")
                words = "\n".join(log.splitlines()[-LAST_LINES:])
                raise PipelineError(f"a part has ended for good; its last words:\n{words}")

    def _collect(self, supervisor: Supervisor) -> None:
        """Wait for enough flows, or enough time, and keep what there is: also when told to stop."""
        before = captured_rows(self._wanted.capture, beside=self._features)
        try:
            with KafkaReader(self._settings.kafka) as reader, self._console.status("collecting") as status:
                progress = _Progress(self._wanted, self._console, status.update)
                counted = counter(reader, self._settings)
                self._until(supervisor, lambda: progress.enough(before + counted.update(), counted.span_s))
        finally:
            self._called(
                "keeping the flows", "capture", "--out", str(self._wanted.capture), *self._wanted.options
            )

    @property
    def _features(self) -> str:
        return Topics(self._settings.topics.prefix).features(self._settings.features.feature_set)

    def _called(self, what: str, *command: str) -> None:
        """Run a command of ours to its end; what it prints is ours, and Ctrl-C is not for it."""
        if subprocess.run(tied([*WEIR, *command]), check=False, start_new_session=True).returncode:
            raise PipelineError(f"{what} failed, its message is above; the same command goes on from there")

    def _train(self) -> None:
        """Train as `weir train --from` does, by calling it; nothing if told to stop."""
        if self._stop.is_set():
            return
        self._say(f"training on {captured_rows(self._wanted.capture):,} flows that nobody labelled")
        where = ["--from", str(self._wanted.capture), "--out", str(self._wanted.models), "--name", MODEL]
        feature_set = self._settings.features.feature_set
        self._called("training", "train", feature_set, *where, *self._wanted.train)


class _Progress:
    """Says how far collecting has come, and when there is enough."""

    def __init__(self, wanted: Wanted, console: Console, update: Callable[[str], None]) -> None:
        self._wanted, self._console, self._update = wanted, console, update
        self._began = self._said = time.monotonic()
        self._first: int | None = None

    def enough(self, n_flows: int, span_s: float) -> bool:
        """Take in how many flows there are, of how much time, and return whether they are enough."""
        now = time.monotonic()
        first = self._first = n_flows if self._first is None else self._first
        passed = now - self._began
        text = f"collecting: {n_flows:,} of {self._wanted.flows:,} flows"
        text += _left(self._wanted, n_flows, n_flows - first, passed, span_s)
        self._update(text)
        if not self._console.is_terminal and (now - self._said > SAY_EVERY_S or now - self._began < LOOK_S):
            self._console.print(text)
            self._said = now
        is_over = n_flows >= self._wanted.flows or passed >= self._wanted.seconds
        return is_over and n_flows >= LEAST_FLOWS and span_s >= LEAST_SPAN_S


def _left(wanted: Wanted, n_flows: int, n_new: int, passed_s: float, span_s: float) -> str:
    """Return how long it will take, by the rate so far."""
    if passed_s >= wanted.seconds and n_flows < LEAST_FLOWS:
        return f"; the time is over, but {LEAST_FLOWS:,} are needed"
    if n_flows >= wanted.flows and span_s < LEAST_SPAN_S:
        return f" of {duration(span_s)}; those of {duration(LEAST_SPAN_S)} are needed"
    left_s = max(0.0, wanted.seconds - passed_s)
    if n_new > 0 and passed_s > 0:
        left_s = min(left_s, max(0, wanted.flows - n_flows) * passed_s / n_new)
    return f", about {duration(left_s)} left"


def overrides(folder: Path, flows: int, kafka: KafkaSettings | None, prefix: str | None) -> dict[str, str]:
    """Return the settings that a quickstart decides, for its children; `kafka` is a broker of its own."""
    decided = {
        "panel.models": MODEL,
        "panel.models_dir": str(folder / "models"),
        "panel.collect_flows": str(flows),
        "worker.state_dir": str(folder / "state"),
    }
    own = {} if kafka is None else {"kafka.bootstrap_servers": kafka.servers, "topics.prefix": prefix or ""}
    return decided | own


def as_options(decided: dict[str, str]) -> Sequence[str]:
    """Return settings as options of a command."""
    return [part for path, value in decided.items() for part in ("--set", f"{path}={value}")]
