"""A message that kills the process is set aside after two deaths, and everything else is scored."""

import os
from pathlib import Path

import pyarrow as pa
import pytest
from accounts import Books
from brokers import conn_rows, whole_log
from cases import MakeStream
from stream import ROOT, Stream

from connectors.source_memory import MemorySource
from training.datasets import load_dataset
from training.train import Plan, train_model

pytestmark = [pytest.mark.data, pytest.mark.slow]

N, ROWS, AT = 400, 20, 210
FATAL = 60.0
"""Standard deviations at which the detector dies; the duration of one flow lies above."""


@pytest.fixture
def stream(make_stream: MakeStream, fatal_package: Path, data_dir: Path) -> Stream:
    """A stream whose detect worker dies over one message."""
    models = fatal_package / "models"
    plan = Plan(detector="fatal", max_rows=2000)
    train_model(load_dataset("unsw-conn", data_dir), plan, models_dir=models, name="fatal")
    made = make_stream(
        "unsw-conn",
        panel={"models": ["fatal"], "models_dir": str(models), "alpha": 1e-4},
        writer={"rows": ROWS},
    )
    made.env = {"PYTHONPATH": f"{fatal_package}{os.pathsep}{ROOT}", "FATAL": str(FATAL)}
    made.may_die = True
    return made


def send(stream: Stream) -> None:
    rows = conn_rows(N)
    at = rows.schema.get_field_index("duration")
    values = rows.column("duration").to_pylist()
    values[AT] = 1e300
    stream.send(MemorySource(rows.set_column(at, rows.schema.field(at), pa.array(values))))


def check(stream: Stream, books: Books) -> None:
    """All flows but those of the one message are scored; that one is told, with its origin."""
    (letter,) = books.letters.values()
    topic = stream.topics.features("conn")
    assert (letter.reason, letter.stage, letter.rows) == ("poison", "detect", ROWS)
    assert letter.detail == "2 worker processes died over this message"
    assert letter.origin[0] == topic
    dead = [offset for (_, offset), ids in books.sent.items() if f"f{AT}" in ids]
    (message,) = [
        m
        for m in whole_log(stream.kafka, topic)
        if m.offset == letter.origin[2] and m.partition == letter.origin[1]
    ]
    assert message.value == letter.value
    assert dead == [int(dict(message.headers)["weir-flows-offset"])]
    assert stream.accounts.balance == (N, N - ROWS, ROWS)


def test_poison_is_set_aside_after_two_deaths(stream: Stream) -> None:
    """Started again by hand: it dies twice over the message, and the third time sets it aside."""
    stream.start("features", "alerts")
    send(stream)

    for _ in range(2):
        (worker,) = stream.start("detect")
        assert worker.ends(within_s=40) == 139
    (last,) = stream.start("detect")
    books = stream.settle()

    assert last.ended() is None
    assert "poison_message" in last.text
    check(stream, books)


def test_one_command_outlives_poison(stream: Stream) -> None:
    """`weir worker all` starts what dies again, until the message is set aside."""
    (worker,) = stream.start("all")
    send(stream)

    books = stream.settle(within_s=90)

    assert worker.ended() is None
    assert worker.text.count('"child_died"') == 2
    check(stream, books)
