"""What the topics of a round hold, read by a plain consumer: nothing here is shared with weir."""

import hashlib
import itertools
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import kafka.errors
import pyarrow as pa
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

KINDS = ("flows", "features", "detections", "alerts", "dead-letters")
"""Second part of the names of the topics of a prefix."""

_IMPATIENT = {"reconnect_backoff_max_ms": 500, "request_timeout_ms": 5000, "bootstrap_timeout_ms": 5000}

Place = tuple[int, int]
"""Partition and offset."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of any topic."""

    headers: dict[str, bytes]
    value: bytes
    topic: str = ""

    def number(self, name: str, default: int = -1) -> int:
        """Return a header as a whole number."""
        return int(self.headers.get(name, b"%d" % default))

    @property
    def digest(self) -> str:
        """Stands for the value."""
        return hashlib.sha256(self.value).hexdigest()

    def rows(self) -> pa.Table:
        """Return the Arrow rows that the value holds."""
        with pa.ipc.open_stream(self.value) as stream:
            return stream.read_all()


@dataclass(frozen=True, slots=True)
class Sample:
    """Offsets that groups had committed, and then how far each topic went."""

    at_s: float  # monotonic
    committed: dict[str, dict[tuple[str, int], int]]  # group -> (kind, partition) -> offset
    ends: dict[tuple[str, int], int]  # (kind, partition) -> offset after the last message


@dataclass(kw_only=True)
class Books:
    """All messages of a prefix by kind of topic, and what was seen committed while they came."""

    messages: dict[str, dict[Place, Message]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    samples: list[Sample] = field(default_factory=list)

    def of(self, kind: str) -> list[tuple[Place, Message]]:
        """Return the messages of a kind in order."""
        return sorted(self.messages[kind].items(), key=lambda item: item[0])

    def ends(self) -> dict[tuple[str, int], int]:
        """Return the offset after the last message read, by kind and partition."""
        found: dict[tuple[str, int], int] = {}
        for kind, messages in self.messages.items():
            for partition, offset in messages:
                found[kind, partition] = max(found.get((kind, partition), 0), offset + 1)
        return found

    def answered(self) -> set[Place]:
        """Return the places of the flows messages that have a detections message."""
        return {
            (partition, message.number("weir-flows-offset"))
            for (partition, _), message in self.messages["detections"].items()
            if message.headers.get("weir-begins") != b"1"
        }

    def unanswered(self, lost: Collection[Place] = ()) -> list[Place]:
        """Return the places of the flows messages that have none, without those that are lost."""
        return sorted(set(self.messages["flows"]) - self.answered() - set(lost))


class Ledger(threading.Thread):
    """Reads a prefix again and again, from a thread of its own, until closed.

    Parameters
    ----------
    servers : str
        Of the broker, past the proxy.
    prefix : str
        First part of the topics' names.
    groups : sequence of str
        Whose commits to look at.
    """

    def __init__(self, servers: str, prefix: str, groups: Sequence[str], *, every_s: float = 0.7) -> None:
        super().__init__(name=f"ledger-{prefix}", daemon=True)
        self.books = Books()
        self._servers, self._prefix, self._groups = servers, prefix, groups
        self._every_s = every_s
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._consumer: Any = KafkaConsumer(
            bootstrap_servers=servers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=8 << 20,
            **_IMPATIENT,
        )
        names = [name for name in self._consumer.topics() if name.startswith(f"{prefix}.")]
        partitions = [TopicPartition(n, p) for n in names for p in self._consumer.partitions_for_topic(n)]
        self._consumer.assign(partitions)
        self._partitions = partitions
        self._admin: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the thread and its connections."""
        self._ending.set()
        if self.is_alive():
            self.join(30)
        self._consumer.close()
        if self._admin is not None:
            self._admin.close()

    def run(self) -> None:
        """Read and sample until closed; a broker that is away is waited for."""
        while not self._ending.wait(self._every_s):
            with self._lock, suppress(kafka.errors.KafkaError, OSError):
                committed = self._committed()
                self._read()
                self.books.samples.append(Sample(time.monotonic(), committed, self._ends()))

    def look(self) -> Books:
        """Return the books after reading all there is now."""
        with self._lock:
            self._read()
            return self.books

    def lag(self, group: str, kind: str) -> float:
        """Return how many messages of a kind a group has not committed; inf while nobody can say."""
        with self._lock:
            try:
                committed = self._committed().get(group, {})
                self._read()
                ends = self._ends()
            except (kafka.errors.KafkaError, OSError):
                return float("inf")
        return sum(end - committed.get(at, 0) for at, end in ends.items() if at[0] == kind)

    def _read(self, most_s: float = 5.0) -> None:
        """Read until nothing comes any more."""
        deadline, quiet = time.monotonic() + most_s, 0
        while quiet < 2 and time.monotonic() < deadline:
            polled = self._consumer.poll(100, max_records=5000)
            quiet = 0 if polled else quiet + 1
            for record in itertools.chain.from_iterable(polled.values()):
                self._take(record)

    def _take(self, record: Any) -> None:
        kind = self._kind(record.topic)
        headers = dict(record.headers or ())
        keeps_value = kind != "features"  # as large as the flows; its digest will do
        value = record.value or b""
        if not keeps_value:
            headers["digest"], value = hashlib.sha256(value).digest(), b""
        self.books.messages[kind][record.partition, record.offset] = Message(headers, value, record.topic)

    def _kind(self, topic: str) -> str:
        return topic[len(self._prefix) + 1 :].split(".", maxsplit=1)[0]

    def _ends(self) -> dict[tuple[str, int], int]:
        """Return the ends of the log; some brokers list too little, so what was read counts as well."""
        listed = self._consumer.end_offsets(self._partitions)
        ends = self.books.ends()
        for tp, end in listed.items():
            at = self._kind(tp.topic), tp.partition
            ends[at] = max(end, ends.get(at, 0))
        return ends

    def _committed(self) -> dict[str, dict[tuple[str, int], int]]:
        if self._admin is None:
            self._admin = KafkaAdminClient(bootstrap_servers=self._servers, **_IMPATIENT)
        return {group: self._of_group(group) for group in self._groups}

    def _of_group(self, group: str) -> dict[tuple[str, int], int]:
        try:
            found = self._admin.list_group_offsets({group: None}).get(group, {})
        except kafka.errors.GroupIdNotFoundError:
            return {}
        return {(self._kind(tp.topic), tp.partition): at.offset for tp, at in found.items() if at.offset >= 0}
