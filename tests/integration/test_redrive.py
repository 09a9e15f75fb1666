"""What was rejected wrongly comes back: each flow once, and no alert of any other changes."""

import subprocess
import sys
from typing import Any

import pytest
import yaml
from accounts import Books, published_flows
from brokers import conn_rows
from cases import MakeStream
from stream import ROOT, STAGES, Stream, stopped

from connectors.kafka_reader import KafkaReader
from connectors.source_memory import MemorySource
from connectors.wire import FlowsHeaders, encode
from pipeline.topic_plan import topic_specs

pytestmark = [pytest.mark.data, pytest.mark.slow]

OPEN = {"grouping": {"enabled": False}}
MANY = 700
"""Letters; the lines that tell of them are more than a pipe holds."""


def command(stream: Stream, *args: str) -> list[str]:
    given = ["dead-letters", "redrive", "-c", str(stream.config), *args]
    return [sys.executable, "-m", "pipeline.cli.main", *given]


def redrive(stream: Stream, *args: str) -> subprocess.CompletedProcess[str]:
    done = command(stream, *args)
    return subprocess.run(done, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def ends(stream: Stream) -> dict[str, dict[int, tuple[int, int]]]:
    """Return where every topic of the installation begins and ends."""
    with KafkaReader(stream.kafka) as reader:
        return {spec.name: reader.offsets(spec.name) for spec in topic_specs(stream.settings)}


def put(stream: Stream, prefix: str, n: int, start_s: int, lane: int = 0) -> None:
    rows = conn_rows(n, prefix=prefix, start_us=(1_700_000_000 + start_s) * 1_000_000)
    stream.put(encode(rows), FlowsHeaders(record="conn@1", rows=n).to_kafka(), lane)


def change(stream: Stream, **sections: dict[str, Any]) -> None:
    """Start the features worker again with other settings."""
    for name, section in sections.items():
        stream.sections.setdefault(name, {}).update(section)
    stream.config.write_text(yaml.safe_dump(stream.sections))
    (worker,) = [w for w in stream.workers if w.stage == "features" and w.ended() is None]
    assert stopped(worker) == 0
    stream.start("features")


def flow_ids(books: Books) -> list[str]:
    return [flow_id for ids in books.sent.values() for flow_id in ids]


def test_a_message_rejected_wrongly_comes_back_once(make_stream: MakeStream) -> None:
    """Its flows get their alerts; every alert there was stays as it is; again changes nothing."""
    stream = make_stream("unsw-conn", features={"max_message_rows": 16}, **OPEN)
    stream.start(*STAGES)
    put(stream, "before-", 10, start_s=0)
    put(stream, "large-", 40, start_s=10, lane=1)
    put(stream, "after-", 10, start_s=20)
    before = stream.settle()
    alerts = dict(before.alerts)
    assert {letter.reason for letter in before.letters.values()} == {"too_many_rows"}
    change(stream, features={"max_message_rows": 30})
    topics = ends(stream)

    dry = redrive(stream, "--stage", "features")

    assert (dry.returncode, topics) == (0, ends(stream)), dry.stderr
    assert "would send 40 to lane 1" in dry.stdout
    assert "1 dead letters: 1 would be brought back with 40 flows" in dry.stderr

    done = redrive(stream, "--stage", "features", "--go")

    assert done.returncode == 0, done.stderr
    assert "sent 40 to lane 1" in done.stdout
    books = stream.settle()
    assert stream.accounts.balance == (100, 60, 40)
    assert alerts.items() <= books.alerts.items()
    assert set(published_flows(books)) == set(flow_ids(books))
    new = {flow_id for flow_id in published_flows(books) if flow_id.startswith("large-")}
    assert (len(new), len(books.alerts)) == (40, len(alerts) + 40)
    topics = ends(stream)

    again = redrive(stream, "--stage", "features", "--go")

    assert (again.returncode, topics) == (0, ends(stream))
    assert "40 in the stream already" in again.stdout


@pytest.mark.parametrize("broker", [pytest.param("local_broker", marks=pytest.mark.broker)], indirect=True)
def test_a_redrive_killed_in_the_middle_goes_on(make_stream: MakeStream) -> None:
    """kill -9 between two letters: the second run sends the rest, and each flow has one alert."""
    stream = make_stream("unsw-conn", features={"max_message_rows": 1}, writer={"rows": 2}, **OPEN)
    stream.start(*STAGES)
    stream.send(MemorySource(conn_rows(2 * MANY, sensors=("s1", "s2"))))
    stream.settle()
    change(stream, features={"max_message_rows": 100})
    n_flows = len(flow_ids(stream.accounts.look()))
    doing = subprocess.Popen(command(stream, "--reason", "too_many_rows", "--go"), stdout=subprocess.PIPE)
    assert doing.stdout is not None
    doing.stdout.readline()

    doing.kill()  # it waits for us to read on

    doing.stdout.close()
    assert doing.wait(10) == -9
    n_sent = len(flow_ids(stream.accounts.look())) - n_flows
    assert 0 < n_sent < 2 * MANY
    done = redrive(stream, "--reason", "too_many_rows", "--go")
    assert done.returncode == 0, done.stderr
    assert f"{n_sent // 2} in the stream already" in done.stderr
    books = stream.settle()
    assert stream.accounts.balance == (4 * MANY, 2 * MANY, 2 * MANY)
    assert len(published_flows(books)) == 2 * MANY
