"""A detect worker whose models do not exist yet: it lives, says how far collecting has come, and waits."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import structlog

from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.topics import Topics
from connectors.wire import FlowsHeaders, decode
from pipeline.bundle_files import MANIFEST, versions
from pipeline.errors import JournalError
from pipeline.health import HealthServer
from pipeline.messages import FeaturesHeaders
from pipeline.metrics import Metrics
from pipeline.settings import Settings
from pipeline.settings_sections import PanelSettings

log = structlog.get_logger()

LOOK_S = 1.0
"""How often models are looked for."""


def missing_models(panel: PanelSettings) -> list[str]:
    """Return the models of a panel that are in no folder yet."""
    return [model for model in (*panel.models, *panel.shadow) if not _is_there(model, panel.models_dir)]


def _is_there(model: str, models_dir: Path) -> bool:
    folders = (Path(model), models_dir / model)
    return any((folder / MANIFEST).is_file() for folder in folders) or bool(versions(models_dir / model))


class Log(Protocol):
    """What is needed of a `KafkaReader`."""

    def offsets(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return the span of each partition."""
        ...

    def read_range(self, topic: str, partition: int, start: int, stop: int) -> Iterator[Message]:
        """Yield the messages of a span."""
        ...


Seen = Callable[[Message], tuple[int, int]]
"""Rows of a message, and the lane clock after them in microseconds."""


class Counter:
    """Counts the flows that a topic holds, each message once, and the time that they take."""

    def __init__(self, reader: Log, topic: str, seen: Seen) -> None:
        self._reader, self._topic, self._seen = reader, topic, seen
        self._next: dict[int, int] = {}
        self._times: dict[int, tuple[int, int]] = {}  # of each lane: its first event time, its clock
        self.n = 0

    @property
    def span_s(self) -> float:
        """Time from the first flow of a lane to its clock, of the lane that has seen most of it."""
        return max((clock - first for first, clock in self._times.values()), default=0) / 1e6

    def update(self) -> int:
        """Count what is new and return the flows so far."""
        for partition, (begin, end) in self._reader.offsets(self._topic).items():
            start = max(begin, self._next.get(partition, begin))
            for message in self._reader.read_range(self._topic, partition, start, end):
                with suppress(JournalError, RecordError):  # a message of somebody else
                    self._add(message, *self._seen(message))
            self._next[partition] = max(start, end)
        return self.n

    def _add(self, message: Message, rows: int, clock_us: int) -> None:
        self.n += rows
        if rows:
            first = self._times.get(message.partition) or (_first_time(message), 0)
            self._times[message.partition] = first[0], clock_us


def _first_time(message: Message) -> int:
    return int(decode(message.value).column("event_time")[0].value)


def counter(reader: Log, settings: Settings) -> Counter:
    """Return the counter of what models of an installation can learn from."""
    topics = Topics(settings.topics.prefix)
    if settings.features.inline:
        return Counter(reader, topics.flows, _of_flows)
    return Counter(reader, topics.features(settings.features.feature_set), _of_features)


def _of_flows(message: Message) -> tuple[int, int]:
    headers = FlowsHeaders.from_kafka(message.headers)
    return headers.rows, headers.clock_us


def _of_features(message: Message) -> tuple[int, int]:
    headers = FeaturesHeaders.from_kafka(message.headers)
    return headers.rows, headers.clock_end_us


def wait_for_models(settings: Settings) -> bool:
    """Return when every model of the panel is there, False if told to stop before.

    Meanwhile /live says yes and /ready no, with "collecting: n of N flows"; nothing is consumed.

    Raises
    ------
    ConnectorError, PipelineError
        If the broker is away, the topic is missing, or the port is used.
    """
    panel = settings.panel
    if panel.collect_flows is None or not (missing := missing_models(panel)):
        return True
    log.info("collecting", panel=panel.name, missing=missing, flows=panel.collect_flows)
    with _stopped() as stop, KafkaReader(settings.kafka) as reader:
        found = waited(settings, counter(reader, settings), stop)
    log.info("collected" if found else "stopped", panel=panel.name)
    return found


def waited(settings: Settings, counted: Counter, stop: threading.Event) -> bool:
    """Answer on the health port until the models are there or `stop` is set; return whether they are."""
    panel, worker = settings.panel, settings.worker
    counted.update()

    def missing() -> list[str]:
        return [f"collecting: {counted.n:,} of {panel.collect_flows:,} flows"]

    with _health(worker.host, worker.port, missing):
        while missing_models(panel):
            if stop.wait(LOOK_S):
                return False
            counted.update()
    return True


@contextmanager
def _health(host: str, port: int | None, missing: Callable[[], list[str]]) -> Iterator[None]:
    if port is None:
        yield
        return
    with HealthServer(host, port, Metrics().registry, lambda: None, missing):
        yield


@contextmanager
def _stopped() -> Iterator[threading.Event]:
    """Yield an event that SIGTERM or Ctrl-C sets, until the block ends."""
    stop = threading.Event()
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
