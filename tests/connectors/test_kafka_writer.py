"""The flows writer on real brokers: everything once, in order, and resumable after any end."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from brokers import (
    NOON_US,
    conn_rows,
    conn_source,
    dead_letters,
    flow_ids,
    flow_messages,
    made_topics,
    open_writer,
    write_all,
)

from connectors.base import Reject
from connectors.errors import BrokerError
from connectors.kafka_client import producer
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.kafka_writer import FlowsWriter, WriterOptions
from connectors.lanes import LaneMap
from connectors.records import CONN, KDD
from connectors.source_memory import MemorySource
from connectors.topics import TopicAdmin, Topics
from connectors.wire import FlowsHeaders, encode

WRITER_PROCESS = Path(__file__).parent.parent / "support" / "writer_process.py"
HOUR_US = 3_600_000_000


def _expected_ids(source: MemorySource) -> list[str]:
    return sorted(
        flow_id for chunk in source.chunks() for flow_id in chunk.rows.column("flow_id").to_pylist()
    )


def _positions_by_lane(settings: KafkaSettings, topics: Topics) -> dict[int, list[int]]:
    lanes: dict[int, list[int]] = {}
    for message, _, rows in flow_messages(settings, topics.flows):
        lanes.setdefault(message.partition, []).extend(rows.column("position").to_pylist())
    return lanes


def test_every_record_arrives_once(broker: KafkaSettings) -> None:
    """Rows as they were, in their sensor's lane, in order; headers that say what the body holds."""
    topics, source = made_topics(broker), conn_source(5000)
    before_ms = time.time() * 1000 - 1
    writer = write_all(broker, topics, source, rows=700)

    found = flow_messages(broker, topics.flows)
    lane_map = LaneMap(n_lanes=3)
    clock_us: Counter[int] = Counter()
    for message, headers, rows in found:
        lanes = {lane_map.lane(sensor) for sensor in rows.column("sensor").to_pylist()}
        assert lanes <= {message.partition}
        assert (headers.record, headers.rows, headers.source) == ("conn@1", rows.num_rows, source.source_id)
        assert headers.flush == (rows.num_rows == 0)
        assert before_ms <= message.timestamp_ms <= time.time() * 1000 + 1
        if rows.num_rows:
            positions = rows.column("position").to_pylist()
            assert (headers.first, headers.next) == (positions[0], positions[-1] + 1)
            latest = rows.column("event_time").cast(pa.int64()).to_pylist()[-1]
            clock_us[message.partition] = max(clock_us[message.partition], latest)
        assert headers.clock_us == clock_us[message.partition]
    sent = pa.Table.from_batches([rows for _, _, rows in found]).sort_by("position")
    assert sent.equals(pa.Table.from_batches([chunk.rows for chunk in source.chunks()]))
    assert all(positions == sorted(positions) for positions in _positions_by_lane(broker, topics).values())
    assert sum(writer.rows_by_lane.values()) == 4980


def test_rejects_are_dead_letters(broker: KafkaSettings) -> None:
    """Each bad piece with its bytes, its place and a reason."""
    topics, source = made_topics(broker), conn_source(500, n_rejects=7)
    writer = write_all(broker, topics, source)

    found = dead_letters(broker, topics)
    rejects = [reject for chunk in source.chunks() for reject in chunk.rejects]
    assert writer.n_rejected == len(found) == 7
    assert sorted((x.position, x.value, x.stage, x.source) for x in found) == [
        (reject.position, reject.raw, "ingest", source.source_id) for reject in rejects
    ]
    assert len({letter.id for letter in found}) == 7


def test_a_finished_source_is_not_written_again(broker: KafkaSettings) -> None:
    """Run again, nothing is sent: not a row, not a flush, not a reject."""
    topics, source = made_topics(broker), conn_source(1000)
    write_all(broker, topics, source)
    n_messages = len(flow_messages(broker, topics.flows))

    again = write_all(broker, topics, source)

    assert (again.start, again.done, again.rows_by_lane, again.n_rejected) == (1000, 1000, {}, 0)
    assert len(flow_messages(broker, topics.flows)) == n_messages
    assert len(dead_letters(broker, topics)) == 20


def test_the_end_of_a_file_is_flushed(broker: KafkaSettings) -> None:
    """One flush message to each lane that got rows, none to the others; the clock stays."""
    topics, source = made_topics(broker), MemorySource(conn_rows(300, sensors=("s1",)))
    write_all(broker, topics, source)
    lane = LaneMap(n_lanes=3).lane("s1")

    assert [
        (message.partition, headers.flush, headers.rows, headers.first, headers.next)
        for message, headers, _ in flow_messages(broker, topics.flows)
    ] == [(lane, False, 300, 0, 300), (lane, True, 0, 300, 300)]
    _, before, _ = flow_messages(broker, topics.flows)[0]
    _, flush, rows = flow_messages(broker, topics.flows)[1]
    assert flush.clock_us == before.clock_us == NOON_US + 299_000
    assert rows.schema == CONN.schema


def test_silence_flushes_once(local_broker: KafkaSettings) -> None:
    """Rows wait for the linger, lanes are flushed after the idle time, and then there is peace."""
    topics, source = made_topics(local_broker), MemorySource(conn_rows(10))
    now = 100.0
    writer = FlowsWriter(
        local_broker,
        topics,
        source_id=source.source_id,
        record_type=CONN,
        options=WriterOptions(linger_s=0.5, idle_s=5),
        clock=lambda: now,
    )
    with writer:
        writer.write(next(source.chunks()))
        writer.tick()
        assert writer.done == 0
        now += 0.6
        _tick_until(writer, lambda: writer.done == 10)
        assert [h.flush for _, h, _ in flow_messages(local_broker, topics.flows)] == [False]
        now += 5
        writer.tick()
        now += 50
        writer.tick()
        assert [h.flush for _, h, _ in flow_messages(local_broker, topics.flows)] == [False, True]


def _tick_until(writer: FlowsWriter, reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not reached():
        assert time.monotonic() < deadline
        writer.tick()
        time.sleep(0.01)


def test_a_source_behind_the_clock_is_refused(broker: KafkaSettings) -> None:
    """An older file into the same lanes would be late altogether: refused, with both ways out."""
    topics = made_topics(broker)
    write_all(broker, topics, MemorySource(conn_rows(100), source_id="now"))
    n_messages = len(flow_messages(broker, topics.flows))
    old = MemorySource(conn_rows(100, start_us=NOON_US - HOUR_US), source_id="old")

    with pytest.raises(
        BrokerError, match=r"3600 s behind the clock of lane \d .*prefix of its own, or with --rebase"
    ):
        write_all(broker, topics, old)

    assert len(flow_messages(broker, topics.flows)) == n_messages


def test_a_minute_behind_the_clock_is_fine(local_broker: KafkaSettings) -> None:
    """Clocks differ a little, and other sensors' lanes have clocks of their own."""
    topics = made_topics(local_broker)
    write_all(local_broker, topics, MemorySource(conn_rows(100), source_id="now"))
    write_all(local_broker, topics, MemorySource(conn_rows(9, start_us=NOON_US - 59_000_000), source_id="b"))
    other = conn_rows(9, sensors=("s3",), start_us=NOON_US - HOUR_US)

    assert LaneMap(n_lanes=3).lane("s3") != LaneMap(n_lanes=3).lane("s1")
    write_all(local_broker, topics, MemorySource(other, source_id="c"))

    assert len(flow_ids(local_broker, topics.flows)) == 118


def test_a_resumed_source_is_not_behind_itself(local_broker: KafkaSettings) -> None:
    """Times that go back within a source are its own affair, in mid-file too."""
    topics = made_topics(local_broker)
    rows = pa.Table.from_batches([conn_rows(50), conn_rows(50, start_us=NOON_US - HOUR_US, prefix="g")])
    batch = rows.combine_chunks().to_batches()[0]
    write_all(local_broker, topics, MemorySource(batch.slice(0, 50), source_id="s"))
    write_all(local_broker, topics, MemorySource(batch, source_id="s"))

    assert len(flow_ids(local_broker, topics.flows)) == 100


def test_a_foreign_message_has_a_clock_too(local_broker: KafkaSettings) -> None:
    """A producer that is not ours leaves the clock out: its event times count."""
    topics, rows = made_topics(local_broker, lanes=1), conn_rows(10)
    headers = FlowsHeaders(record="conn@1", rows=10).to_kafka()
    client = producer(local_broker)
    client.send(topics.flows, encode(rows), headers=[h for h in headers if h[0] != "weir-clock"], partition=0)
    client.flush(5)
    client.close()
    old = MemorySource(conn_rows(10, start_us=NOON_US - HOUR_US))

    with pytest.raises(BrokerError, match="behind the clock"):
        write_all(local_broker, topics, old)


def test_messages_keep_to_their_limits(local_broker: KafkaSettings) -> None:
    """At most 4,000 rows and 1 MB a message, whatever the rows are."""
    topics, many = made_topics(local_broker), MemorySource(conn_rows(9000, sensors=("s1",)))
    write_all(local_broker, topics, many)
    assert [h.rows for _, h, _ in flow_messages(local_broker, topics.flows)] == [4000, 4000, 1000, 0]

    rows = conn_rows(3000, sensors=("s1",))
    index = rows.schema.get_field_index("service")
    wide = rows.set_column(index, rows.schema.field(index), pa.array(["x" * 1500] * 3000))
    topics = made_topics(local_broker)
    write_all(local_broker, topics, MemorySource(wide))
    found = flow_messages(local_broker, topics.flows)
    assert sum(h.rows for _, h, _ in found) == 3000
    sizes = [len(message.value or b"") for message, _, _ in found]
    assert max(sizes) <= 1_000_000
    assert min(sizes[:-2]) > 800_000


def test_a_row_that_fits_no_message_is_a_dead_letter(broker: KafkaSettings) -> None:
    """A big row goes alone; a row above what the topic takes is dead-lettered, the others go on."""
    topics, rows = made_topics(broker), conn_rows(5)
    texts = ["a", "x" * 3_000_000, "b", "x" * 9_000_000, "c"]
    index = rows.schema.get_field_index("service")
    source = MemorySource(rows.set_column(index, rows.schema.field(index), pa.array(texts)))
    writer = write_all(broker, topics, source)

    assert flow_ids(broker, topics.flows) == ["f0", "f1", "f2", "f4"]
    [letter] = dead_letters(broker, topics)
    assert (letter.reason, letter.position, writer.n_rejected) == ("too_large", 3, 1)
    assert write_all(broker, topics, source).start == 5


def test_lanes_may_go_by_address(local_broker: KafkaSettings) -> None:
    """One busy sensor spread over lanes: each source address stays in one."""
    topics, source = made_topics(local_broker), MemorySource(conn_rows(1000))
    write_all(local_broker, topics, source, lane_by="src")

    lane_of: dict[bytes, set[int]] = {}
    for message, _, rows in flow_messages(local_broker, topics.flows):
        for address in rows.column("src_ip").to_pylist():
            lane_of.setdefault(address, set()).add(message.partition)
    assert {len(lanes) for lanes in lane_of.values()} == {1}
    assert len(_positions_by_lane(local_broker, topics)) == 3


def test_another_record_type_is_refused(local_broker: KafkaSettings) -> None:
    """One prefix carries one record type."""
    topics = made_topics(local_broker)
    write_all(local_broker, topics, MemorySource(conn_rows(10)))

    with pytest.raises(BrokerError, match=r"carries conn@1 and this source is kdd@1.*another prefix"):
        FlowsWriter(local_broker, topics, source_id="k", record_type=KDD)


@pytest.mark.parametrize("missing", ["flows", "dead_letters"])
def test_a_missing_topic_is_refused_at_once(broker: KafkaSettings, missing: str) -> None:
    """Before anything is sent, and without making the topic."""
    topics = made_topics(broker)
    with TopicAdmin(broker) as admin:
        admin.delete([getattr(topics, missing)])

    with pytest.raises(BrokerError, match=f"topic {getattr(topics, missing)} does not exist"):
        open_writer(broker, topics, conn_source(10, n_rejects=1))


def test_a_gap_in_the_source_is_refused(local_broker: KafkaSettings) -> None:
    """The writer cannot be made to believe that it has seen what it has not."""
    topics, source = made_topics(local_broker), conn_source(100)
    [chunk] = source.chunks()
    with open_writer(local_broker, topics, source) as writer, pytest.raises(BrokerError, match="expected 0"):
        writer.write(replace(chunk, first=5))


def test_a_source_of_rejects_alone(local_broker: KafkaSettings) -> None:
    """A file without one good record gives dead letters and no flows message."""
    rejects = [Reject(position=i, raw=b"x", reason="r", detail="d") for i in range(5)]
    topics, source = made_topics(local_broker), MemorySource(conn_rows(0), rejects=rejects)
    write_all(local_broker, topics, source)

    assert flow_messages(local_broker, topics.flows) == []
    assert len(dead_letters(local_broker, topics)) == 5


def test_many_sources_leave_a_bounded_header(local_broker: KafkaSettings) -> None:
    """Seventy files into one lane: the last ones are known, headers stay small, order holds."""
    topics = made_topics(local_broker, lanes=1)
    for number in range(70):
        rows = conn_rows(2, prefix=f"s{number}-", start_us=NOON_US + number * 1_000_000)
        write_all(local_broker, topics, MemorySource(rows, source_id=f"source-{number}"))
    with KafkaReader(local_broker) as reader:
        [last] = reader.last_messages(topics.flows, 0, 1)
    assert sum(len(value) for _, value in last.headers) < 64 * 64

    rows = conn_rows(2, prefix="s30-", start_us=NOON_US + 30_000_000)
    assert write_all(local_broker, topics, MemorySource(rows, source_id="source-30")).start == 2
