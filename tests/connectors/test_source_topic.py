"""Flows from a topic of JSON, on real brokers: every message a row, a reject, or told of."""

import json
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from brokers import fresh_topics, made_topics, open_writer
from json_lines import NOON_NS, flow
from kafka import TopicPartition
from structlog.testing import capture_logs

from connectors.base import Chunk, Source
from connectors.broker_kafka import ApacheKafka, missing_tools
from connectors.broker_local import free_port, local_broker
from connectors.errors import BrokerError
from connectors.kafka_client import admin, producer
from connectors.kafka_settings import KafkaSettings
from connectors.mapping import FlowMapping, load_mapping
from connectors.source_topic import TopicSource, topic_sources
from connectors.topics import TopicAdmin, TopicSpec

GOFLOW2 = load_mapping("goflow2")


def new_topic(settings: KafkaSettings, partitions: int = 1) -> str:
    name = fresh_topics().alerts
    with TopicAdmin(settings) as topic_admin:
        topic_admin.create([TopicSpec(name=name, partitions=partitions)])
    return name


def send(settings: KafkaSettings, topic: str, *values: bytes | None, partition: int = 0) -> None:
    client = producer(settings, linger_ms=20)
    for value in values:
        client.send(topic, value, key=b"k", partition=partition)
    client.flush(10)
    client.close()


def only(settings: KafkaSettings, topic: str, mapping: FlowMapping = GOFLOW2, **options: Any) -> TopicSource:
    [source] = topic_sources(settings, topic, mapping, **options)
    return source


def until_idle(source: Source, start: int = 0, *, rows: int = 4000, timeout_s: float = 30) -> list[Chunk]:
    """Return the chunks with messages up to the first empty chunk behind them."""
    found: list[Chunk] = []
    deadline = time.monotonic() + timeout_s
    for chunk in source.chunks(start, rows=rows):
        if chunk.rows.num_rows or chunk.rejects:
            found.append(chunk)
        elif found or time.monotonic() > deadline:
            break
    return found


def ports(chunks: list[Chunk]) -> list[int]:
    return [port - 40_000 for chunk in chunks for port in chunk.rows["src_port"].to_pylist()]


def test_a_message_is_a_flow(broker: KafkaSettings) -> None:
    """Its offset is its position; what the record says arrives, in our units and words."""
    topic = new_topic(broker)
    send(broker, topic, flow(0), flow(1))
    source = only(broker, topic)
    [chunk] = until_idle(source)
    row = chunk.rows.to_pylist()[1]

    assert isinstance(source, Source)
    assert (chunk.first, chunk.next, chunk.rejects) == (0, 2, ())
    assert (row["position"], row["sensor"], row["src_port"], row["src_bytes"]) == (1, "10.9.9.9", 40_001, 101)
    assert (row["duration"], row["state"], row["dst_packets"]) == (0.002, "established", None)
    assert row["event_time"].timestamp() == NOON_NS / 1e9 + 0.003


BROKEN = {
    None: "no_value",
    b"": "not_json",
    b"{": "not_json",
    b"\xff\xfe": "not_json",
    b"[" + flow(7) + b"]": "not_an_object",
    flow(7) + b"\n" + flow(8): "not_json",
    b"[" * 100_000: "not_an_object",
    b'{"a":' + b"[" * 100_000: "too_deep",
    flow(7, bytes="many"): "unreadable_value",
    flow(7, bytes=None): "null_value",
    flow(7, packets=-1): "out_of_range",
    flow(7, src_addr="10.0.0"): "unreadable_value",
    flow(7, time_flow_end_ns=NOON_NS * 5): "absurd_time",
    flow(7, time_flow_start_ns=NOON_NS + 10**10): "out_of_range",
}


def test_broken_messages_are_rejects_among_good_ones(broker: KafkaSettings) -> None:
    """Each with its bytes, its reason and where it stands; the flows between them are all there."""
    topic = new_topic(broker)
    send(broker, topic, *(value for broken in BROKEN for value in (flow(0), broken)), flow(0))
    chunks = until_idle(only(broker, topic))
    rejects = [reject for chunk in chunks for reject in chunk.rejects]
    positions = [position for chunk in chunks for position in chunk.rows["position"].to_pylist()]

    assert positions == list(range(0, 2 * len(BROKEN) + 1, 2))
    assert [r.position for r in rejects] == list(range(1, 2 * len(BROKEN), 2))
    assert [(r.raw, r.reason) for r in rejects] == [(raw or b"", why) for raw, why in BROKEN.items()]
    assert all(r.detail.startswith(f"{topic}/0 offset {r.position}: ") for r in rejects)


@pytest.mark.parametrize("rows", [1, 7, 4000])
def test_reading_goes_on_from_any_offset(broker: KafkaSettings, rows: int) -> None:
    """The rows and ids from an offset on are those of a whole reading, whatever the chunks."""
    topic = new_topic(broker)
    send(broker, topic, *(flow(i) if i % 5 else b"!" for i in range(23)))
    source = only(broker, topic)
    whole = [row for chunk in until_idle(source) for row in chunk.rows.to_pylist()]
    for start in (1, 5, 22):
        chunks = until_idle(only(broker, topic), start, rows=rows)
        assert chunks[0].first == start
        assert all(chunk.next - chunk.first <= rows for chunk in chunks)
        assert all(a.next == b.first for a, b in pairwise(chunks))
        tail = [row for chunk in chunks for row in chunk.rows.to_pylist()]
        assert tail == [row for row in whole if row["position"] >= start]


def test_it_waits_for_what_comes_and_says_so(broker: KafkaSettings) -> None:
    """While nothing comes there is an empty chunk several times a second; then the new message."""
    topic = new_topic(broker)
    send(broker, topic, flow(0))
    chunks = only(broker, topic).chunks()
    assert ports([next(c for c in chunks if c.rows.num_rows)]) == [0]
    begun = time.monotonic()
    idle = [next(chunks) for _ in range(4)]
    assert time.monotonic() - begun < 3
    assert [(c.first, c.next, c.rows.num_rows, c.rejects) for c in idle] == [(1, 1, 0, ())] * 4
    send(broker, topic, flow(1))
    assert ports([next(c for c in chunks if c.rows.num_rows)]) == [1]


def test_a_first_start_can_begin_at_the_end(broker: KafkaSettings) -> None:
    """Then only what comes later is read; a later start goes on where it is told to."""
    topic = new_topic(broker)
    send(broker, topic, flow(0), flow(1))
    chunks = only(broker, topic, from_end=True).chunks()
    first = next(chunks)
    assert (first.first, first.next, first.rows.num_rows) == (0, 2, 0)
    next(chunks)
    send(broker, topic, flow(2))
    assert ports([next(c for c in chunks if c.rows.num_rows)]) == [2]
    assert ports(until_idle(only(broker, topic, from_end=True), 1)) == [1, 2]


def test_each_partition_is_a_source(broker: KafkaSettings) -> None:
    """With an id of its own, and with flows of their own even where offset and text are the same."""
    topic = new_topic(broker, partitions=3)
    for partition in range(3):
        send(broker, topic, flow(0), partition=partition)
    sources = topic_sources(broker, topic, GOFLOW2)
    ids = [chunk.rows["flow_id"][0].as_py() for source in sources for chunk in until_idle(source)]

    assert len({source.source_id for source in sources}) == len(set(ids)) == 3


def test_the_id_names_the_topic_and_how_it_is_read(broker: KafkaSettings) -> None:
    """Not the brokers' addresses; a topic made anew under the same name is another source."""
    topic = new_topic(broker)
    renamed = broker.model_copy(
        update={"bootstrap_servers": (broker.servers.replace("127.0.0.1", "localhost"),)}
    )
    ids = [
        only(settings, topic, mapping, sensor=sensor).source_id
        for settings, mapping, sensor in (
            (broker, GOFLOW2, None), (renamed, GOFLOW2, None), (broker, GOFLOW2, "roof"),
            (broker, load_mapping("zeek"), None),
        )
    ]  # fmt: skip
    with TopicAdmin(broker) as topic_admin:
        topic_admin.delete([topic])
        topic_admin.create([TopicSpec(name=topic, partitions=1)])

    assert ids[0] == ids[1]
    assert len({*ids, only(broker, topic).source_id}) == 4


def test_messages_of_other_kinds_are_passed_over(broker: KafkaSettings) -> None:
    """What the mapping's `where` leaves out is neither row nor reject, but counted."""
    topic = new_topic(broker)
    event = {"event_type": "dns", "src_ip": "not looked at"}
    send(broker, topic, json.dumps(event).encode(), b"{}", b"?")
    source = only(broker, topic, load_mapping("eve"))
    [chunk] = until_idle(source)

    assert (chunk.first, chunk.next, chunk.rows.num_rows, len(chunk.rejects)) == (0, 3, 0, 1)
    assert source.counters() == {
        "messages": 3, "rows": 0, "rejects": 1, "other_messages": 2, "lost_offsets": 0,
    }  # fmt: skip


def test_a_sensor_of_ones_own_wins(broker: KafkaSettings) -> None:
    """Over what the records say."""
    topic = new_topic(broker)
    send(broker, topic, flow(0))
    [chunk] = until_idle(only(broker, topic, sensor="roof"))

    assert chunk.rows["sensor"].to_pylist() == ["roof"]


def test_the_mapping_may_name_another_cluster(broker: KafkaSettings, tmp_path: Path) -> None:
    """Its kafka section is used in place of the settings."""
    topic = new_topic(broker)
    send(broker, topic, flow(3))
    path = tmp_path / "m.yaml"
    path.write_text(f"preset: goflow2\nkafka: {{bootstrap_servers: '{broker.servers}'}}\n")
    nowhere = KafkaSettings(bootstrap_servers=(f"127.0.0.1:{free_port()}",), connect_timeout_s=1)

    assert ports(until_idle(only(nowhere, topic, load_mapping(path)))) == [3]


def test_a_missing_topic_is_one_sentence(broker: KafkaSettings) -> None:
    """It is not made by looking for it."""
    topic = fresh_topics().flows
    with pytest.raises(BrokerError, match=f"topic {topic} does not exist at .*; create it first"):
        topic_sources(broker, topic, GOFLOW2)
    with TopicAdmin(broker) as topic_admin:
        assert topic not in topic_admin.names()


def test_the_lanes_remember_how_far_it_was_read(broker: KafkaSettings) -> None:
    """A writer that is opened again starts behind what it wrote: nothing lost, nothing twice."""
    topics, topic = made_topics(broker, lanes=1), new_topic(broker)
    written: list[int] = []
    for batch in (range(4), range(4, 9)):
        send(broker, topic, *(flow(i) for i in batch), b"broken")
        source: Any = only(broker, topic)
        with open_writer(broker, topics, source) as writer:
            for chunk in until_idle(source, writer.start):
                writer.write(chunk)
                written += ports([chunk])
            writer.finish()

    assert written == list(range(9))
    assert writer.done == 11


def cut_off(settings: KafkaSettings, topic: str, offset: int) -> None:
    client = admin(settings)
    client.delete_records({TopicPartition(topic, 0): offset})
    client.close()


@pytest.mark.kafka
def test_what_retention_took_is_told(apache_kafka: KafkaSettings) -> None:
    """Offsets that are gone before they were read are counted and warned of, and reading goes on."""
    topic = new_topic(apache_kafka)
    send(apache_kafka, topic, *(flow(i) for i in range(10)))
    cut_off(apache_kafka, topic, 6)
    source = only(apache_kafka, topic)
    with capture_logs() as logs:
        chunks = until_idle(source, 2)

    assert (chunks[0].first, ports(chunks)) == (2, [6, 7, 8, 9])
    assert source.counters()["lost_offsets"] == 4
    assert [(e["event"], e["first"], e["next"], e["log_level"]) for e in logs] == [
        ("offsets_lost", 2, 6, "warning")
    ]


@pytest.mark.kafka
def test_a_first_reading_takes_what_the_log_has(apache_kafka: KafkaSettings) -> None:
    """What was gone before anybody asked for it is not lost."""
    topic = new_topic(apache_kafka)
    send(apache_kafka, topic, *(flow(i) for i in range(10)))
    cut_off(apache_kafka, topic, 6)
    source = only(apache_kafka, topic)

    assert ports(until_idle(source)) == [6, 7, 8, 9]
    assert source.counters()["lost_offsets"] == 0


@pytest.mark.kafka
def test_transactions_leave_gaps_and_what_was_given_up_is_not_read(apache_kafka: KafkaSettings) -> None:
    """Positions are those that exist; an aborted message is none."""
    topic = new_topic(apache_kafka)
    client = producer(apache_kafka, transactional_id=f"tx-{topic}")
    client.init_transactions()
    for i, end in enumerate(("commit", "abort", "commit")):
        client.begin_transaction()
        client.send(topic, flow(i), partition=0)
        client.flush()
        (client.commit_transaction if end == "commit" else client.abort_transaction)()
    client.close()
    source = only(apache_kafka, topic)
    chunks = until_idle(source)

    assert ports(chunks) == [0, 2]
    assert [p for chunk in chunks for p in chunk.rows["position"].to_pylist()] == [0, 4]
    assert source.counters()["lost_offsets"] == 0


@pytest.mark.kafka
def test_a_broker_may_restart_while_it_is_read(tmp_path: Path) -> None:
    """The reading goes on by itself: each message once."""
    if missing := missing_tools():
        pytest.skip(f"Apache Kafka needs {missing}, not installed here")
    kafka = ApacheKafka(tmp_path)
    try:
        kafka.start()
        topic = new_topic(kafka.settings)
        send(kafka.settings, topic, flow(0), flow(1))
        seen = across_restart(kafka, topic, only(kafka.settings, topic).chunks())
    finally:
        kafka.stop()

    assert seen == [0, 1, 2, 3]


def across_restart(kafka: ApacheKafka, topic: str, chunks: Iterator[Chunk]) -> list[int]:
    """Return what is read, with a restart and two more messages when nothing more comes."""
    seen: list[int] = []
    deadline = None
    for chunk in chunks:
        seen += ports([chunk])
        if deadline is None and seen == [0, 1] and not chunk.rows.num_rows:
            kafka.kill()
            kafka.start()
            send(kafka.settings, topic, flow(2), flow(3))
            deadline = time.monotonic() + 90
        if len(seen) == 4 or (deadline is not None and time.monotonic() > deadline):
            break
    return seen


def drain(chunks: Iterator[Chunk], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        next(chunks)


@pytest.mark.broker
def test_a_broker_that_lost_its_log_ends_the_reading() -> None:
    """The local broker keeps nothing: after its restart there is a clear error, not silence."""
    port = free_port()
    with local_broker(port) as settings:
        topic = new_topic(settings)
        send(settings, topic, flow(0))
        chunks = only(settings, topic).chunks()
        assert ports([next(c for c in chunks if c.rows.num_rows)]) == [0]
    with local_broker(port), pytest.raises(BrokerError, match=f"{topic}.*the topic was made anew"):
        drain(chunks)


@pytest.mark.broker
def test_a_broker_that_is_gone_ends_the_reading() -> None:
    """Within a minute, in one sentence."""
    with local_broker() as settings:
        topic = new_topic(settings)
        send(settings, topic, flow(0))
        chunks = only(settings, topic).chunks()
        next(c for c in chunks if c.rows.num_rows)
    with pytest.raises(BrokerError, match=f"cannot follow {topic}: no answer") as caught:
        drain(chunks)
    assert "\n" not in str(caught.value)
