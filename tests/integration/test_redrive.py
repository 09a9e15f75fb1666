"""What was rejected wrongly comes back: each flow once, and no alert of any other changes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from accounts import Books, published_flows
from brokers import conn_rows, whole_log
from cases import MakeStream
from stream import ROOT, STAGES, Stream, stopped

from connectors.kafka_reader import KafkaReader
from connectors.publish import publish
from connectors.source_memory import MemorySource
from connectors.wire import FlowsHeaders, encode
from pipeline.agents.letters import whole_letter
from pipeline.topic_plan import topic_specs
from training.datasets import load_dataset
from training.train import Plan, train_model

pytestmark = [pytest.mark.data, pytest.mark.slow]

OPEN = {"grouping": {"enabled": False}}
MANY = 700
"""Letters; the lines that tell of them are more than a pipe holds."""


def command(stream: Stream, *args: str) -> list[str]:
    given = ["dead-letters", "redrive", "-c", str(stream.config), *args]
    return [sys.executable, "-m", "pipeline.cli.main", *given]


def redrive(stream: Stream, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    told = {"env": {**os.environ, **stream.env, **env}, "cwd": ROOT, "timeout": 60, "text": True}
    return subprocess.run(command(stream, *args), capture_output=True, check=False, **told)


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
    assert "40 flows in the stream already" in again.stdout


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


POISON = [
    pytest.param(False, "20 flows judged, 20 alerts sent", (60, 40, 20), id="counted by the windows"),
    pytest.param(True, "sent 20 to lane 0", (80, 60, 20), id="inline, never counted"),
]


def letters_of(stream: Stream, stage: str, topic: str) -> int:
    """Write a letter of a stage for every message of its input, and return how many."""
    messages = [m for m in whole_log(stream.kafka, topic) if dict(m.headers)["weir-rows"] != b"0"]
    letters = [whole_letter(message, stage, "failed", "a fault that is mended") for message in messages]
    dead = stream.topics.dead_letters
    publish(stream.kafka, [(dead, 0, letter.value, letter.to_kafka()) for letter in letters])
    return len(letters)


def n_answers(stream: Stream, stage: str) -> int:
    topic = stream.topics.features("conn") if stage == "features" else stream.accounts.detections
    return sum(dict(message.headers)["weir-rows"] != b"0" for message in whole_log(stream.kafka, topic))


@pytest.mark.parametrize("kind", ["detect", "inline", "alerts"])
@pytest.mark.parametrize("broker", [pytest.param("local_broker", marks=pytest.mark.broker)], indirect=True)
def test_counted_flows_are_judged_as_by_the_workers(make_stream: MakeStream, kind: str) -> None:
    """The alerts that redrive gives have every byte of those that the workers give."""
    inline, stage = kind == "inline", "alerts" if kind == "alerts" else "detect"
    stream = make_stream("unsw-conn", features={"inline": inline}, **OPEN)
    # Inline, what rebuilds the windows is in the journal of the detect stage itself.
    before = ("detect",) if inline else STAGES[: STAGES.index(stage)]
    stream.start(*before)
    for start_s in range(0, 50, 10):
        put(stream, f"at-{start_s}-", 20, start_s)
    topic = stream.accounts.detections
    if stage == "detect":
        topic = stream.topics.flows if inline else stream.topics.features("conn")
    stream.wait(lambda: n_answers(stream, before[-1]) >= 5, "input of the stage")
    n_letters = letters_of(stream, stage, topic)
    flows = ends(stream)[stream.topics.flows]

    done = redrive(stream, "--stage", stage, "--go")

    assert (done.returncode, flows) == (0, ends(stream)[stream.topics.flows]), done.stderr
    assert f"{n_letters} brought back with 100 flows" in done.stderr
    assert len(published_flows(stream.accounts.look())) == 100
    again = redrive(stream, "--stage", stage, "--go")
    assert (again.returncode, f"{n_letters} in the stream already" in again.stderr) == (0, True), again.stderr
    stream.start(*(("alerts",) if inline else STAGES[STAGES.index(stage) :]))
    stream.wait(lambda: stream.accounts.look().repeats["alerts"] >= 100, "the same bytes")
    assert len(stream.accounts.books.alerts) == 100


@pytest.mark.parametrize("broker", [pytest.param("local_broker", marks=pytest.mark.broker)], indirect=True)
@pytest.mark.parametrize(("inline", "said", "balance"), POISON)
def test_a_message_that_was_poison_comes_back(
    make_stream: MakeStream,
    fatal_package: Path,
    data_dir: Path,
    inline: bool,  # noqa: FBT001 a parameter of the test
    said: str,
    balance: tuple[int, int, int],
) -> None:
    """With the detector mended its flows get their alerts; before, redrive says that it still kills."""
    models = fatal_package / "models"
    plan = Plan(detector="fatal", max_rows=2000)
    train_model(load_dataset("unsw-conn", data_dir), plan, models_dir=models, name="fatal")
    panel = {"models": ["fatal"], "models_dir": str(models)}
    changes = {"panel": panel, "features": {"inline": inline}, "worker": {"poison_attempts": 1}}
    stream = make_stream("unsw-conn", **changes, **OPEN)
    stream.env = {"PYTHONPATH": f"{fatal_package}{os.pathsep}{ROOT}", "FATAL": "60"}
    stream.may_die = True
    (dies, *_) = stream.start("detect", *(["alerts"] if inline else ["alerts", "features"]))
    rows = conn_rows(20, prefix="odd-")
    at = rows.schema.get_field_index("duration")
    odd = rows.set_column(at, rows.schema.field(at), pa.array([1e300] * 20))
    put(stream, "before-", 20, start_s=0)
    stream.put(encode(odd), FlowsHeaders(record="conn@1", rows=20).to_kafka())
    put(stream, "after-", 20, start_s=0)
    assert dies.ends(within_s=40) == 139
    (detect,) = stream.start("detect")
    alerts = dict(stream.settle(within_s=90).alerts)

    deadly = redrive(stream, "--reason", "poison", "--go")
    stream.env["FATAL"] = ""
    if inline:  # where the flows go through the worker again
        assert stopped(detect) == 0
        stream.start("detect")
    mended = redrive(stream, "--reason", "poison", "--go")

    assert (deadly.returncode, "it kills the process again" in deadly.stdout) == (1, True), deadly.stderr
    assert mended.returncode == 0, mended.stderr
    assert said in mended.stdout
    books = stream.settle()
    assert stream.accounts.balance == balance
    assert alerts.items() <= books.alerts.items()
    assert set(published_flows(books)) == set(flow_ids(books))
