"""One worker process: a Faust app with one agent, its metrics, its watchdog."""

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import faust
import structlog
from faust.transport.drivers.aiokafka import Producer
from faust.types import TP, StreamT
from mode.utils.queues import ThrowableQueue

from connectors.kafka_reader import KafkaReader, Message
from connectors.publish import publish
from connectors.topics import TopicAdmin
from pipeline.agents import trial
from pipeline.agents.attempts import Attempts
from pipeline.agents.carrier import Carrier
from pipeline.agents.collecting import wait_for_models
from pipeline.agents.lane import Out, Role
from pipeline.agents.memory import keep_freed_memory
from pipeline.agents.meter import Meter
from pipeline.agents.roles import Begin, build_role
from pipeline.agents.security import broker_credentials
from pipeline.agents.watchdog import Lags, Watchdog
from pipeline.errors import PipelineError
from pipeline.exit_codes import AGAIN, DONE
from pipeline.health import HealthServer
from pipeline.metrics import Metrics
from pipeline.settings import Settings
from pipeline.topic_plan import conflicts, hours, too_short

log = structlog.get_logger()

MESSAGE_MAX_BYTES = 8 * 1024 * 1024
"""What the topics allow in one message."""


PRODUCER_BATCH_BYTES = 1024 * 1024
"""Many alerts to a request. With the usual 16 kB each batch held three, and all other sends of the
message woke up after each batch to find no room: 4.6 ms CPU an alert."""


MARKERS = 10
"""A lag so small may be of offsets without messages; the watchdog then looks whether there is one."""


@dataclass(slots=True)
class Assignment:
    """Which lanes this process works on, as the group last said."""

    partitions: frozenset[int] = frozenset()
    joined: bool = False
    metrics: Metrics = field(default_factory=Metrics)

    def set(self, partitions: frozenset[int]) -> None:
        """Take over a new assignment."""
        self.partitions = partitions
        self.joined = True
        self.metrics.partitions_assigned.set(len(partitions))


def run_worker(stage: str, settings: Settings, *, begin: Begin = "latest") -> None:
    """Run one stage until SIGTERM or SIGINT; does not return.

    Raises
    ------
    PipelineError, ConnectorError
        Before anything is consumed: missing topics or models, an unreachable broker, a used port.
    """
    if problems := conflicts(settings):
        raise PipelineError("; ".join(problems))
    if stage == "detect" and not wait_for_models(settings):
        raise SystemExit(DONE)  # told to stop
    keep_freed_memory()
    role = build_role(stage, settings, begin=begin)
    _require_topics(role, settings)
    reader = KafkaReader(settings.kafka)
    worker = _Worker(role, reader, settings)
    _write_first_marks(role, reader, settings)
    worker.run()


def _require_topics(role: Role, settings: Settings) -> None:
    """Refuse to start where a topic is missing or the partition counts differ."""
    with TopicAdmin(settings.kafka) as admin:
        present = admin.partitions([role.flows, *role.topics_used])
        kept = admin.retention_ms(sorted(present))
    missing = sorted(set(role.topics_used) - set(present))
    if missing:
        raise PipelineError(f"missing topics {', '.join(missing)}; create them with: weir topics create")
    lanes = {topic: count for topic, count in present.items() if topic in role.lane_topics}
    if len(set(lanes.values())) > 1:
        raise PipelineError(
            f"topics of one prefix need the same number of partitions, found {lanes}; delete and create them"
        )
    for journal in role.journals:
        if advice := too_short(kept, role.flows, journal):
            raise PipelineError(
                f"{journal} keeps {hours(kept[journal])}, shorter than {role.flows} with "
                f"{hours(kept[role.flows])}: a restarted worker could not go on where it was; {advice}"
            )


def _write_first_marks(role: Role, reader: KafkaReader, settings: Settings) -> None:
    marks = role.first_marks(reader)
    if marks:
        publish(settings.kafka, [(out.topic, out.partition, out.value, out.headers) for out in marks])
        log.info("panel_begins", group=role.group, lanes=len(marks))


class _Worker:
    """The parts of a worker process, wired."""

    def __init__(self, role: Role, reader: KafkaReader, settings: Settings) -> None:
        self._role = role
        self._settings = settings
        self._metrics = Metrics()
        self._assignment = Assignment(metrics=self._metrics)
        self._metrics.set_models(role.models)
        if role.watched:
            self._metrics.watch.set_panel(role.watched)
        self._carrier = Carrier(
            role,
            reader,
            self._send,
            Attempts(settings.worker.state_dir / role.group, limit=settings.worker.poison_attempts),
            Meter(role.name, self._metrics),
            lambda message: trial.survives(role.name, settings, message),
        )
        self._app = _faust_app(role, settings, self._carrier.settled)
        self._look_reader = KafkaReader(settings.kafka)  # the watchdog's own: it runs in another thread
        self._watchdog = Watchdog(settings.worker.watchdog_s, self._look, exit_code=AGAIN)
        self._wire()

    def run(self) -> None:
        worker = self._settings.worker
        if worker.port is not None:
            health = HealthServer(
                worker.host, worker.port, self._metrics.registry, lambda: None, self._missing
            ).start()
            log.info("health_listening", port=health.port)
        self._watchdog.start()
        log.info("worker_started", stage=self._role.name, group=self._role.group, pid=os.getpid())
        runner = faust.Worker(
            self._app, quiet=True, override_logging=False, redirect_stdouts=False, loglevel="WARN"
        )
        runner.spinner = None  # it writes control characters even where there is no terminal
        runner.execute_from_commandline()

    def _wire(self) -> None:
        app = self._app
        topic = app.topic(
            self._role.input_topic,
            key_type=bytes,
            value_type=bytes,
            key_serializer="raw",
            value_serializer="raw",
        )
        carrier, assignment = self._carrier, self._assignment

        @app.agent(topic, name=self._role.name, concurrency=1)
        async def carry(stream: StreamT[bytes]) -> None:
            # Plain iteration, never take() or noack(): both commit past a batch whose body raised.
            async for event in stream.events():
                await carrier.carry(_message(event))

        @app.on_partitions_revoked.connect(weak=False)
        async def revoked(_app: object, revoked: set[TP], **_: object) -> None:  # noqa: ARG001 Faust's name
            carrier.forget()

        @app.on_partitions_assigned.connect(weak=False)
        async def assigned(_app: object, assigned: set[TP], **_: object) -> None:
            mine = frozenset(tp.partition for tp in assigned if tp.topic == self._role.input_topic)
            assignment.set(mine)
            log.info("lanes_assigned", stage=self._role.name, lanes=sorted(mine))

    async def _send(self, out: Out) -> Awaitable[object]:
        """Hand a message to the producer; what this returns is done when all replicas have it."""
        return await self._app.producer.send(out.topic, out.key, out.value, out.partition, None, out.headers)

    def _look(self) -> tuple[int, Lags, frozenset[int]]:
        topic = self._role.input_topic
        spans = self._look_reader.offsets(topic)
        committed = self._look_reader.committed(self._role.group, topic)
        # What has left the log is no work: a lane that is empty for it has no lag.
        starts = {p: max(begin, committed.get(p, 0)) for p, (begin, _) in spans.items()}
        lags = {p: self._work_left(p, starts[p], end) for p, (_, end) in spans.items()}
        self._metrics.set_lag({(topic, p): lags[p] for p in self._assignment.partitions if p in lags})
        return self._carrier.beats, lags, self._assignment.partitions

    def _work_left(self, partition: int, start: int, end: int) -> int:
        """Return the offsets from `start` on, 0 if no message stands there: a transaction's last marker."""
        if not 0 < end - start <= MARKERS:
            return end - start
        ahead = self._look_reader.read_range(self._role.input_topic, partition, start, end)
        return end - start if next(ahead, None) is not None else 0

    def _missing(self) -> list[str]:
        return [] if self._assignment.joined else [f"group {self._role.group} has assigned no lanes yet"]


class _Buffer(ThrowableQueue[Any]):
    """Holds messages until the agent takes them; when it is full, whoever brings one waits.

    Faust's own buffer has the lanes paused at four fifths of its size, and while all lanes of a
    worker are paused its fetcher sleeps for a second: two thirds of the time in a worker of one lane.
    """

    pressure_high_ratio = 0.5  # of the size divided by this lanes are paused: never


class _Producer(Producer):
    """Faust flushes its producer before each commit, but does not ask what became of the messages."""

    settled: Callable[[], Awaitable[None]]

    async def flush(self) -> None:
        await self.settled()
        await super().flush()


class _App(faust.App):
    """Faust with our buffer, and with commits that wait until all is durable.

    Parameters
    ----------
    settled : callable
        Returns when everything handed to the producer is durable; raises if that failed.
    """

    def __init__(self, *args: Any, settled: Callable[[], Awaitable[None]], **options: Any) -> None:
        super().__init__(*args, **options)
        self._settled = settled

    def _new_producer(self) -> _Producer:
        producer = _Producer(self.transport, loop=self.loop, beacon=self.beacon)
        producer.settled = self._settled
        return producer

    def FlowControlQueue(  # noqa: N802 Faust's name
        self, maxsize: int | None = None, *, clear_on_resume: bool = False
    ) -> _Buffer:
        return _Buffer(
            maxsize=maxsize or self.conf.stream_buffer_maxsize,
            flow_control=self.flow_control,
            clear_on_resume=clear_on_resume,
        )


def _faust_app(role: Role, settings: Settings, settled: Callable[[], Awaitable[None]]) -> faust.App:
    """Return the app; every setting that differs from the default has its reason in ARCHITECTURE.md."""
    worker = settings.worker
    bootstrap = settings.kafka.bootstrap_servers
    return _App(
        role.group,
        settled=settled,
        broker=[f"kafka://{server}" for server in bootstrap],
        broker_credentials=broker_credentials(settings.kafka),
        broker_session_timeout=worker.session_timeout_s,
        broker_heartbeat_interval=worker.session_timeout_s / 3,
        broker_commit_interval=worker.commit_interval_s,
        broker_max_poll_records=worker.stream_buffer,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=max(worker.fetch_max_bytes, MESSAGE_MAX_BYTES),
        stream_buffer_maxsize=worker.stream_buffer,
        stream_wait_empty=True,
        processing_guarantee="at_least_once",
        producer_acks=-1,
        producer_linger=0,
        producer_max_batch_size=PRODUCER_BATCH_BYTES,
        producer_max_request_size=MESSAGE_MAX_BYTES,
        producer_compression_type=None,
        store="memory://",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        table_standby_replicas=0,
        datadir=str(worker.state_dir / role.group / "faust"),
    )


def _message(event: faust.EventT[bytes]) -> Message:
    message = event.message
    headers = message.headers
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return Message(
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        timestamp_ms=int((message.timestamp or 0) * 1000),
        key=None,
        value=event.value,
        headers=tuple(pairs),
    )
