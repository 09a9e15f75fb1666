"""A stream of real worker processes on a real broker, for tests."""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from accounts import Accounts, Books

from connectors.base import Source
from connectors.child import Child
from connectors.kafka_settings import KafkaSettings
from connectors.publish import publish
from connectors.topics import TopicAdmin, Topics
from connectors.wire import Headers
from pipeline.feed import feed
from pipeline.settings import load_settings
from pipeline.topic_plan import topic_specs

ROOT = Path(__file__).parents[2]
STAGES = ("features", "detect", "alerts")
_NUMBERS = itertools.count()

# Tansu answers a JoinGroup after half the session timeout.
_WORKER = {"port": None, "session_timeout_s": 6, "commit_interval_s": 0.5}


class WorkerProcess(Child):
    """A worker of one stage; its log is in a file."""

    def __init__(self, stage: str, command: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        super().__init__(command, log, env)
        self.stage = stage
        self.is_ending = False  # because a test wants it

    @property
    def text(self) -> str:
        """All that it logged."""
        return self.log.read_text(errors="replace")

    def ends(self, within_s: float = 20.0) -> int:
        """Return its exit code as soon as it has ended."""
        deadline = time.monotonic() + within_s
        while (code := self.ended()) is None:
            assert time.monotonic() < deadline, f"{self.stage} lives on: {self.log_tail(20)}"
            time.sleep(0.02)
        return code


class Stream:
    """An installation under a prefix of its own; all its processes end with it.

    Parameters
    ----------
    kafka : KafkaSettings
        The broker.
    folder : Path
        For settings, state and logs.
    sections : mapping
        Settings that differ from the defaults, by section: panel, grouping, writer ...
    """

    def __init__(self, kafka: KafkaSettings, folder: Path, **sections: Mapping[str, Any]) -> None:
        self.kafka = kafka
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.topics = Topics(f"i{os.getpid()}-{next(_NUMBERS)}")
        self.config = folder / "weir.yaml"
        self.sections: dict[str, dict[str, Any]] = {
            "kafka": _connection(kafka),
            "topics": {"prefix": self.topics.prefix, "lanes": 2},
            "worker": {**_WORKER, "state_dir": str(folder / "state")},
        }
        for name, section in sections.items():
            self.sections.setdefault(name, {}).update(section)
        self.config.write_text(yaml.safe_dump(self.sections))
        self.settings = load_settings(self.config, env={})
        self.env: dict[str, str] = {}
        self.workers: list[WorkerProcess] = []
        self.may_die = False  # otherwise a worker that ends by itself fails the test at once
        with TopicAdmin(kafka) as admin:
            admin.create(topic_specs(self.settings))
        self.accounts = Accounts(kafka, self.topics.prefix)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            if worker.ended() is None and worker.stage != "all":  # which has children to end
                worker.send_signal(signal.SIGKILL)
            worker.stop(patience_s=25)
        self.accounts.close()

    def start(self, *stages: str, begin: str = "earliest") -> list[WorkerProcess]:
        """Start one worker of each stage."""
        return [self._start(stage, begin) for stage in stages]

    def _start(self, stage: str, begin: str) -> WorkerProcess:
        command = [sys.executable, "-m", "pipeline.cli.main", "worker", stage]
        command += ["-c", str(self.config), "--from", begin]
        log = self.folder / f"{stage}-{len(self.workers)}.log"
        worker = WorkerProcess(stage, command, log, {"PYTHONPATH": str(ROOT), **self.env})
        self.workers.append(worker)
        return worker

    def send(self, source: Source, limit: int | None = None) -> None:
        """Bring the records of a source into the log; the lanes are flushed."""
        feed(self.settings, source, limit=limit)

    def put(self, value: bytes, headers: Headers, partition: int = 0) -> None:
        """Bring a message of any shape into the log."""
        publish(self.kafka, [(self.topics.flows, partition, value, headers)])

    def wait(self, done: Callable[[], bool], what: str, within_s: float = 60.0) -> None:
        """Return when `done`; fail with the workers' last words if that takes too long."""
        deadline = time.monotonic() + within_s
        while not done():
            told = f"{what}; books {self.accounts.balance}, waiting for {self.accounts.unanswered[:5]}"
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {told}\n{self.last_words()}"
            dead = [w for w in self.workers if w.ended() is not None and not w.is_ending]
            assert self.may_die or not dead, f"a worker died: {told}\n{self.last_words()}"
            time.sleep(0.05)

    def wait_for_verdicts(self, n_rows: int) -> None:
        """Return as soon as `n_rows` flows are scored."""

        def scored() -> bool:
            return sum(self.accounts.look().scored.values()) >= n_rows

        self.wait(scored, f"{n_rows} flows scored")

    def settle(self, within_s: float = 60.0) -> Books:
        """Return the books when every flows message is answered and every alert is out."""

        def settled() -> bool:
            self.accounts.look()
            return not self.accounts.unanswered and not self.accounts.alerts_are_behind

        self.wait(settled, "all flows accounted for", within_s)
        flows, scored, dead = self.accounts.balance
        assert flows == scored + dead, f"{flows} flows, {scored} scored, {dead} dead"
        return self.accounts.look()

    def last_words(self) -> str:
        """Return the end of every worker's log."""
        return "\n".join(f"{w.stage} ({w.ended()}): {w.log_tail(12)}" for w in self.workers)


def _connection(kafka: KafkaSettings) -> dict[str, Any]:
    """Return the connection as a settings file has it, the password in clear."""
    given = kafka.model_dump(mode="json", exclude_defaults=True)
    return given | ({"sasl_password": kafka.password()} if kafka.uses_sasl else {})


def killed(worker: WorkerProcess) -> None:
    """Kill a worker with -9 and wait until it is gone."""
    worker.is_ending = True
    worker.send_signal(signal.SIGKILL)
    assert worker.ends() == -signal.SIGKILL


def stopped(worker: WorkerProcess, number: signal.Signals = signal.SIGTERM) -> int:
    """Ask a worker to end, and return its exit code."""
    worker.is_ending = True
    worker.send_signal(number)
    return worker.ends()
