"""Replays into real brokers: paced, limited, stopped, shifted."""

import threading
import time

import numpy as np
import pyarrow as pa
from brokers import (
    NOON_US,
    conn_rows,
    conn_source,
    dead_letters,
    flow_ids,
    flow_messages,
    made_topics,
    open_writer,
)

from connectors.kafka_settings import KafkaSettings
from connectors.run_replay import ReplaySummary, replay
from connectors.source_memory import MemorySource
from connectors.topics import Topics

HOUR_US = 3_600_000_000


def _replay(settings: KafkaSettings, topics: Topics, source: MemorySource, **how: object) -> ReplaySummary:
    with open_writer(settings, topics, source) as writer:
        return replay(source, writer, **how)


def _times(settings: KafkaSettings, topics: Topics) -> list[int]:
    batches = [rows for _, _, rows in flow_messages(settings, topics.flows)]
    table = pa.Table.from_batches(batches).sort_by("position")
    times: list[int] = table.column("event_time").cast(pa.int64()).to_pylist()
    return times


def test_the_summary_adds_up(broker: KafkaSettings) -> None:
    """Sent, rejected and skipped are all records of the source; a second run skips them all."""
    topics, source = made_topics(broker), conn_source(5000)
    reached: list[int] = []
    first = _replay(broker, topics, source, progress=reached.append)
    second = _replay(broker, topics, source)

    assert (first.n_sent, first.n_rejected, first.n_skipped) == (4980, 20, 0)
    assert (first.first, first.next, sum(first.lanes.values())) == (0, 5000, 4980)
    assert reached == [0, 4000, 5000]
    assert (second.n_sent, second.n_rejected, second.n_skipped, second.lanes) == (0, 0, 5000, {})
    assert len(flow_ids(broker, topics.flows)) == 4980


def test_a_limit_counts_the_records_of_the_source(local_broker: KafkaSettings) -> None:
    """The same limited command again adds nothing; without the limit the rest follows."""
    topics, source = made_topics(local_broker), conn_source(1000)
    first = _replay(local_broker, topics, source, limit=333)
    again = _replay(local_broker, topics, source, limit=333)
    rest = _replay(local_broker, topics, source)

    assert (first.n_sent + first.n_rejected, first.next) == (333, 333)
    assert (again.n_sent + again.n_rejected, again.n_skipped) == (0, 333)
    assert (rest.n_sent + rest.n_rejected, rest.first, rest.next) == (667, 333, 1000)
    assert len(set(flow_ids(local_broker, topics.flows))) == len(flow_ids(local_broker, topics.flows)) == 980
    assert len(dead_letters(local_broker, topics)) == 20


def test_speed_paces_by_event_time(local_broker: KafkaSettings) -> None:
    """Ten seconds of traffic at ten times the speed take one, and arrive spread over it."""
    topics, source = made_topics(local_broker), MemorySource(conn_rows(1000, step_us=10_000))
    summary = _replay(local_broker, topics, source, speed=10.0)

    messages = [message for message, headers, _ in flow_messages(local_broker, topics.flows) if headers.rows]
    assert 0.9 < summary.seconds < 3
    assert summary.n_sent == 1000
    assert messages[-1].timestamp_ms - messages[0].timestamp_ms > 300
    assert flow_ids(local_broker, topics.flows) == [f"f{i}" for i in range(1000)]


def test_a_stop_loses_nothing(local_broker: KafkaSettings) -> None:
    """Stopped while it waits for event time: what was sent is flushed, and the rest follows later."""
    topics, source = made_topics(local_broker), conn_source(2000)
    stop = threading.Event()
    timer = threading.Timer(0.4, stop.set)
    timer.start()
    begun = time.monotonic()
    stopped = _replay(local_broker, topics, source, speed=1.0, stop=stop)
    timer.join()

    assert time.monotonic() - begun < 3
    assert 0 < stopped.next < 2000
    assert stopped.n_sent + stopped.n_rejected == stopped.next
    assert flow_messages(local_broker, topics.flows)[-1][1].flush
    rest = _replay(local_broker, topics, source)
    assert rest.first == stopped.next
    assert len(set(flow_ids(local_broker, topics.flows))) == len(flow_ids(local_broker, topics.flows)) == 1980


def test_a_stop_set_before_sends_nothing(local_broker: KafkaSettings) -> None:
    """Ctrl-C during start-up."""
    topics, source = made_topics(local_broker), conn_source(100)
    stop = threading.Event()
    stop.set()

    assert _replay(local_broker, topics, source, stop=stop).next == 0
    assert flow_messages(local_broker, topics.flows) == []


def test_rebase_goes_on_from_the_clock(local_broker: KafkaSettings) -> None:
    """An older source, shifted, begins at the lanes' clock and keeps its distances."""
    topics = made_topics(local_broker)
    _replay(local_broker, topics, MemorySource(conn_rows(100), source_id="now"))
    old = MemorySource(conn_rows(100, start_us=NOON_US - HOUR_US, prefix="o"), source_id="old")
    _replay(local_broker, topics, old, rebase=True)

    shifted = next(
        rows.column("event_time").cast(pa.int64()).to_pylist()
        for _, headers, rows in flow_messages(local_broker, topics.flows)
        if headers.source == "old" and headers.rows
    )
    assert shifted[0] == NOON_US + 99_000
    assert set(np.diff(shifted).tolist()) == {1000}


def test_a_rebased_source_resumes_with_its_shift(local_broker: KafkaSettings) -> None:
    """Cut short and run again without --rebase: the shift that it began with holds."""
    topics = made_topics(local_broker)
    _replay(local_broker, topics, MemorySource(conn_rows(100), source_id="now"))
    old = MemorySource(conn_rows(100, start_us=NOON_US - HOUR_US, prefix="o"), source_id="old")
    _replay(local_broker, topics, old, rebase=True, limit=40)
    resumed = _replay(local_broker, topics, old)

    times = [
        time_us
        for _, headers, rows in flow_messages(local_broker, topics.flows)
        if headers.source == "old"
        for time_us in rows.column("event_time").cast(pa.int64()).to_pylist()
    ]
    assert resumed.first == 40
    assert times == list(range(NOON_US + 99_000, NOON_US + 199_000, 1000))


def test_rebase_leaves_a_newer_source_alone(local_broker: KafkaSettings) -> None:
    """Into empty lanes, or ahead of the clock, nothing is shifted."""
    topics, source = made_topics(local_broker), MemorySource(conn_rows(10))
    _replay(local_broker, topics, source, rebase=True)

    assert _times(local_broker, topics)[0] == NOON_US
