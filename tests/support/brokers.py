"""What the tests that use a real broker share."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from connectors.base import Reject
from connectors.dead_letters import DeadLetter
from connectors.kafka_reader import KafkaReader, Message
from connectors.kafka_settings import KafkaSettings
from connectors.kafka_writer import FlowsWriter, WriterOptions
from connectors.records import CONN, TIME
from connectors.source_memory import MemorySource
from connectors.topics import TopicAdmin, Topics, TopicSpec
from connectors.wire import FlowsHeaders, decode

_NUMBERS = itertools.count()
NOON_US = 1_700_000_000_000_000


def fresh_topics() -> Topics:
    """Return topics under a prefix that no test has used."""
    return Topics(f"t{os.getpid()}-{next(_NUMBERS)}")


def flow_specs(topics: Topics, lanes: int = 3) -> list[TopicSpec]:
    """Return the topics that a writer needs."""
    return [
        TopicSpec(name=topics.flows, partitions=lanes),
        TopicSpec(name=topics.dead_letters, partitions=1),
    ]


def made_topics(settings: KafkaSettings, lanes: int = 3) -> Topics:
    """Return fresh topics that a writer can write to."""
    topics = fresh_topics()
    with TopicAdmin(settings) as admin:
        admin.create(flow_specs(topics, lanes))
    return topics


def conn_rows(
    n: int,
    *,
    sensors: tuple[str, ...] = ("s1",),
    start_us: int = NOON_US,
    step_us: int = 1000,
    prefix: str = "f",
) -> pa.RecordBatch:
    """Return `n` flows of conn@1, the sensors in turn, one every `step_us`."""
    index = np.arange(n)
    last = (index % 200 + 1).astype(np.uint8)
    addresses = [bytes(10) + b"\xff\xff" + bytes([10, 0, 0, byte]) for byte in last.tolist()]
    columns = {
        "sensor": pa.array([sensors[i % len(sensors)] for i in range(n)]),
        "flow_id": pa.array([f"{prefix}{i}" for i in range(n)]),
        "event_time": pa.array(start_us + index * step_us).cast(TIME),
        "src_ip": pa.array(addresses, pa.binary(16)),
        "dst_ip": pa.array(addresses[::-1], pa.binary(16)),
        "src_port": pa.array((index % 60_000 + 1024).astype(np.uint16)),
        "dst_port": pa.array(np.full(n, 443, dtype=np.uint16)),
        "protocol": pa.array(["tcp"] * n),
        "position": pa.array(index),
        "duration": pa.array(index % 50 / 10.0),
        "src_bytes": pa.array(index * 7 % 5000),
        "dst_bytes": pa.array(index * 11 % 9000),
        "src_packets": pa.array(index % 20),
        "dst_packets": pa.array(index % 30),
        "service": pa.array(["https"] * n),
        "state": pa.array(["established"] * n),
    }
    arrays = [columns.get(field.name, pa.nulls(n, field.type)) for field in CONN.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=CONN.schema)


def whole_log(settings: KafkaSettings, topic: str) -> Iterator[Message]:
    """Yield every message of a topic, lane by lane."""
    with KafkaReader(settings) as reader:
        for partition, (begin, end) in reader.offsets(topic).items():
            yield from reader.read_range(topic, partition, begin, end)


def flow_messages(settings: KafkaSettings, topic: str) -> list[tuple[Message, FlowsHeaders, pa.RecordBatch]]:
    """Return every flows message with its headers and rows."""
    return [
        (message, FlowsHeaders.from_kafka(message.headers), decode(message.value))
        for message in whole_log(settings, topic)
    ]


def flow_ids(settings: KafkaSettings, topic: str) -> list[str]:
    """Return the ids of all flows in a topic, lane by lane."""
    found = flow_messages(settings, topic)
    return [flow_id for _, _, rows in found for flow_id in rows.column("flow_id").to_pylist()]


def conn_source(n: int, *, n_rejects: int = 20) -> MemorySource:
    """Return `n` records of three sensors, the same each time, with bad ones among them."""
    places = sorted({(i + 1) * n // (n_rejects + 1) for i in range(n_rejects)})
    rejects = [Reject(position=at, raw=b"bad %d" % at, reason="bad_line", detail="bad") for at in places]
    return MemorySource(conn_rows(n - len(rejects), sensors=("s1", "s2", "s3")), rejects=rejects)


def write_all(settings: KafkaSettings, topics: Topics, source: MemorySource, **options: Any) -> FlowsWriter:
    """Write what is missing of a source, flush, and return the closed writer."""
    with open_writer(settings, topics, source, **options) as writer:
        for chunk in source.chunks(writer.start):
            writer.write(chunk)
        writer.finish()
    return writer


def open_writer(settings: KafkaSettings, topics: Topics, source: MemorySource, **options: Any) -> FlowsWriter:
    """Return a writer for a source."""
    return FlowsWriter(
        settings,
        topics,
        source_id=source.source_id,
        record_type=source.record_type,
        options=WriterOptions(**options),
    )


def dead_letters(settings: KafkaSettings, topics: Topics) -> list[DeadLetter]:
    """Return all dead letters, repeats too."""
    return [DeadLetter.from_kafka(m.headers, m.value) for m in whole_log(settings, topics.dead_letters)]


def certificate(folder: Path) -> Path:
    """Make the broker's key store, and return the certificate that clients trust."""
    store, pem = folder / "broker.p12", folder / "ca.pem"
    common = ["keytool", "-keystore", str(store), "-storepass", "store-secret", "-alias", "broker"]
    make = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1"]
    subprocess.run([*common, *make, "-validity", "2"], check=True, capture_output=True)
    subprocess.run([*common, "-exportcert", "-rfc", "-file", str(pem)], check=True, capture_output=True)
    return pem
