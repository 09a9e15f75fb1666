"""Topics on real brokers."""

import pytest
from brokers import flow_specs, fresh_topics

from connectors.errors import BrokerError
from connectors.kafka_settings import KafkaSettings
from connectors.topics import MAX_MESSAGE_BYTES, TopicAdmin, Topics, TopicSpec


def test_names_follow_the_prefix() -> None:
    """All topics of an installation share its prefix and say their version."""
    topics = Topics("site")

    assert [
        topics.flows,
        topics.features("conn"),
        topics.detections("main"),
        topics.alerts,
        topics.dead_letters,
    ] == [
        "site.flows.v1",
        "site.features.conn.v1",
        "site.detections.main.v1",
        "site.alerts.v1",
        "site.dead-letters.v1",
    ]


@pytest.mark.parametrize("prefix", ["", "a b", "ä", "x" * 101, "a/b"])
def test_a_prefix_must_fit_kafka(prefix: str) -> None:
    """A name that Kafka would refuse is refused here, with the letters it may have."""
    with pytest.raises(BrokerError, match="use letters, digits"):
        Topics(prefix)


def test_creating_twice_is_creating_once(broker: KafkaSettings) -> None:
    """Topics that are there already, with the same lanes, are left as they are."""
    specs = flow_specs(fresh_topics())
    names = [spec.name for spec in specs]
    with TopicAdmin(broker) as admin:
        assert admin.create(specs) == names
        assert admin.create(specs) == []
        assert admin.partitions([*names, "nobody"]) == {names[0]: 3, names[1]: 1}
        assert set(names) <= set(admin.names())


def test_another_number_of_lanes_is_refused(broker: KafkaSettings) -> None:
    """Lanes are fixed for a prefix; nothing else of the call is made either."""
    topics = fresh_topics()
    with TopicAdmin(broker) as admin:
        admin.create([TopicSpec(name=topics.flows, partitions=3)])
        with pytest.raises(BrokerError, match=r"flows.v1 has 3 partitions, expected 4.*another prefix"):
            admin.create(
                [TopicSpec(name=topics.alerts, partitions=1), TopicSpec(name=topics.flows, partitions=4)]
            )
        assert admin.partitions([topics.alerts]) == {}


def test_deleted_topics_are_gone(broker: KafkaSettings) -> None:
    """When delete returns, the name is free; deleting what is not there is nothing."""
    specs = flow_specs(fresh_topics())
    with TopicAdmin(broker) as admin:
        admin.create(specs)
        assert admin.delete([spec.name for spec in specs]) == sorted(spec.name for spec in specs)
        assert admin.partitions([spec.name for spec in specs]) == {}
        assert admin.delete([specs[0].name]) == []
        assert admin.create(specs) == [spec.name for spec in specs]


@pytest.mark.kafka
def test_kafka_keeps_the_settings(apache_kafka: KafkaSettings) -> None:
    """Retention and message size reach the broker (the local broker keeps no settings)."""
    topics = fresh_topics()
    with TopicAdmin(apache_kafka) as admin:
        admin.create([TopicSpec(name=topics.flows, partitions=1, retention_ms=3_600_000)])
        configs = admin.configs([topics.flows])[topics.flows]
        kept = admin.retention_ms([topics.flows])

    assert kept == {topics.flows: 3_600_000}
    assert configs["max.message.bytes"] == str(MAX_MESSAGE_BYTES)


@pytest.mark.kafka
def test_too_many_copies_are_one_sentence(apache_kafka: KafkaSettings) -> None:
    """More replicas than brokers: what to lower is said."""
    spec = TopicSpec(name=fresh_topics().flows, partitions=1, replication_factor=3)
    with TopicAdmin(apache_kafka) as admin, pytest.raises(BrokerError, match="lower the replication factor"):
        admin.create([spec])
