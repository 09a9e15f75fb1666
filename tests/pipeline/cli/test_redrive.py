"""`weir dead-letters redrive`: chosen letters, told before they are sent, from wherever they come."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from brokers import conn_rows, flow_messages, made_topics, write_all

from connectors.base import Reject, Source
from connectors.dead_letters import REDRIVEN, DeadLetter, origin_id
from connectors.kafka_settings import KafkaSettings
from connectors.marks import HEADER, decode_marks
from connectors.publish import publish
from connectors.source_memory import MemorySource
from connectors.sources import open_source
from connectors.topics import Topics
from connectors.wire import encode, header_dict

pytestmark = pytest.mark.broker

LINE = (
    "0,tcp,http,SF,215,4507,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,5,5,0.00,0.00,0.00,0.00,1.00,0.00,0.00,"
    "10,10,1.00,0.00,0.10,0.00,0.00,0.00,0.00,0.00,normal,21\n"
)
N, AT = 10, 6


@pytest.fixture
def topics(local_broker: KafkaSettings) -> Topics:
    return made_topics(local_broker)


@pytest.fixture
def at(local_broker: KafkaSettings, topics: Topics) -> list[str]:
    return ["--bootstrap-servers", local_broker.servers, "--prefix", topics.prefix]


def row_letter(topics: Topics, n: int = 0, *, offset: int = 0) -> DeadLetter:
    return DeadLetter(
        id=origin_id("features", topics.flows, 1, offset, n),
        stage="features",
        reason="null_value",
        detail="it was null",
        value=encode(conn_rows(n + 1).slice(n)),
        topic=topics.flows,
        partition=1,
        offset=offset,
        row=n,
    )


def write_letters(kafka: KafkaSettings, topics: Topics, *letters: DeadLetter) -> None:
    publish(kafka, [(topics.dead_letters, 0, letter.value, letter.to_kafka()) for letter in letters])


def test_a_row_goes_back_to_its_lane(
    weir: Any, at: list[str], local_broker: KafkaSettings, topics: Topics
) -> None:
    """Without a source position, with the letter's id, and the lane's marks handed on."""
    before = MemorySource(conn_rows(5, prefix="x"), source_id="s")
    write_all(local_broker, topics, before, sensor_lanes={"s1": 1})
    letter = row_letter(topics, offset=90)
    write_letters(local_broker, topics, letter)

    result = weir("dead-letters", "redrive", "--stage", "features", "--go", *at)

    assert (result.code, result.out.endswith("sent 1 to lane 1\n")) == (0, True)
    *_, sent, flush = flow_messages(local_broker, topics.flows)
    message, headers, rows = sent
    said = header_dict(message.headers)
    assert (message.partition, rows.column("flow_id").to_pylist()) == (1, ["f0"])
    assert (headers.source, headers.first, headers.next) == ("", 0, 0)
    assert said[REDRIVEN] == letter.id.encode()
    assert decode_marks(said[HEADER])["s"].next == 5
    assert (flush[1].flush, flush[0].partition) == (True, 1)
    assert weir("dead-letters", "redrive", "--stage", "features", "--go", *at).code == 0
    assert len(flow_messages(local_broker, topics.flows)) == 4


def test_letters_are_chosen_and_nothing_is_sent_without_go(
    weir: Any, at: list[str], local_broker: KafkaSettings, topics: Topics
) -> None:
    """By stage, reason, id and time."""
    letters = [row_letter(topics, n) for n in range(3)]
    write_letters(local_broker, topics, *letters)
    now = datetime.now(UTC)
    future, past = (now + timedelta(hours=1)).isoformat(), (now - timedelta(hours=1)).isoformat()

    def chosen(*args: str) -> list[str]:
        result = weir("dead-letters", "redrive", *args, *at)
        assert "add --go" in result.err, result.err
        return [line.split()[0] for line in result.out.splitlines()]

    every = [letter.id for letter in letters]
    assert chosen("--stage", "features") == every
    assert chosen("--reason", "null_value", "--since", past, "--until", future) == every
    assert chosen("--id", every[2][:8], "--id", every[0]) == [every[0], every[2]]
    assert flow_messages(local_broker, topics.flows) == []


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        ([], 2, "choose letters with --stage, --reason, --id, --since or --until"),
        (["--since", "2026-03-10", "--until", "2026-03-09"], 2, "--since .* is not before --until"),
        (["--id", ""], 2, "--id is empty, expected the beginning"),
        (["--since", "yesterday"], 2, "'yesterday' is no time; expected one as 2026-03-09"),
        (["--stage", "training"], 2, "'training' is not one of"),
        (["--stage", "ingest", "--data", "x"], 2, "name it with --source"),
        (["--stage", "ingest", "--source", "nsl"], 1, "no dataset 'nsl'; expected one of nsl-kdd"),
        (["--reason", "nul_value"], 1, "no dead letter has the reason 'nul_value'; there are: null_value"),
        (["--id", "zzz"], 1, "no dead letter is chosen by these options; see: weir dead-letters list"),
        (["--until", "2020-01-01"], 1, "no dead letter is chosen"),
    ],
)
def test_wrong_choices_are_told(
    weir: Any,
    at: list[str],
    local_broker: KafkaSettings,
    topics: Topics,
    args: list[str],
    code: int,
    why: str,
) -> None:
    """Nothing is ever brought back by a slip."""
    write_letters(local_broker, topics, row_letter(topics))

    result = weir("dead-letters", "redrive", "--go", *args, *at)

    assert code == result.code, result.err
    assert re.search(why, result.err), result.err
    assert flow_messages(local_broker, topics.flows) == []


def test_the_good_go_and_the_others_are_told(
    weir: Any, at: list[str], local_broker: KafkaSettings, topics: Topics
) -> None:
    """One letter that is possible among some that are not: exit code 1, each with its reason."""
    rows = conn_rows(3)
    at_bytes = rows.schema.get_field_index("src_bytes")
    bad = rows.set_column(at_bytes, "src_bytes", pa.nulls(3, pa.int64())).slice(0, 1)
    possible = row_letter(topics, 1)
    letters = [
        possible,
        replace(possible, id="b1", value=encode(bad)),
        replace(possible, id="b2", value=encode(rows.slice(2)), partition=17),
        DeadLetter(
            id="b3", stage="ingest", reason="null_value", detail="d", value=b"", source="s", position=1
        ),
    ]
    write_letters(local_broker, topics, *letters)

    result = weir("dead-letters", "redrive", "--reason", "null_value", "--go", *at)

    told = {line.split()[0]: line for line in result.out.splitlines()}
    assert result.code == 1
    assert "sent 1 to lane 1" in told[letters[0].id]
    assert re.search("not possible: 1 of 1 would be refused again: conn@1: src_bytes is null", told["b1"])
    assert "its lane 17 is none of the flows topic's" in told["b2"]
    assert "name its source with --source" in told["b3"]
    assert (
        "4 dead letters: 1 brought back with 1 flows, 0 in the stream already, 3 not possible" in result.err
    )


def test_two_letters_of_one_flow_send_it_once(
    weir: Any, at: list[str], local_broker: KafkaSettings, topics: Topics
) -> None:
    """A writer that was sent twice leaves two letters with the same flows."""
    write_letters(local_broker, topics, row_letter(topics, offset=1), row_letter(topics, offset=2))

    result = weir("dead-letters", "redrive", "--stage", "features", "--go", *at)

    assert (result.code, "1 in the stream already" in result.err) == (0, True)
    assert len(flow_messages(local_broker, topics.flows)) == 2  # and the flush


def older(source: Source) -> MemorySource:
    """Return a source as a version read it that rejected one record."""
    (chunk,) = source.chunks()
    rows = chunk.rows.filter(pa.array([at != AT for at in chunk.rows.column("position").to_pylist()]))
    reject = Reject(position=AT, raw=LINE.encode(), reason="wrong", detail="a fault of the old version")
    return MemorySource(rows, record_type=source.record_type, rejects=[reject], source_id=source.source_id)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "KDDTest+.txt"
    path.write_text("".join(LINE.replace("215", str(i), 1) for i in range(N)))
    return path


KDD = ["--set", "features.feature_set=nsl-kdd", "--stage", "ingest", "--source", "nsl-kdd", "--go"]


def test_a_record_is_read_again_from_its_source(
    weir: Any, at: list[str], local_broker: KafkaSettings, topics: Topics, file: Path
) -> None:
    """Its id, time and lane are those it would have had; once, and with the shift of that replay."""
    source = open_source("nsl-kdd", file)
    write_all(local_broker, topics, older(source))

    result = weir("dead-letters", "redrive", *KDD, "--data", str(file), *at)

    assert result.code == 0, result.err
    (expected,) = source.chunks()
    (found,) = [
        rows for m, _, rows in flow_messages(local_broker, topics.flows) if REDRIVEN in dict(m.headers)
    ]
    assert found == expected.rows.slice(AT, 1)
    again = weir("dead-letters", "redrive", *KDD, "--data", str(file), *at)
    assert (again.code, "1 in the stream already" in again.err) == (0, True)


def test_a_source_that_has_not_come_as_far_is_replayed_instead(
    weir: Any, at: list[str], local_broker: KafkaSettings, topics: Topics, file: Path
) -> None:
    """Else its next replay would bring the record a second time."""
    source = open_source("nsl-kdd", file)
    letter = DeadLetter.from_reject(
        Reject(position=AT, raw=b"", reason="wrong", detail="d"), source.source_id
    )
    write_letters(local_broker, topics, letter)

    result = weir("dead-letters", "redrive", *KDD, "--data", str(file), *at)

    assert result.code == 1
    assert "the source goes on at record 0: run its replay again" in result.out
    assert flow_messages(local_broker, topics.flows) == []


def test_a_record_of_another_source_is_refused(
    weir: Any, at: list[str], local_broker: KafkaSettings, topics: Topics, file: Path
) -> None:
    """Another file, or one that has changed: the id would be another flow's."""
    write_all(local_broker, topics, older(open_source("nsl-kdd", file)))
    file.write_text(file.read_text() + LINE)

    result = weir("dead-letters", "redrive", *KDD, "--data", str(file), *at)

    assert result.code == 1
    assert "give the file and the sensor of that replay" in result.out


def test_a_record_that_is_still_bad_stays_rejected(
    weir: Any, at: list[str], local_broker: KafkaSettings, topics: Topics, file: Path
) -> None:
    """The reason of today is told."""
    lines = file.read_text().splitlines(keepends=True)
    lines[AT] = "0,tcp,http\n"
    file.write_text("".join(lines))
    write_all(local_broker, topics, open_source("nsl-kdd", file))

    result = weir("dead-letters", "redrive", *KDD, "--data", str(file), *at)

    assert result.code == 1
    assert "line 7: 3 fields, expected 43" in result.out
