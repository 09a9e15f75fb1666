"""The load generator makes what it says, and its writer stays behind and ahead as told."""

import threading

import numpy as np
import pyarrow as pa
import pytest
from brokers import made_topics
from hypothesis import given, settings
from hypothesis import strategies as st
from load import Behind, FlowsMessage, Load, Room, with_outliers, write

from connectors.kafka_client import producer
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.records import CONN
from connectors.wire import FlowsHeaders, decode


@settings(max_examples=20, deadline=None)
@given(
    n_sources=st.integers(1, 1_000_000),
    skewed=st.booleans(),
    rate=st.floats(1.0, 1e6),
    index=st.integers(0, 200_000),
)
def test_every_row_is_valid(*, n_sources: int, skewed: bool, rate: float, index: int) -> None:
    """Whatever the shape of the load, the check of conn@1 finds nothing."""
    batch = Load(n_sources=n_sources, skewed=skewed, rate=rate, rows=64).batch(index)

    assert not CONN.check(batch).bad
    assert len(set(batch.column("flow_id").to_pylist())) == 64


def test_messages_go_on_from_each_other() -> None:
    """Ids are distinct over messages, times advance at the stated rate, lanes take turns."""
    messages = list(Load(rate=2_000.0, lanes=3, rows=100).messages(700, first=100))
    rows = pa.Table.from_batches([decode(message.value) for message in messages])
    times = rows.column("event_time").cast(pa.int64()).to_numpy()
    headers = FlowsHeaders.from_kafka(messages[1].headers)

    assert [message.lane for message in messages] == [1, 2, 0, 1, 2, 0]
    assert len(set(rows.column("flow_id").to_pylist())) == 600
    assert set(np.diff(times).tolist()) == {500}
    assert (headers.first, headers.next, headers.rows) == (200, 300, 100)


def test_the_number_of_sources_is_what_was_asked_for() -> None:
    """Skewed or not, hosts come from the whole range; skewed, the first is seen most."""
    skewed, even = (Load(n_sources=50, skewed=s).batch(0).column("src_ip") for s in (True, False))
    most = max(skewed.value_counts().to_pylist(), key=lambda entry: int(entry["counts"]))

    assert len(skewed.unique()) == len(even.unique()) == 50
    assert most["values"][-4:] == bytes([10, 0, 0, 0])
    assert 0.1 < most["counts"] / len(skewed) < 0.3


def test_outliers_have_hosts_of_their_own() -> None:
    """Only the rows asked for are changed."""
    batch = Load(rows=64).batch(5)
    at = np.array([3, 60])
    changed = with_outliers(batch, at, np.array([7, 8]))
    sent = changed.column("src_bytes").to_numpy()

    assert np.flatnonzero(sent == 1 << 50).tolist() == at.tolist()
    assert changed.column("src_ip")[60].as_py()[-4:] == bytes([30, 0, 0, 8])
    assert changed.slice(4, 50).equals(batch.slice(4, 50))
    assert not CONN.check(changed).bad


@pytest.mark.kafka
def test_writer_waits_for_the_workers_and_deletes_behind_them(apache_kafka: KafkaSettings) -> None:
    """Ten messages ahead, not one more; of what is answered three stay."""
    topics = made_topics(apache_kafka, lanes=1)
    behind = Behind(apache_kafka, [topics.flows, topics.dead_letters], keep=3)
    messages = Load(rows=10).messages(180)
    writer = threading.Thread(
        target=write, args=(apache_kafka, topics, messages), kwargs={"room": Room(behind, ahead=10)}
    )
    answers = producer(apache_kafka)
    with KafkaReader(apache_kafka) as reader:
        writer.start()
        writer.join(1.0)
        before = reader.offsets(topics.flows)[0]
        for _ in range(8):
            answers.send(topics.dead_letters, b"an answer").get(timeout=10)
        writer.join(10.0)
        behind.trim()
        after = reader.offsets(topics.flows)[0]
    behind.close()
    answers.close()

    assert before == (0, 10)
    assert after == (8 - 3, 18)


def test_a_message_is_what_the_windows_worker_reads() -> None:
    """Value and headers of a message say the same rows."""
    message: FlowsMessage = Load(rows=32, lanes=2).message(3)

    assert decode(message.value).num_rows == message.rows == 32
    assert message.lane == 1
