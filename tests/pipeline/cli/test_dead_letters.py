"""`weir dead-letters`: each once, with why and whence."""

import json
from dataclasses import replace
from typing import Any

import pytest
from brokers import conn_rows, fresh_topics

from connectors.dead_letters import DeadLetter, origin_id
from connectors.kafka_settings import KafkaSettings
from connectors.publish import publish
from connectors.topics import TopicAdmin, TopicSpec
from connectors.wire import encode

INGEST = DeadLetter(
    id=origin_id("ingest", "abc", 7),
    stage="ingest",
    reason="wrong_columns",
    detail="record 7 has 3 columns, expected 41",
    value=b"0,tcp,http",
    source="abc",
    position=7,
)
WHOLE = DeadLetter(
    id=origin_id("features", "t", 0, 3),
    stage="features",
    reason="not_arrow",
    detail="no Arrow stream",
    value=b"\x00\xffjunk",
    rows=4000,
    topic="t",
    partition=0,
    offset=3,
)
ROW = DeadLetter(
    id=origin_id("features", "t", 0, 4, 1),
    stage="features",
    reason="null_value",
    detail="duration is null",
    value=encode(conn_rows(1)),
    topic="t",
    partition=0,
    offset=4,
    row=1,
)


@pytest.fixture
def at(local_broker: KafkaSettings) -> list[str]:
    """Options for a topic with three letters, one of them repeated, and one message that is none."""
    topics = fresh_topics()
    letters = [INGEST, WHOLE, ROW, INGEST]
    with TopicAdmin(local_broker) as admin:
        admin.create([TopicSpec(name=topics.dead_letters, partitions=1)])
    messages = [(topics.dead_letters, 0, letter.value, letter.to_kafka()) for letter in letters]
    publish(local_broker, [*messages, (topics.dead_letters, 0, b"hello", [])])
    return ["--bootstrap-servers", local_broker.servers, "--prefix", topics.prefix]


pytestmark = pytest.mark.broker


def listed(weir: Any, *args: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in weir("dead-letters", "list", "--json", *args).out.splitlines()]


def test_a_repeated_letter_is_listed_once(weir: Any, at: list[str]) -> None:
    assert [letter["id"] for letter in listed(weir, *at)] == [INGEST.id, WHOLE.id, ROW.id]


def test_a_line_says_why_and_whence(weir: Any, at: list[str]) -> None:
    result = weir("dead-letters", "list", *at)

    first, second, third = result.out.splitlines()
    assert "wrong_columns" in first
    assert first.endswith("source abc position 7  record 7 has 3 columns, expected 41")
    assert "t/0/3  no Arrow stream" in second
    assert "t/0/4 row 1  duration is null" in third
    assert "3 of 3 dead letters shown; 4002 records in all" in result.err


def test_a_message_that_is_no_dead_letter_is_told(weir: Any, at: list[str]) -> None:
    result = weir("dead-letters", "list", *at)

    assert result.code == 0
    assert "/0/4: header weir-id is missing" in result.err


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--stage", "features"], [WHOLE, ROW]),
        (["--reason", "not_arrow"], [WHOLE]),
        (["--stage", "ingest", "--reason", "not_arrow"], []),
        (["--limit", "1"], [ROW]),
        (["--limit", "0"], [INGEST, WHOLE, ROW]),
    ],
)
def test_letters_are_chosen(weir: Any, at: list[str], args: list[str], expected: list[DeadLetter]) -> None:
    assert [letter["id"] for letter in listed(weir, *args, *at)] == [letter.id for letter in expected]


def test_show_tells_everything_and_the_text(weir: Any, at: list[str]) -> None:
    result = weir("dead-letters", "show", INGEST.id[:6], *at)

    shown = dict(line.split(maxsplit=1) for line in result.out.splitlines()[:-1])
    assert shown.pop("written").startswith("20")
    assert shown == {
        "id": INGEST.id,
        "stage": "ingest",
        "reason": "wrong_columns",
        "detail": INGEST.detail,
        "rows": "1",
        "source": "abc",
        "position": "7",
        "value": "10 bytes",
    }
    assert result.out.endswith("\n0,tcp,http\n")


def test_show_dumps_bytes_and_reads_rows(weir: Any, at: list[str]) -> None:
    assert "000000  00 ff 6a 75 6e 6b" in weir("dead-letters", "show", WHOLE.id, *at).out
    assert f"{'src_ip':11}  10.0.0.1\n" in weir("dead-letters", "show", ROW.id, *at).out


@pytest.mark.parametrize(("which", "why"), [("zzz", "none has the ID 'zzz'"), ("", "3 begin with the ID ''")])
def test_an_id_that_names_not_one_letter_is_an_error(weir: Any, at: list[str], which: str, why: str) -> None:
    result = weir("dead-letters", "show", which, *at)

    assert (result.code, why in result.err) == (1, True)


def test_no_letter_can_steer_the_terminal(weir: Any, local_broker: KafkaSettings) -> None:
    """Anybody who may write to the topic chooses its headers."""
    topics = fresh_topics()
    with TopicAdmin(local_broker) as admin:
        admin.create([TopicSpec(name=topics.dead_letters, partitions=1)])
    hostile = replace(ROW, id="\x1b[2J", reason="\x1b]0;owned\x07", detail="a\rb\nc\u202e")
    publish(local_broker, [(topics.dead_letters, 0, b"\x1b[2J", hostile.to_kafka())])
    at = ["--bootstrap-servers", local_broker.servers, "--prefix", topics.prefix]

    for result in (weir("dead-letters", "list", *at), weir("dead-letters", "show", "\x1b", *at)):
        assert result.code == 0
        assert all(char.isprintable() for char in result.out.replace("\n", ""))
    assert len(weir("dead-letters", "list", *at).out.splitlines()) == 1


def test_a_missing_topic_is_one_sentence(weir: Any, local_broker: KafkaSettings) -> None:
    result = weir("dead-letters", "list", "--bootstrap-servers", local_broker.servers, "--prefix", "nowhere")

    assert result.code == 1
    assert "nowhere.dead-letters.v1 does not exist" in result.err
