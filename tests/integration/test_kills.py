"""Workers killed with -9 in mid-stream change nothing; asked to end, they lose nothing."""

import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from accounts import published_flows
from cases import MakeStream
from stream import STAGES, Stream, killed, stopped

from connectors.base import Source
from connectors.source_memory import MemorySource
from connectors.sources import open_source
from pipeline.feed import feed

pytestmark = [pytest.mark.data, pytest.mark.slow, pytest.mark.timeout(240)]

N = 1500
ROWS = 25
SEED = 5
SENDING_S = 35.0
"""How long the flows take to come in, so that workers can be killed meanwhile."""
ENDING_S = 15.0
"""The same, where they are only asked to end."""

OPEN = {"grouping": {"enabled": False}}
GROUPED = {"panel": {"alpha": 0.2}, "grouping": {"bucket_s": 5.0}}


@pytest.fixture(scope="module")
def source(data_dir: Path) -> Source:
    """The first records of UNSW-NB15 as plain flows of three sensors, which fill both lanes."""
    rows = next(iter(open_source("unsw-conn", data_dir).chunks())).rows.slice(0, N)
    return MemorySource(with_sensors(rows))


def with_sensors(rows: pa.RecordBatch) -> pa.RecordBatch:
    at = rows.schema.get_field_index("sensor")
    names = [f"site-{i % 3}" for i in range(rows.num_rows)]
    return rows.set_column(at, rows.schema.field(at), pa.array(names))


LANES = {"site-0": 0, "site-1": 1, "site-2": 1}


@pytest.fixture(scope="module")
def calm_alerts() -> dict[str, dict[str, bytes]]:
    """Return the alerts of undisturbed streams by name, of whichever broker came first."""
    return {}


def undisturbed(make_stream: MakeStream, source: Source, sections: dict[str, Any]) -> dict[str, bytes]:
    stream = make_stream("unsw-conn", writer={"rows": 400, "sensor_lanes": LANES}, **sections)
    stream.start(*STAGES)
    stream.send(source)
    return stream.settle().alerts


def span_s(source: Source) -> float:
    times = next(iter(source.chunks())).rows.column("event_time")
    return float(pc.max(times).value - pc.min(times).value) / 1e6


@contextmanager
def sending(stream: Stream, source: Source, seconds: float) -> Iterator[None]:
    """Send the flows over some time, from a thread; all are sent when this ends."""
    speed = span_s(source) / seconds
    thread = threading.Thread(target=lambda: feed(stream.settings, source, speed=speed))
    thread.start()
    try:
        yield
    finally:
        thread.join()


def disturb(stream: Stream, rng: random.Random) -> None:
    """Kill one worker of each role while flows come in, and start another."""
    for stage in rng.sample(STAGES, len(STAGES)):
        done = sum(stream.accounts.look().scored.values())
        stream.wait_for_verdicts(done + rng.randrange(1, 100))
        killed(rng.choice([w for w in stream.workers if w.stage == stage and w.ended() is None]))
        assert stream.accounts.balance[0] < N, "the kill came too late"
        stream.start(stage)


@pytest.mark.parametrize("name", ["every flow", "groups"])
def test_killed_workers_change_nothing(
    make_stream: MakeStream, source: Source, calm_alerts: dict[str, dict[str, bytes]], name: str
) -> None:
    """Two workers a role, one of each killed and started again: the same ids and bytes, none missing."""
    sections = {"every flow": OPEN, "groups": GROUPED}[name]
    if name not in calm_alerts:
        calm_alerts[name] = undisturbed(make_stream, source, sections)
    stream = make_stream("unsw-conn", writer={"rows": ROWS, "sensor_lanes": LANES}, **sections)
    stream.start(*STAGES, *STAGES)
    with sending(stream, source, SENDING_S):
        disturb(stream, random.Random(SEED))
    books = stream.settle(within_s=90)

    assert stream.accounts.balance == (N, N, 0)
    assert calm_alerts[name] == books.alerts
    assert len(published_flows(books)) == N if sections is OPEN else len(books.alerts) > 20


@pytest.mark.parametrize(
    ("broker", "number"),
    [
        pytest.param("local_broker", signal.SIGTERM, marks=pytest.mark.broker),
        pytest.param("apache_kafka", signal.SIGINT, marks=pytest.mark.kafka),
    ],
    indirect=["broker"],
)
def test_workers_end_when_asked(make_stream: MakeStream, source: Source, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C in mid-stream end a worker with exit code 0; what was in flight is not lost."""
    stream = make_stream("unsw-conn", writer={"rows": 10}, **OPEN)
    workers = stream.start(*STAGES)
    with sending(stream, source, ENDING_S):
        stream.wait_for_verdicts(100)
        codes = [stopped(worker, number) for worker in reversed(workers)]

    stream.accounts.look()
    assert stream.accounts.unanswered
    assert codes == [0, 0, 0]
    assert not any("Traceback" in worker.text for worker in workers)
    stream.start(*STAGES)
    books = stream.settle(within_s=90)
    assert stream.accounts.balance == (N, N, 0)
    assert len(published_flows(books)) == N
