"""The flows writer run again after any end, on real brokers: nothing lost, nothing twice."""

import itertools
import signal
import subprocess
import sys
import time
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

from connectors import broker_local
from connectors.child import Child
from connectors.errors import BrokerError
from connectors.kafka_reader import Message
from connectors.kafka_settings import KafkaSettings
from connectors.source_memory import MemorySource
from connectors.topics import Topics
from connectors.wire import FlowsHeaders

WRITER_PROCESS = Path(__file__).parent.parent / "support" / "writer_process.py"
HOUR_US = 3_600_000_000


def _expected_ids(source: MemorySource) -> list[str]:
    return sorted(
        flow_id for chunk in source.chunks() for flow_id in chunk.rows.column("flow_id").to_pylist()
    )


def test_another_source_in_between_is_no_matter(broker: KafkaSettings) -> None:
    """Run A, run B with many messages, run A again: A's end is found in B's messages."""
    topics = made_topics(broker, lanes=2)
    a = MemorySource(conn_rows(400, sensors=("s1", "s2", "s3"), prefix="a"))
    b = MemorySource(conn_rows(3000, sensors=("s1", "s2", "s3"), prefix="b", start_us=NOON_US + HOUR_US))
    write_all(broker, topics, a)
    write_all(broker, topics, b, rows=10)

    again = write_all(broker, topics, a)

    assert (again.start, again.rows_by_lane) == (400, {})
    assert sorted(flow_ids(broker, topics.flows)) == sorted(_expected_ids(a) + _expected_ids(b))


def test_a_source_that_grew_goes_on(broker: KafkaSettings) -> None:
    """A source with its old id and more records: only the new ones are sent."""
    topics, rows = made_topics(broker), conn_rows(1000, sensors=("s1", "s2"))
    write_all(broker, topics, MemorySource(rows.slice(0, 600), source_id="log"))
    writer = write_all(broker, topics, MemorySource(rows, source_id="log"))

    assert (writer.start, sum(writer.rows_by_lane.values())) == (600, 400)
    assert sorted(flow_ids(broker, topics.flows)) == sorted(rows.column("flow_id").to_pylist())


def test_stopped_without_warning_it_goes_on(broker: KafkaSettings) -> None:
    """An exception in mid-file: what had been written is skipped lane by lane, nothing twice."""
    topics, source = made_topics(broker), conn_source(3000)
    with pytest.raises(KeyboardInterrupt):
        _write_then_raise(broker, topics, source)

    resumed = write_all(broker, topics, source)

    assert resumed.start <= 13 * 90
    assert sorted(flow_ids(broker, topics.flows)) == _expected_ids(source)
    assert len({letter.id for letter in dead_letters(broker, topics)}) == 20


def _write_then_raise(settings: KafkaSettings, topics: Topics, source: MemorySource) -> None:
    with open_writer(settings, topics, source, rows=50) as writer:
        for chunk in itertools.islice(source.chunks(rows=90), 13):
            writer.write(chunk)
        raise KeyboardInterrupt


@pytest.mark.parametrize("kill_at", [400, 2500])
def test_killed_it_goes_on(broker: KafkaSettings, kill_at: int) -> None:
    """Killed with -9 in mid-file and run again, every flow is there, in order, none twice."""
    topics, source = made_topics(broker), conn_source(6000)
    process = subprocess.Popen(
        [sys.executable, str(WRITER_PROCESS), broker.servers, topics.prefix, "6000"],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{Path.cwd()}:{WRITER_PROCESS.parent}", "PATH": "/usr/bin:/bin"},
    )
    assert process.stdout is not None
    with process:
        for line in process.stdout:
            if line.strip() == "finished" or int(line) >= kill_at:
                process.send_signal(signal.SIGKILL)
                break
        assert line.strip() != "finished"

    n_before = len(flow_ids(broker, topics.flows))
    resumed = write_all(broker, topics, source)

    assert n_before >= kill_at * 0.9
    assert resumed.resumed
    assert sum(resumed.rows_by_lane.values()) == 5980 - n_before
    assert sorted(flow_ids(broker, topics.flows)) == _expected_ids(source)
    assert {x.position for x in dead_letters(broker, topics)} == {
        reject.position for chunk in source.chunks() for reject in chunk.rejects
    }
    assert len({letter.id for letter in dead_letters(broker, topics)}) == 20


@pytest.mark.broker
def test_a_broker_that_hangs_is_an_error_and_a_second_run_goes_on(tmp_path: Path) -> None:
    """No answer in mid-file: one sentence after the delivery timeout; later the rest is written.

    What was on its way when the broker froze may be written twice: whole messages, below the mark
    that makes the features workers drop them.
    """
    address = f"127.0.0.1:{broker_local.free_port()}"
    child = Child(broker_local._command(address), tmp_path / "broker.log")
    settings = KafkaSettings(
        bootstrap_servers=(address,), request_timeout_s=1, delivery_timeout_s=2, connect_timeout_s=2
    )
    try:
        broker_local.wait_ready(settings, child.ended, child.log_tail, 20)
        topics, source = made_topics(settings), conn_source(4000)
        begun = time.monotonic()
        with pytest.raises(BrokerError, match=r"cannot write to .*run again to go on from there") as caught:
            _freeze_in_mid_file(settings, topics, source, child)
        assert time.monotonic() - begun < 10
        assert "\n" not in str(caught.value)
        child.send_signal(signal.SIGCONT)
        write_all(settings, topics, source)
        found = flow_messages(settings, topics.flows)
    finally:
        child.send_signal(signal.SIGCONT)
        child.stop()
    _assert_repeats_lie_below_the_mark(found)
    ids = {flow_id for _, _, rows in found for flow_id in rows.column("flow_id").to_pylist()}
    assert sorted(ids) == _expected_ids(source)


def _freeze_in_mid_file(settings: KafkaSettings, topics: Topics, source: MemorySource, child: Child) -> None:
    with open_writer(settings, topics, source, rows=100) as writer:
        for number, chunk in enumerate(source.chunks(rows=100)):
            if number == 20:
                child.send_signal(signal.SIGSTOP)
            writer.write(chunk)
        writer.finish()


def _assert_repeats_lie_below_the_mark(
    found: list[tuple[Message, FlowsHeaders, pa.RecordBatch]],
) -> None:
    marks: dict[int, int] = {}
    for message, headers, rows in found:
        positions = rows.column("position").to_pylist()
        mark = marks.get(message.partition, 0)
        assert all(p >= mark for p in positions) or all(p < mark for p in positions)
        marks[message.partition] = max(mark, headers.next)
