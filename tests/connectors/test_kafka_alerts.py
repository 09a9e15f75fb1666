"""Subscribing to alerts on real brokers."""

import json
from collections.abc import Sequence

from brokers import fresh_topics

from connectors.alerts_subscriber import AlertsSubscriber
from connectors.kafka_client import producer
from connectors.kafka_reader import Message
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, Topics, TopicSpec


def _publish(settings: KafkaSettings, values: Sequence[bytes | None], partitions: int = 1) -> Topics:
    topics = fresh_topics()
    with TopicAdmin(settings) as admin:
        admin.create([TopicSpec(name=topics.alerts, partitions=partitions)])
    client = producer(settings)
    for index, value in enumerate(values):
        client.send(topics.alerts, value, key=b"k", partition=index % partitions)
    client.flush(5)
    client.close()
    return topics


def _alert(alert_id: str) -> bytes:
    return json.dumps({"event": {"id": alert_id, "kind": "alert"}, "n": 1}).encode()


def _ids(subscriber: AlertsSubscriber) -> list[str]:
    received = subscriber.follow("beginning", idle_timeout_s=0.7)
    return [item.alert["event"]["id"] for item in received]


def test_each_alert_comes_once(broker: KafkaSettings) -> None:
    """Repeats by id are dropped, wherever they stand; the first of each comes, in order."""
    topics = _publish(broker, [_alert(x) for x in ("a", "b", "a", "c", "b", "a", "d")])
    with AlertsSubscriber(broker, topics) as subscriber:
        assert _ids(subscriber) == ["a", "b", "c", "d"]
        assert subscriber.n_repeats == 3


def test_the_bytes_are_those_published(local_broker: KafkaSettings) -> None:
    """Decoded for reading, raw for passing on."""
    raw = b'{"event" : {"id":"x"},  "n":1.0}'
    topics = _publish(local_broker, [raw])
    with AlertsSubscriber(local_broker, topics) as subscriber:
        [received] = subscriber.follow("beginning", idle_timeout_s=0.7)

    assert (received.raw, received.alert) == (raw, {"event": {"id": "x"}, "n": 1.0})
    assert received.message.offset == 0


def test_what_is_no_alert_is_reported_and_skipped(local_broker: KafkaSettings) -> None:
    """Rubbish of any kind never ends the subscription."""
    rubbish = [b"", None, b"{", b"\xff\xfe", b"[1]", b"3", b"null", b"[" * 100_000, b'{"a":\xff}']
    topics = _publish(local_broker, [*rubbish, _alert("a")])
    bad: list[tuple[Message, str]] = []
    with AlertsSubscriber(local_broker, topics, on_bad=lambda m, why: bad.append((m, why))) as subscriber:
        assert _ids(subscriber) == ["a"]
        assert subscriber.n_bad == len(rubbish)

    assert [message.offset for message, _ in bad] == list(range(len(rubbish)))
    assert all("expected one JSON object" in why for _, why in bad)


def test_json_of_somebody_else_is_passed_on(local_broker: KafkaSettings) -> None:
    """Without an id there is nothing to know a repeat by: it comes each time."""
    odd = [b"{}", b"{}", b'{"event": 3}', b'{"event": {"id": 7}}']
    topics = _publish(local_broker, odd)
    with AlertsSubscriber(local_broker, topics) as subscriber:
        assert [x.raw for x in subscriber.follow("beginning", idle_timeout_s=0.7)] == odd


def test_memory_is_bounded(local_broker: KafkaSettings) -> None:
    """Only the ids seen last are remembered: an old one may come again, a fresh one never does."""
    values = [_alert(x) for x in ("a", "b", "c", "c", "b", "a")]
    topics = _publish(local_broker, values)
    with AlertsSubscriber(local_broker, topics, remembered=2) as subscriber:
        assert _ids(subscriber) == ["a", "b", "c", "a"]
        assert len(subscriber._seen) == 2
