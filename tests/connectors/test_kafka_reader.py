"""Reading without a group, on real brokers."""

import threading
import time
from typing import Any

import pytest
from brokers import fresh_topics
from kafka import KafkaConsumer, TopicPartition

from connectors.broker_kafka import kafka_broker, missing_tools
from connectors.errors import BrokerError
from connectors.kafka_client import admin, producer
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, TopicSpec

HEADERS = [("h", b"1"), ("h", b"2")]


def _topic(settings: KafkaSettings, partitions: int = 2) -> str:
    name = fresh_topics().alerts
    with TopicAdmin(settings) as topic_admin:
        topic_admin.create([TopicSpec(name=name, partitions=partitions)])
    return name


def _send(settings: KafkaSettings, topic: str, n: int, *, partition: int = 0, **options: Any) -> None:
    """Send `n` messages, many in one Kafka batch: brokers answer differently for those."""
    client = producer(settings, linger_ms=20, **options)
    for index in range(n):
        client.send(topic, b"v%d" % index, key=b"k", partition=partition, headers=HEADERS)
    client.flush(10)
    client.close()


def test_a_message_comes_as_it_was_sent(broker: KafkaSettings) -> None:
    """Key, value, headers in order and a wall-clock timestamp."""
    topic = _topic(broker)
    before_ms = time.time() * 1000 - 1
    _send(broker, topic, 1)
    with KafkaReader(broker) as reader:
        [message] = reader.read_range(topic, 0, 0, 1)

    assert (message.topic, message.partition, message.offset) == (topic, 0, 0)
    assert (message.key, message.value, message.headers) == (b"k", b"v0", tuple(HEADERS))
    assert before_ms <= message.timestamp_ms <= time.time() * 1000 + 1


def test_offsets_count_every_message(broker: KafkaSettings) -> None:
    """The end is behind the last message, in whatever batches they were sent; empty is (0, 0)."""
    topic = _topic(broker)
    _send(broker, topic, 7)
    with KafkaReader(broker) as reader:
        assert reader.offsets(topic) == {0: (0, 7), 1: (0, 0)}
        _send(broker, topic, 3)
        assert reader.offsets(topic) == {0: (0, 10), 1: (0, 0)}


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 10, range(10)),
        (3, 6, range(3, 6)),
        (8, 99, range(8, 10)),
        (-5, 2, range(2)),
        (5, 5, ()),
        (50, 60, ()),
    ],
)
def test_a_range_is_read_exactly(
    broker: KafkaSettings, start: int, stop: int, expected: tuple[int, ...] | range
) -> None:
    """From start up to stop, as far as the log has it; nothing waits for what is not there."""
    topic = _topic(broker)
    _send(broker, topic, 6)
    _send(broker, topic, 4)
    begun = time.monotonic()
    with KafkaReader(broker) as reader:
        assert [m.offset for m in reader.read_range(topic, 0, start, stop)] == list(expected)
        assert list(reader.read_range(topic, 1, start, stop)) == []

    assert time.monotonic() - begun < 5


def test_the_last_messages(broker: KafkaSettings) -> None:
    """The last n, oldest first; fewer where there are fewer."""
    topic = _topic(broker)
    _send(broker, topic, 5)
    with KafkaReader(broker) as reader:
        assert [m.value for m in reader.last_messages(topic, 0, 2)] == [b"v3", b"v4"]
        assert [m.offset for m in reader.last_messages(topic, 0, 99)] == [0, 1, 2, 3, 4]
        assert reader.last_messages(topic, 0, 0) == []
        assert reader.last_messages(topic, 1, 3) == []


@pytest.mark.kafka
def test_gaps_are_passed_over(apache_kafka: KafkaSettings) -> None:
    """Transaction markers take offsets without being messages; reading ends all the same."""
    topic = _topic(apache_kafka)
    client = producer(apache_kafka, transactional_id=f"tx-{topic}")
    client.init_transactions()
    for index in range(4):
        client.begin_transaction()
        client.send(topic, b"v%d" % index, partition=0)
        client.commit_transaction()
    client.close()
    begun = time.monotonic()
    with KafkaReader(apache_kafka) as reader:
        assert reader.offsets(topic)[0] == (0, 8)
        assert [m.offset for m in reader.read_range(topic, 0, 0, 8)] == [0, 2, 4, 6]
        assert [m.offset for m in reader.read_range(topic, 0, 7, 8)] == []
        assert [m.value for m in reader.last_messages(topic, 0, 3)] == [b"v1", b"v2", b"v3"]

    assert time.monotonic() - begun < 10


def _cut_off(settings: KafkaSettings, topic: str, offset: int) -> None:
    client = admin(settings)
    client.delete_records({TopicPartition(topic, 0): offset})
    client.close()


@pytest.mark.kafka
def test_a_log_may_lose_its_beginning(apache_kafka: KafkaSettings) -> None:
    """What retention took is left out, before reading and in the middle of it."""
    topic = _topic(apache_kafka)
    _send(apache_kafka, topic, 10, batch_size=0)
    _cut_off(apache_kafka, topic, 4)
    with KafkaReader(apache_kafka) as reader:
        assert reader.offsets(topic)[0] == (4, 10)
        assert [m.offset for m in reader.read_range(topic, 0, 0, 10)] == [4, 5, 6, 7, 8, 9]
        assert [m.offset for m in reader.follow(topic, {0: 1}, idle_timeout_s=1)] == [4, 5, 6, 7, 8, 9]


def test_follow_sees_what_comes(broker: KafkaSettings) -> None:
    """From the latest: only what is sent afterwards; it ends when told to."""
    topic = _topic(broker)
    _send(broker, topic, 5)
    stop = threading.Event()
    seen: list[int] = []
    with KafkaReader(broker) as reader:
        following = reader.follow(topic, "latest", stop=stop, idle_timeout_s=20)
        timer = threading.Timer(0.5, _send, (broker, topic, 3))
        timer.start()
        for message in following:
            seen.append(message.offset)
            if len(seen) == 3:
                stop.set()
        timer.join()

    assert seen == [5, 6, 7]


def test_follow_from_anywhere(broker: KafkaSettings) -> None:
    """From the beginning, or from offsets, all partitions; it ends when nothing comes."""
    topic = _topic(broker)
    _send(broker, topic, 4)
    _send(broker, topic, 2, partition=1)
    with KafkaReader(broker) as reader:
        found = [(m.partition, m.offset) for m in reader.follow(topic, "beginning", idle_timeout_s=0.5)]
        assert sorted(found) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
        found = [(m.partition, m.offset) for m in reader.follow(topic, {0: 3, 1: 2}, idle_timeout_s=0.5)]
        assert found == [(0, 3)]


def test_offsets_of_another_log_are_refused(broker: KafkaSettings) -> None:
    """An offset beyond the end belongs to a topic that is no more."""
    topic = _topic(broker)
    with KafkaReader(broker) as reader, pytest.raises(BrokerError, match=r"offset 7 .* lies beyond the log"):
        list(reader.follow(topic, {0: 7}, idle_timeout_s=0.5))


def test_a_missing_topic_is_one_sentence(broker: KafkaSettings) -> None:
    """Not there, and not made by looking for it."""
    topic = fresh_topics().flows
    with KafkaReader(broker) as reader:
        for read in (
            lambda: reader.offsets(topic),
            lambda: reader.last_messages(topic, 0, 1),
            lambda: list(reader.follow(topic)),
            lambda: list(reader.read_range(topic, 0, 0, 1)),
        ):
            with pytest.raises(BrokerError, match=f"topic {topic} does not exist at .*; create it"):
                read()
    with TopicAdmin(broker) as topic_admin:
        assert topic not in topic_admin.names()


def test_committed_offsets(broker: KafkaSettings) -> None:
    """What a group has committed, for each partition where it has; an unknown group has nothing."""
    topic = _topic(broker)
    _send(broker, topic, 5)
    group = f"g-{topic}"
    consumer = KafkaConsumer(
        topic,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=6000,
        **broker.client_options(),
    )
    deadline = time.monotonic() + 30
    while not consumer.poll(500):
        assert time.monotonic() < deadline
    consumer.commit()
    consumer.close()
    with KafkaReader(broker) as reader:
        assert reader.committed(group, topic).get(0) == 5
        assert reader.committed(f"nobody-{topic}", topic) == {}


@pytest.mark.kafka
def test_the_first_group_of_a_new_cluster_is_waited_for() -> None:
    """While Kafka still makes its offsets topic, the answer is late, not an error."""
    if missing := missing_tools():
        pytest.skip(f"Apache Kafka needs {missing}, not installed here")
    with kafka_broker() as settings:
        topic = _topic(settings)
        with KafkaReader(settings) as reader:
            assert reader.committed("nobody", topic) == {}
