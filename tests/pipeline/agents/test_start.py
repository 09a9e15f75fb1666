"""A worker that cannot keep its promises does not start, and says why."""

import pytest
from brokers import fresh_topics

from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, Topics, TopicSpec
from pipeline.agents.app import run_worker
from pipeline.errors import PipelineError
from pipeline.settings import Settings, load_settings

HOUR_MS = 3_600_000


def settings_of(kafka: KafkaSettings, topics: Topics, **others: str) -> Settings:
    overrides = {"kafka.bootstrap_servers": kafka.servers, "topics.prefix": topics.prefix, **others}
    return load_settings(overrides=overrides, env={})


@pytest.mark.kafka
def test_a_journal_that_expires_before_the_flows_is_refused(apache_kafka: KafkaSettings) -> None:
    """Otherwise a restarted worker would find no journal for flows that are still there."""
    topics = fresh_topics()
    features = TopicSpec(name=topics.features("conn"), partitions=1, retention_ms=HOUR_MS)
    flows = TopicSpec(name=topics.flows, partitions=1, retention_ms=2 * HOUR_MS)
    letters = TopicSpec(name=topics.dead_letters, partitions=1)
    with TopicAdmin(apache_kafka) as admin:
        admin.create([flows, features, letters])

    with pytest.raises(PipelineError, match=r"keeps 1 h, shorter than .* 2 h.*set retention.ms"):
        run_worker("features", settings_of(apache_kafka, topics))


@pytest.mark.broker
def test_unequal_lanes_are_refused(local_broker: KafkaSettings) -> None:
    """A lane keeps its number through all topics, so they need equally many."""
    topics = fresh_topics()
    names = (topics.flows, topics.features("conn"), topics.dead_letters)
    specs = [TopicSpec(name=name, partitions=n) for name, n in zip(names, (2, 3, 1), strict=True)]
    with TopicAdmin(local_broker) as admin:
        admin.create(specs)

    with pytest.raises(PipelineError, match="same number of partitions"):
        run_worker("features", settings_of(local_broker, topics))


def test_torn_windows_are_refused() -> None:
    """Lanes by source would tear the windows by destination."""
    kafka = KafkaSettings()

    with pytest.raises(PipelineError, match=r"writer\.lane_by: src does not go with feature set conn"):
        run_worker("features", settings_of(kafka, Topics("t"), **{"writer.lane_by": "src"}))
