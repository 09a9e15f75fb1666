"""The demonstration: a site, its models, its stream, and what became of every flow."""

import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from connectors.alerts_subscriber import AlertsSubscriber
from connectors.broker_local import free_port, local_broker
from connectors.kafka_settings import KafkaSettings
from connectors.source_synthetic import START, PlacedAttack, SyntheticSource
from connectors.topics import TopicAdmin, Topics
from pipeline.account import Account, Accountant
from pipeline.cli.alerts import render_alert
from pipeline.errors import PipelineError
from pipeline.feed import Sent, feed
from pipeline.quantities import quantity
from pipeline.settings import Settings, load_settings
from pipeline.supervisor import WEIR, Supervisor, worker_children
from pipeline.topic_plan import stages, topic_specs

TRAINING_DAYS = 3
FIT_ROWS = 50_000
"""Enough to learn the site; the demonstration has two minutes in all."""

PIPE_WIDTH = 120

READY_S = 60.0
DRAIN_S = 120.0
"""Longest waits for the workers to take up work, and for the last verdict."""


@dataclass(slots=True)
class Seen:
    """What the subscriber has received."""

    n_alerts: int = 0
    n_summaries: int = 0
    stop: threading.Event = field(default_factory=threading.Event)


class Demo:
    """One demonstration in a folder of its own.

    Parameters
    ----------
    folder : Path
        For models, state and logs.
    seed : int
        Site and days.
    scale : float
        Factor on the normal traffic.
    alpha : float
        False-alarm rate per flow.
    n_alerts : int
        Alerts shown in full.
    """

    def __init__(self, folder: Path, *, seed: int, scale: float, alpha: float, n_alerts: int) -> None:
        self._folder = folder
        self._seed, self._scale, self._alpha = seed, scale, alpha
        self._n_alerts = n_alerts
        console = Console(highlight=False)
        # A pipe has no width of its own: leave the table room for addresses.
        self._console = console if console.is_terminal else Console(highlight=False, width=PIPE_WIDTH)
        # The day after training's last is its test day; the one after that no one has seen.
        self._day = SyntheticSource(seed=seed, scale=scale, start=START + timedelta(days=TRAINING_DAYS + 1))

    def run(self) -> bool:
        """Run it all; return whether every flow is accounted for."""
        self._train()
        with local_broker(log=self._folder / "broker.log") as kafka:
            settings = self._settings(kafka)
            with TopicAdmin(kafka) as admin:
                admin.create(topic_specs(settings))
            with self._workers(settings), self._alerts(settings) as seen:
                self._say("Replaying a day with attacks (labels stay here: no model sees them)")
                started = time.monotonic()
                sent = feed(settings, self._day)
                account = self._drained(settings, sent)
                seconds = time.monotonic() - started
                time.sleep(1.0)  # the last summaries are on their way
        return self._sum_up(account, sent, seen, seconds)

    def _say(self, text: str) -> None:
        self._console.rule(f"[bold]{text}", align="left")

    def _train(self) -> None:
        """Train as `weir train` does: by calling it."""
        self._say(f"Training BEAA on {TRAINING_DAYS} days of normal traffic of a small site")
        options = {
            "--detector": "beaa",
            "--name": "demo",
            "--out": str(self._folder / "models"),
            "--seed": str(self._seed),
            "--site": str(self._seed),
            "--days": str(TRAINING_DAYS),
            "--scale": str(self._scale),
            "--max-rows": str(FIT_ROWS),
        }
        command = [
            *WEIR,
            "train",
            "synthetic",
            "--no-baselines",
            *(part for pair in options.items() for part in pair),
        ]
        if subprocess.run(command, check=False).returncode:
            raise PipelineError("training failed; its message is above")

    def _settings(self, kafka: KafkaSettings) -> Settings:
        overrides = {
            "kafka.bootstrap_servers": kafka.servers,
            "topics.lanes": 2,
            "features.feature_set": "conn",
            "panel.models": "demo",
            "panel.models_dir": str(self._folder / "models"),
            "panel.alpha": self._alpha,
            "worker.state_dir": str(self._folder / "state"),
            "worker.port": 0,
            "worker.session_timeout_s": 6,
            "logging.level": "warning",
        }
        return load_settings(overrides=overrides, env={})

    @contextmanager
    def _workers(self, settings: Settings) -> Iterator[None]:
        """Run one process a stage until the block ends."""
        self._say("Starting the features, detect and alerts workers")
        config = self._folder / "weir.yaml"
        config.write_text(settings.model_dump_json(exclude_defaults=True))  # JSON is YAML
        chosen = stages(settings)
        ports = [free_port() for _ in chosen]
        children = worker_children(chosen, "earliest", ["--config", str(config)], ports)
        supervisor = Supervisor(children, log=self._folder / "workers.log")
        thread = threading.Thread(target=supervisor.run, name="workers", daemon=True)
        thread.start()
        try:
            self._wait_ready(ports, supervisor)
            yield
        finally:
            supervisor.stop_soon()
            thread.join()

    def _wait_ready(self, ports: list[int], supervisor: Supervisor) -> None:
        """Wait until each worker says that it has its lanes."""
        deadline = time.monotonic() + READY_S
        with self._console.status("waiting for Kafka to share out the lanes"):
            while not all(_is_ready(port) for port in ports):
                if time.monotonic() > deadline or supervisor.ended is not None:
                    tail = (self._folder / "workers.log").read_text()[-2000:]
                    raise PipelineError(f"the workers did not start; their log ends with:\n{tail}")
                time.sleep(0.2)

    @contextmanager
    def _alerts(self, settings: Settings) -> Iterator[Seen]:
        """Print alerts as they come until the block ends."""
        seen = Seen()
        thread = threading.Thread(target=self._follow, args=(settings, seen), name="alerts", daemon=True)
        thread.start()
        try:
            yield seen
        finally:
            seen.stop.set()
            thread.join()

    def _follow(self, settings: Settings, seen: Seen) -> None:
        with AlertsSubscriber(settings.kafka, Topics(settings.topics.prefix)) as subscriber:
            for received in subscriber.follow("beginning", stop=seen.stop):
                seen.n_alerts += 1
                seen.n_summaries += "summary" in received.alert.get("tags", ())
                if seen.n_alerts <= self._n_alerts:
                    self._console.print(self._shown(received.alert), soft_wrap=True)
                elif seen.n_alerts == self._n_alerts + 1:
                    self._console.print("... later alerts are counted, not shown (--alerts N)", style="dim")

    def _shown(self, alert: dict[str, Any]) -> Text:
        """Return an alert in full, or its first line where it is one more of the same group."""
        text = render_alert(alert)
        number = alert["weir"].get("group", {}).get("number", 1)
        return text if number == 1 else text.split("\n")[0]

    def _drained(self, settings: Settings, sent: Sent) -> Account:
        """Wait until every flow has its verdict or its dead letter."""
        deadline = time.monotonic() + DRAIN_S
        expected = sent.summary.n_sent + sent.summary.n_rejected
        with Accountant(settings) as accountant:
            while accountant.update().n_accounted < expected and time.monotonic() < deadline:
                time.sleep(0.2)
            return accountant.account

    def _sum_up(self, account: Account, sent: Sent, seen: Seen, seconds: float) -> bool:
        n_sent = sent.summary.n_sent + sent.summary.n_rejected
        complete = account.n_accounted == n_sent
        self._say("What became of the day")
        mark = "[bold green]complete[/]" if complete else "[bold red]INCOMPLETE[/]"
        self._console.print(
            f"flows sent {n_sent:,} = scored {account.n_scored:,} + dead letters {account.n_dead:,}  {mark}"
        )
        self._console.print(
            f"{n_sent / seconds:,.0f} flows/s from the first byte sent to the last verdict ({seconds:.1f} s)"
        )
        self._console.print(
            f"alerts {seen.n_alerts:,}, {seen.n_summaries:,} of them summaries, for "
            f"{len(account.flagged):,} flagged flows"
        )
        labels = self._labels()
        self._attacks(account, labels)
        self._false_alarms(account, labels)
        return complete

    def _labels(self) -> dict[str, str]:
        """Return the labels of all flows, from the source: the stream does not carry them on."""
        labels: dict[str, str] = {}
        for chunk in self._day.chunks():
            ids, found = chunk.rows.column("flow_id"), chunk.rows.column("label")
            labels.update(zip(ids.to_pylist(), found.to_pylist(), strict=True))
        return labels

    def _attacks(self, account: Account, labels: dict[str, str]) -> None:
        table = Table("attack", "", "from", "source", "target", "flows", "flagged", "first alarm after")
        for attack in self._day.attacks():
            flagged = [us for flow, us in account.flagged.items() if labels[flow] == attack.kind]
            verdict = "[green]found" if flagged else "[red]missed"
            delay = min(flagged) / 1e6 - attack.start.timestamp() if flagged else None
            table.add_row(attack.kind, verdict, *_where(attack), f"{len(flagged):,}", _delay(delay))
        self._console.print(table)

    def _false_alarms(self, account: Account, labels: dict[str, str]) -> None:
        n_normal = sum(label == "normal" for label in labels.values())
        n_false = sum(labels[flow] == "normal" for flow in account.flagged)
        self._console.print(
            f"false alarms: stated {self._alpha:.2g} a flow (about {self._alpha * n_normal:.0f} of "
            f"{n_normal:,} normal flows), observed {n_false / max(n_normal, 1):.2g} ({n_false:,})"
        )


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=1) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except OSError:
        return False


def _where(attack: PlacedAttack) -> tuple[str, str, str, str]:
    return f"{attack.start:%H:%M:%S}", attack.source, attack.target, f"{attack.n_flows:,}"


def _delay(seconds: float | None) -> str:
    return "" if seconds is None else quantity(max(0.0, seconds), "s", "numeric")
