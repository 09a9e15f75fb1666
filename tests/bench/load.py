"""Load: endless `conn@1` flows from an index, as Arrow batches and as messages of the flows topic.

    load = Load(n_sources=10_000, rate=1000.0, lanes=4)
    load.batch(7)                      # the eighth message's rows, always the same ones
    behind = Behind(kafka, [flows, features, detections])
    write(kafka, Topics("p"), load.messages(10_000_000), room=Room(behind, ahead=500))

A message of 4,000 rows takes 0.6 ms of one core to make, whatever the number of sources.
`write` brings messages into the log and, with a `Room`, stays a bounded number of messages ahead
of the workers and deletes what they have answered; with a broker run with `SMALL_DISK`
(`kafka_broker(properties=SMALL_DISK)`) 10^8 flows pass through a few gigabytes of disk.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from kafka import TopicPartition

from connectors.kafka_client import admin, consumer, producer
from connectors.kafka_settings import KafkaSettings
from connectors.records import ADDRESS, CONN, STATES, TIME
from connectors.topics import MAX_MESSAGE_BYTES, Topics
from connectors.wire import FlowsHeaders, Headers, encode

START_US = 1_772_409_600_000_000
"""2026-03-02 00:00 UTC."""

SMALL_DISK = {
    "log.segment.bytes": str(64 << 20),
    "log.retention.check.interval.ms": "3000",
    "log.segment.delete.delay.ms": "1000",
}
"""Broker properties with which deleted records leave the disk within seconds."""

POOL = 1 << 16
"""Rows whose content (ports, volumes, states) is drawn once; messages are slices of them."""

OUTLIER_BYTES = 1 << 50
OUTLIER_S = 1e7

TRIM_S = 2.0
_MAX_FLYING = 16
_KINDS = (  # service, protocol, port, share, median bytes sent and received
    ("dns", "udp", 53, 0.40, 60.0, 140.0),
    ("ssl", "tcp", 443, 0.35, 1_800.0, 9_000.0),
    ("http", "tcp", 80, 0.15, 900.0, 12_000.0),
    ("smtp", "tcp", 25, 0.03, 9_000.0, 900.0),
    ("ssh", "tcp", 22, 0.02, 3_000.0, 5_000.0),
    (None, "tcp", 8443, 0.05, 2_000.0, 4_000.0),
)
_FAILED = 0.02

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FlowsMessage:
    """A message for the flows topic."""

    lane: int
    rows: int
    value: bytes
    headers: Headers


@dataclass(frozen=True, kw_only=True)
class Load:
    """Flows among random hosts; the same arguments give the same flows.

    Message i goes to lane i modulo `lanes`, holds the positions from i * rows on, and its event
    times go on from those of message i - 1, in steps of 1 / `rate`, never backwards.
    """

    n_sources: int = 10_000
    n_destinations: int = 1_000
    skewed: bool = True  # host k sends in proportion to 1/k; else all alike
    rate: float = 1_000.0  # flows a second of event time, over all lanes
    lanes: int = 1
    rows: int = 4_000  # of a message
    seed: int = 0
    start_us: int = START_US

    @property
    def source_id(self) -> str:
        """Identity in the headers: other arguments, other flows."""
        return f"load-{self.n_sources}-{self.n_destinations}-{self.rate:g}-{self.rows}-{self.seed}"

    def batch(self, index: int) -> pa.RecordBatch:
        """Return the rows of message `index`."""
        first = index * self.rows
        steps = np.arange(first, first + self.rows) * (1e6 / self.rate)
        return self.rows_at(index, first, self.start_us + steps.astype(np.int64))

    def rows_at(self, index: int, first: int, times_us: Numbers) -> pa.RecordBatch:
        """Return rows with these times, drawn for `index`; positions from `first` on."""
        rng = np.random.Generator(np.random.SFC64([self.seed, index]))
        n = times_us.size
        at = int(rng.integers(POOL // 64)) * 64  # so that slices of validity bits stay aligned
        positions = np.arange(first, first + n, dtype=np.int64)
        columns = {
            "sensor": pa.repeat(f"sensor-{index % self.lanes}", n),
            "flow_id": flow_ids(self.seed, positions),
            "event_time": pa.array(times_us).cast(TIME),
            "src_ip": addresses(10, _hosts(rng, self.n_sources, n, skewed=self.skewed)),
            "dst_ip": addresses(20, _hosts(rng, self.n_destinations, n, skewed=self.skewed)),
            "position": pa.array(positions),
        }
        drawn = {name: column.slice(at, n) for name, column in self._pool.items()}
        return pa.RecordBatch.from_pydict({**drawn, **columns}, schema=CONN.schema)

    @cached_property
    def _pool(self) -> dict[str, pa.Array]:
        return _content(np.random.default_rng([self.seed, POOL]), POOL + 100_000)

    def message(self, index: int) -> FlowsMessage:
        """Return message `index`, encoded."""
        return self.packed(index, self.batch(index))

    def packed(self, index: int, batch: pa.RecordBatch) -> FlowsMessage:
        """Return rows as message `index`, encoded."""
        headers = FlowsHeaders(
            record=CONN.id,
            rows=batch.num_rows,
            source=self.source_id,
            first=index * self.rows,
            next=(index + 1) * self.rows,
            clock_us=int(batch.column("event_time")[-1].value),
        )
        return FlowsMessage(index % self.lanes, batch.num_rows, encode(batch), headers.to_kafka())

    def messages(self, n_flows: int, first: int = 0) -> Iterator[FlowsMessage]:
        """Yield the messages of flows `first` to `n_flows`, whole messages only."""
        for index in range(first // self.rows, -(-n_flows // self.rows)):
            yield self.message(index)


def flow_ids(seed: int, positions: Numbers) -> pa.Array:
    """Return ids of 24 hex digits: 8 of the seed and 16 of the position."""
    digits = np.empty((positions.size, 3), dtype=">u4")
    digits[:, 0] = seed
    digits[:, 1] = positions >> 32
    digits[:, 2] = positions & 0xFFFFFFFF
    text = _HEX[digits.view(np.uint8)].tobytes()
    offsets = np.arange(0, 24 * (positions.size + 1), 24, dtype=np.int32)
    return pa.StringArray.from_buffers(positions.size, pa.py_buffer(offsets.tobytes()), pa.py_buffer(text))


_HEX = np.frombuffer(b"".join(b"%02x" % i for i in range(256)), dtype=np.uint16)


def addresses(network: int, hosts: Numbers) -> pa.Array:
    """Return IPv4 addresses `network`.x.y.z of hosts that are numbered from 0, mapped into IPv6."""
    words = np.empty((hosts.size, 4), dtype=">u4")
    words[:, :2] = 0
    words[:, 2] = 0xFFFF
    words[:, 3] = (network << 24) + hosts
    return pa.FixedSizeBinaryArray.from_buffers(ADDRESS, hosts.size, [None, pa.py_buffer(words.tobytes())])


def _hosts(rng: np.random.Generator, n_hosts: int, n: int, *, skewed: bool) -> Numbers:
    if not skewed:
        return rng.integers(n_hosts, size=n)
    # floor(n^u) of a uniform u falls on k in proportion to log(1 + 1/k): about 1/k.
    ranks = np.exp(rng.random(n) * np.log(n_hosts + 1)).astype(np.int64)
    hosts: Numbers = np.minimum(ranks, n_hosts) - 1
    return hosts


def _content(rng: np.random.Generator, n: int) -> dict[str, pa.Array]:
    """Return the columns that say nothing of who or when."""
    services, protocols, ports, shares, sent, received = zip(*_KINDS, strict=True)
    kind = rng.choice(len(_KINDS), n, p=shares)
    failed = (rng.random(n) < _FAILED) & (kind > 0)
    src_bytes = _volume(rng, np.array(sent)[kind])
    dst_bytes = _volume(rng, np.array(received)[kind])
    state = np.where(failed, STATES.index("attempted"), STATES.index("established"))
    return {
        "src_port": pa.array(rng.integers(32_768, 61_000, n).astype(np.uint16)),
        "dst_port": pa.array(np.array(ports, dtype=np.uint16)[kind]),
        "protocol": pa.array(protocols, pa.string()).take(pa.array(kind)),
        "label": pa.nulls(n, pa.string()),
        "duration": pa.array(np.round(0.2 * np.exp(rng.standard_normal(n)), 6)),
        "src_bytes": pa.array(src_bytes),
        "dst_bytes": pa.array(dst_bytes, mask=failed),
        "src_packets": pa.array(2 + src_bytes // 1400),
        "dst_packets": pa.array(2 + dst_bytes // 1400, mask=failed),
        "service": pa.array(services, pa.string()).take(pa.array(kind)),
        "state": pa.array(STATES, pa.string()).take(pa.array(state)),
    }


def _volume(rng: np.random.Generator, median: npt.NDArray[np.float64]) -> Numbers:
    volume = median * np.exp(0.7 * rng.standard_normal(median.size))
    return volume.astype(np.int64)


def with_outliers(batch: pa.RecordBatch, at: Numbers, hosts: Numbers) -> pa.RecordBatch:
    """Return `batch` with absurd volumes in the rows `at`, each between a pair of hosts of its own.

    Their own hosts, so that no other flow looks odd for what they did to its windows.
    """
    where = np.zeros(batch.num_rows, dtype=np.bool_)
    where[at] = True
    numbers = np.zeros(batch.num_rows, dtype=np.int64)
    numbers[at] = hosts
    changed = {
        "src_ip": addresses(30, numbers),
        "dst_ip": addresses(31, numbers),
        "src_bytes": pa.repeat(OUTLIER_BYTES, batch.num_rows),
        "duration": pa.repeat(OUTLIER_S, batch.num_rows),
    }
    for name, values in changed.items():
        index = batch.schema.get_field_index(name)
        mixed = pc.if_else(pa.array(where), values, batch.column(name))
        batch = batch.set_column(index, batch.schema.field(index), mixed)
    return batch


class Behind:
    """Knows how far the workers are, and deletes what lies behind them.

    Parameters
    ----------
    kafka : KafkaSettings
        Where the broker is.
    topics : sequence of str
        Topics on the workers' way; the last one holds one answer for each flows message, the others
        lose what is answered.
    keep : int
        Answered messages of a lane that are kept.
    """

    def __init__(self, kafka: KafkaSettings, topics: Sequence[str], *, keep: int = 200) -> None:
        *self._deleted, self._answers = topics
        self._keep = keep
        self._consumer = consumer(kafka)
        self._admin = admin(kafka)
        self._lanes = sorted(self._consumer.partitions_for_topic(self._answers))
        self._base = self._ends()
        self.n_answered = 0
        """What `answered` returned last, for other threads."""

    def _ends(self) -> dict[int, int]:
        found = self._consumer.end_offsets([TopicPartition(self._answers, lane) for lane in self._lanes])
        return {tp.partition: int(end) for tp, end in found.items()}

    def answered(self) -> int:
        """Return how many messages have been answered since this was made."""
        self.n_answered = sum(self._ends().values()) - sum(self._base.values())
        return self.n_answered

    def trim(self) -> None:
        """Delete from all topics but the last what is answered, save the last `keep` messages of a lane."""
        upto = {lane: end - self._base[lane] - self._keep for lane, end in self._ends().items()}
        for topic in self._deleted:
            gone = {TopicPartition(topic, lane): offset for lane, offset in upto.items() if offset > 0}
            if gone:
                self._admin.delete_records(gone)

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close(timeout_ms=1000)
        self._admin.close()


def write(
    kafka: KafkaSettings,
    topics: Topics,
    messages: Iterator[FlowsMessage],
    *,
    room: "Room | None" = None,
    progress: Callable[[int], None] = lambda _n_flows: None,
) -> int:
    """Bring messages into the flows topic; return how many flows, all of them durable.

    Parameters
    ----------
    room : Room, optional
        Makes the writer wait for the workers; without it, it goes as fast as the broker takes it.
    progress : callable
        Told about every second how many flows are written.
    """
    client: Any = producer(kafka, max_request_size=MAX_MESSAGE_BYTES)
    flying: deque[Any] = deque()
    n_flows, told = 0, time.monotonic()
    try:
        for number, message in enumerate(messages):
            if room is not None:
                room.wait(number)
            where = {"headers": message.headers, "partition": message.lane}
            flying.append(client.send(topics.flows, message.value, **where))
            n_flows += message.rows
            _land(flying, _MAX_FLYING)
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                progress(n_flows)
        _land(flying, 0)
    finally:
        client.close(timeout=5)
    progress(n_flows)
    return n_flows


def _land(flying: deque[Any], most: int) -> None:
    while len(flying) > most:
        flying.popleft().get(timeout=60)


class Room:
    """Makes a writer wait for the workers, and cleans up behind them meanwhile.

    Parameters
    ----------
    behind : Behind
        Of workers that run and had answered everything before.
    ahead : int
        How many messages may be written before them.
    answered : callable, optional
        Asked in place of `behind.answered`.
    """

    def __init__(self, behind: Behind, ahead: int, answered: Callable[[], int] | None = None) -> None:
        self._behind = behind
        self._answered = answered or behind.answered
        self._ahead = self._upto = ahead
        self._trimmed = time.monotonic()

    def wait(self, number: int) -> None:
        """Return when message `number` may be written."""
        while number >= self._upto:
            self._upto = self._ahead + self._answered()
            if time.monotonic() - self._trimmed > TRIM_S:
                self._behind.trim()
                self._trimmed = time.monotonic()
            if number >= self._upto:
                time.sleep(0.02)
