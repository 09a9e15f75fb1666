"""What a stream's topics say became of every flow, read apart from the workers that wrote them."""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from connectors.kafka_reader import KafkaReader, Message
from connectors.kafka_settings import KafkaSettings

Place = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter."""

    reason: str
    stage: str
    detail: str
    rows: int
    origin: tuple[str, int, int, int | None]  # topic, partition, offset, row
    flow_id: str
    value: bytes


@dataclass(kw_only=True)
class Books:
    """Everything found so far."""

    sent: dict[Place, list[str]] = field(default_factory=dict)  # flow ids of each flows message
    scored: dict[Place, int] = field(default_factory=dict)  # by flows offset
    verdicts: dict[Place, tuple[Any, ...]] = field(default_factory=dict)  # flagged rows by flows offset
    letters: dict[str, Letter] = field(default_factory=dict)
    alerts: dict[str, bytes] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=lambda: defaultdict(int))  # topic kind -> messages


class Accounts:
    """Reads flows, detections, alerts and dead letters as far as they go, again and again.

    Every repeat must be equal to what it repeats, in every byte that a subscriber sees.
    """

    def __init__(self, settings: KafkaSettings, prefix: str, panel: str = "main") -> None:
        self.books = Books()
        self._reader = KafkaReader(settings)
        self._read_to: dict[tuple[str, int], int] = {}
        self.detections = f"{prefix}.detections.{panel}.v1"
        self._alerts_group = f"{prefix}-alerts-{panel}"
        self._readers = {
            f"{prefix}.flows.v1": self._flows,
            self.detections: self._detections,
            f"{prefix}.alerts.v1": self._alert,
            f"{prefix}.dead-letters.v1": self._letter,
        }

    def close(self) -> None:
        self._reader.close()

    def look(self) -> Books:
        """Return the books after reading what has come since the last look."""
        for topic, take in self._readers.items():
            for partition, (_, end) in self._reader.offsets(topic).items():
                start = self._read_to.get((topic, partition), 0)
                for message in self._reader.read_range(topic, partition, start, end):
                    take(message)
                self._read_to[topic, partition] = end
        return self.books

    @property
    def unanswered(self) -> list[Place]:
        """Flows messages that have no detections message yet."""
        return sorted(set(self.books.sent) - set(self.books.scored))

    @property
    def balance(self) -> tuple[int, int, int]:
        """Flows, flows scored, and flows that are dead without a score."""
        unscored = ("features", "detect")
        dead = sum(letter.rows for letter in self.books.letters.values() if letter.stage in unscored)
        return sum(map(len, self.books.sent.values())), sum(self.books.scored.values()), dead

    @property
    def alerts_are_behind(self) -> bool:
        """Whether the alerts worker has not yet committed all detections."""
        done = self._reader.committed(self._alerts_group, self.detections)
        ends = self._reader.offsets(self.detections)
        return any(done.get(partition, 0) < end for partition, (_, end) in ends.items())

    def _flows(self, message: Message) -> None:
        self.books.sent[message.partition, message.offset] = _flow_ids(message)

    def _detections(self, message: Message) -> None:
        headers = dict(message.headers)
        if "weir-flows-offset" not in headers or headers["weir-begins"] == b"1":
            return
        place = (message.partition, int(headers["weir-flows-offset"]))
        with pa.ipc.open_stream(message.value) as stream:
            rows = stream.read_all()
        verdict = (int(headers["weir-rows"]), rows.to_pydict())
        known = self.books.verdicts.setdefault(place, verdict)
        assert verdict == known, f"{place} was judged twice, and differently"
        self.books.repeats["detections"] += place in self.books.scored
        self.books.scored[place] = int(headers["weir-rows"])

    def _alert(self, message: Message) -> None:
        body = message.value or b""
        alert_id = dict(message.headers)["weir-id"].decode()
        assert alert_id == json.loads(body)["event"]["id"]
        self.books.repeats["alerts"] += alert_id in self.books.alerts
        assert body == self.books.alerts.setdefault(alert_id, body), f"{alert_id} has two bodies"

    def _letter(self, message: Message) -> None:
        said = {name: value.decode() for name, value in message.headers}
        row = said.get("weir-origin-row")
        origin = (
            said.get("weir-origin-topic", ""),
            int(said.get("weir-origin-partition", -1)),
            int(said.get("weir-origin-offset", -1)),
            None if row is None else int(row),
        )
        letter = Letter(
            reason=said["weir-reason"],
            stage=said["weir-stage"],
            detail=said["weir-detail"],
            rows=int(said["weir-rows"]),
            origin=origin,
            flow_id=said.get("weir-flow-id", ""),
            value=message.value or b"",
        )
        self.books.repeats["letters"] += said["weir-id"] in self.books.letters
        assert letter == self.books.letters.setdefault(said["weir-id"], letter)


def _flow_ids(message: Message) -> list[str]:
    """Return the ids of a flows message's rows; what cannot be read counts as its header says, or one."""
    try:
        with pa.ipc.open_stream(message.value or b"") as stream:
            rows = stream.read_all()
        return rows.column("flow_id").to_pylist()
    except (pa.ArrowException, OSError):
        stated = dict(message.headers).get("weir-rows") or b"1"
        return [""] * (int(stated) if stated.isdigit() and len(stated) < 10 else 1)


def published_flows(books: Books) -> dict[str, bytes]:
    """Return the bodies of alerts about single flows by flow id, each of which must occur once."""
    found: dict[str, bytes] = {}
    for body in books.alerts.values():
        flow_id = json.loads(body)["weir"].get("flow_id")
        if flow_id is not None:
            assert flow_id not in found, f"flow {flow_id} has two alerts"
            found[flow_id] = body
    return found


def judged(books: Books) -> dict[str, tuple[list[float], list[float], float]]:
    """Return scores, p-values of each model, and the panel's p-value of flagged flows by flow id."""
    found: dict[str, tuple[list[float], list[float], float]] = {}
    for _, rows in books.verdicts.values():
        for at, flow_id in enumerate(rows["flow_id"]):
            assert flow_id not in found, f"flow {flow_id} was judged under two offsets"
            found[flow_id] = rows["scores"][at], rows["p_values"][at], rows["p_value"][at]
    return found
