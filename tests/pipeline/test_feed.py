"""Replays into an installation: everything once, resumable, and again only when asked."""

import threading

import numpy as np
import pyarrow as pa
import pytest
from brokers import conn_rows, flow_ids, flow_messages, flow_specs, fresh_topics

from connectors.base import Reject
from connectors.errors import BrokerError
from connectors.kafka_settings import KafkaSettings
from connectors.source_memory import MemorySource
from connectors.topics import TopicAdmin, Topics
from pipeline.feed import Sent, feed
from pipeline.settings import Settings, load_settings

N = 100
REJECTS = tuple(Reject(position=at, raw=b"?", reason="bad", detail="bad") for at in (0, 7, 8, N + 2))


def source() -> MemorySource:
    return MemorySource(conn_rows(N), rejects=REJECTS)


def ids(made: MemorySource) -> list[str]:
    return [flow_id for chunk in made.chunks() for flow_id in chunk.rows.column("flow_id").to_pylist()]


@pytest.fixture
def target(broker: KafkaSettings) -> Settings:
    """Fresh topics on a broker."""
    topics = fresh_topics()
    with TopicAdmin(broker) as admin:
        admin.create(flow_specs(topics))
    overrides = {"topics.prefix": topics.prefix, "kafka.bootstrap_servers": broker.bootstrap_servers}
    return load_settings(overrides={**overrides, "writer.rows": 30}, env={})


def sent_ids(target: Settings) -> list[str]:
    return sorted(flow_ids(target.kafka, Topics(target.topics.prefix).flows))


def counts(sent: Sent) -> tuple[int, int, int, int]:
    done = sent.summary
    return done.first, done.next, done.n_sent, done.n_rejected


def test_everything_is_sent_once_however_often_it_is_asked_for(target: Settings) -> None:
    first = feed(target, source())
    second = feed(target, source())

    assert counts(first) == (0, 104, 100, 4)
    assert counts(second) == (104, 104, 0, 0)
    assert sent_ids(target) == sorted(ids(source()))


def test_a_limit_is_a_place_in_the_source(target: Settings) -> None:
    """Asking for the first 50 twice sends 50; without a limit the rest follows."""
    reached: list[int] = []

    assert counts(feed(target, source(), limit=50, progress=reached.append)) == (0, 50, 47, 3)
    assert counts(feed(target, source(), limit=50)) == (50, 50, 0, 0)
    assert counts(feed(target, source())) == (50, 104, 53, 1)
    assert reached == [0, 50]
    assert sent_ids(target) == sorted(ids(source()))


def test_again_sends_new_flows_that_go_on_from_the_clock(target: Settings) -> None:
    """An interrupted second replay is resumed, a whole one is followed by a third."""
    feed(target, source())
    latest_us = conn_rows(N).column("event_time")[N - 1].value

    runs = [feed(target, source(), again=True, limit=limit) for limit in (50, None, None)]

    assert [(sent.run, sent.summary.first) for sent in runs] == [(1, 0), (1, 50), (2, 0)]
    found = sent_ids(target)
    assert len(found) == len(set(found)) == 3 * N
    flows = Topics(target.topics.prefix).flows
    batches = [rows for _, _, rows in flow_messages(target.kafka, flows) if rows.num_rows]
    times_us = np.concatenate([np.asarray(rows.column("event_time").cast(pa.int64())) for rows in batches])
    assert np.sum(times_us >= latest_us) >= 2 * N


def test_an_older_source_is_refused_or_shifted(target: Settings) -> None:
    feed(target, source())
    old_rows = conn_rows(5, start_us=1_600_000_000_000_000, prefix="old")
    older = MemorySource(old_rows, source_id="old")

    with pytest.raises(BrokerError, match="--rebase"):
        feed(target, older)
    assert feed(target, older, rebase=True).summary.n_sent == 5


def test_a_stop_ends_it_and_the_next_run_goes_on(target: Settings) -> None:
    stop = threading.Event()
    stop.set()

    stopped = feed(target, source(), stop=stop)
    feed(target, source())

    assert stopped.summary.next < 104
    assert sent_ids(target) == sorted(ids(source()))
