"""Figures of real workers over an exact span of messages: from the end of one to the end of another."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from kafka import TopicPartition
from rig import WAIT_S, Running

from connectors.kafka_client import admin, consumer
from connectors.kafka_reader import KafkaReader, Message
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, Topics
from pipeline.messages import DetectionsHeaders
from pipeline.settings import Settings
from pipeline.topic_plan import topic_specs

POLL_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """What one process did of a span."""

    rows: int
    cpu_s: float
    wall_s: float
    peak_mb: float = 0.0

    @property
    def per_s(self) -> float:
        """Flows a second."""
        return self.rows / self.wall_s

    @property
    def per_cpu_s(self) -> float:
        """Flows a CPU-second."""
        return self.rows / self.cpu_s


@dataclass(slots=True, kw_only=True)
class Watched:
    """A worker, the topic that it answers into, and how far it had come when its span began."""

    running: Running
    topic: str
    base: int = 0  # messages there that answer nothing
    began: int | None = None
    began_cpu_s: float = 0.0
    cpu_s: float = field(default=0.0, init=False)
    ended: int = field(default=0, init=False)

    def look(self, count: int, skip: int, target: int) -> bool:
        """Note where the span begins and ends; return whether it has ended."""
        self.running.check()
        count -= self.base
        if self.began is None and count >= skip:
            self.began, self.began_cpu_s = count, self.running.spent_s
        if not self.ended and count >= target:
            self.ended, self.cpu_s = target, self.running.spent_s - self.began_cpu_s
        return bool(self.ended)


class Log:
    """The topics of one installation with one lane, seen from outside; close it after use."""

    def __init__(self, settings: Settings, rows: int) -> None:
        self.settings = settings
        self.rows = rows  # of each flows message
        topics = Topics(settings.topics.prefix)
        self.flows = topics.flows
        self.features = topics.features(settings.features.feature_set)
        self.detections = topics.detections(settings.panel.name)
        self._consumer: Any = consumer(settings.kafka)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close(timeout_ms=1000)

    def count(self, topic: str) -> int:
        """Return how many messages a topic holds, without fetching any."""
        tp = TopicPartition(topic, 0)
        return int(self._consumer.end_offsets([tp])[tp])

    def begun(self) -> int:
        """Return how many messages the panel's topic begins with that answer no flows message."""
        with KafkaReader(self.settings.kafka) as reader:
            first = list(reader.read_range(self.detections, 0, 0, 1))
        return sum(_headers(message).begins for message in first)

    def flagged(self) -> float:
        """Return the share of judged flows that the panel has flagged."""
        with KafkaReader(self.settings.kafka) as reader:
            stop = self.count(self.detections)
            messages = reader.read_range(self.detections, 0, 0, stop)
            counts = [(h.flagged, h.rows) for h in map(_headers, messages)]
        return sum(flagged for flagged, _ in counts) / max(1, sum(rows for _, rows in counts))

    def written_s(self, topic: str, offset: int) -> float:
        """Return when a message was written, seconds."""
        with KafkaReader(self.settings.kafka) as reader:
            message = next(reader.read_range(topic, 0, offset, offset + 1))
        return message.timestamp_ms / 1000

    def run(self, watched: Sequence[Watched], *, skip: int, target: int) -> list[Leg]:
        """Wait until every worker has answered message `target`; return what each did since `skip`.

        CPU is looked up a few milliseconds after a message is there, so a span should last seconds;
        the wall time is that between the two messages.
        """
        deadline = time.monotonic() + WAIT_S
        while True:
            ended = [each.look(self.count(each.topic), skip, target) for each in watched]
            if all(ended):
                return [self._leg(each, skip, target) for each in watched]
            if time.monotonic() > deadline:
                found = {each.topic: self.count(each.topic) for each in watched}
                raise TimeoutError(f"messages there are {found}, expected {target} each")
            time.sleep(POLL_S)

    def _leg(self, each: Watched, skip: int, target: int) -> Leg:
        began = each.began or 0
        # CPU and wall each over their own span: the first look may come some messages after `skip`.
        cpu_s = each.cpu_s * (target - skip) / (target - began)
        first, last = (self.written_s(each.topic, each.base + at - 1) for at in (max(skip, 1), target))
        return Leg(
            rows=(target - skip) * self.rows,
            cpu_s=cpu_s,
            wall_s=(last - first) * (target - skip) / (target - max(skip, 1)),
            peak_mb=each.running.peak_mb,
        )

    def watch(self, stage: str, running: Running) -> Watched:
        """Return a worker to `run` with; it is ready and has its first messages at most."""
        running.wait_ready()
        if stage == "features":
            return Watched(running=running, topic=self.features)
        return Watched(running=running, topic=self.detections, base=self.begun())

    def clear(self) -> None:
        """Forget all that workers have made of the flows: topics, groups, state."""
        outputs = [spec for spec in topic_specs(self.settings) if spec.name != self.flows]
        with TopicAdmin(self.settings.kafka) as topics:
            topics.delete([self.features, *(spec.name for spec in outputs)])
            topics.create(outputs)
        _delete_groups(self.settings.kafka, self.settings.topics.prefix)
        shutil.rmtree(self.settings.worker.state_dir, ignore_errors=True)

    def delete(self) -> None:
        """Free the disk: everything of this prefix goes."""
        self.clear()
        with TopicAdmin(self.settings.kafka) as topics:
            topics.delete([spec.name for spec in topic_specs(self.settings)])


def _headers(message: Message) -> DetectionsHeaders:
    return DetectionsHeaders.from_kafka(message.headers)


def _delete_groups(kafka: KafkaSettings, prefix: str) -> None:
    client = admin(kafka)
    try:
        names = [str(group["group_id"]) for group in client.list_groups()]
        if mine := [name for name in names if name.startswith(f"{prefix}-")]:
            client.delete_groups(mine)
    finally:
        client.close()
