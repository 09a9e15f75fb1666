"""`weir broker`, `weir topics` and `weir replay` as processes and against real brokers."""

import json
import re
import signal
import socket
from typing import Any

import pytest
from brokers import flow_ids, fresh_topics

from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, Topics


@pytest.fixture
def prefix() -> str:
    return fresh_topics().prefix


@pytest.fixture
def at(broker: KafkaSettings, prefix: str) -> list[str]:
    """Options for a prefix that no test has used."""
    return ["--bootstrap-servers", broker.servers, "--prefix", prefix]


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_broker_says_where_it_is_and_stops_in_order(start: Any, number: signal.Signals) -> None:
    process = start("broker", "--port", "0")
    line = process.stdout.readline()
    port = int(re.search(r"broker ready at 127\.0\.0\.1:(\d+)", line)[1])
    assert "in memory" in line
    with TopicAdmin(KafkaSettings(bootstrap_servers=(f"127.0.0.1:{port}",))) as admin:
        assert admin.names() == []

    process.send_signal(number)

    assert process.wait(20) == 0
    assert process.stderr.read() == "broker stopped\n"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=1)


@pytest.mark.broker
def test_a_used_port_is_one_sentence(weir: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        result = weir("broker", "--port", str(port))

    assert result.code == 1
    assert str(port) in result.err
    assert len(result.err.splitlines()) == 1


def test_topics_are_made_listed_and_deleted(weir: Any, at: list[str], prefix: str) -> None:
    names = [f"{prefix}.{kind}.v1" for kind in ("flows", "features.conn", "detections.main")]
    lanes = ["--set", "topics.lanes=2", *at]

    made = weir("topics", "create", *lanes)
    assert made.code == 0
    assert [line.split()[:2] for line in made.out.splitlines()][:3] == [["created", name] for name in names]

    assert {line.split()[0] for line in weir("topics", "create", *lanes).out.splitlines()} == {"exists"}

    listed = [json.loads(line) for line in weir("topics", "list", "--json", *at).out.splitlines()]
    assert {topic["name"]: topic["partitions"] for topic in listed} == {
        **dict.fromkeys(names, 2),
        f"{prefix}.alerts.v1": 1,
        f"{prefix}.dead-letters.v1": 1,
    }

    assert len(weir("topics", "delete", "--yes", *at).out.splitlines()) == 5
    assert weir("topics", "list", *at).out.startswith(f"no topics under prefix {prefix}")


def test_another_number_of_lanes_is_refused_with_what_to_do(weir: Any, at: list[str]) -> None:
    weir("topics", "create", *at)

    result = weir("topics", "create", "--set", "topics.lanes=9", *at)

    assert result.code == 1
    assert re.search(r"has 4 partitions, expected 9; .* set topics\.lanes", result.err)


def test_topics_are_not_deleted_without_a_yes(
    weir: Any, at: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    weir("topics", "create", *at)

    assert weir("topics", "delete", *at).code == 130
    assert len(weir("topics", "list", *at).out.splitlines()) == 5


def test_no_broker_is_one_sentence_and_no_wait(weir: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    quick = ["--set", "kafka.connect_timeout_s=1", "--bootstrap-servers", f"127.0.0.1:{port}"]

    result = weir("topics", "list", *quick)

    assert result.code == 1
    assert f"no answer from Kafka at 127.0.0.1:{port}" in result.err
    assert len(result.err.splitlines()) == 1


def test_a_replay_sums_up_what_it_sent(weir: Any, at: list[str], broker: KafkaSettings, prefix: str) -> None:
    weir("topics", "create", *at)
    few = ["replay", "synthetic", "--scale", "0.01", "--no-attacks", "--seed", "5", "--limit", "300", *at]

    first = weir(*few)
    second = weir(*few)
    third = json.loads(weir(*few, "--again", "--json").out)

    assert first.code == second.code == 0
    assert "synthetic: 300 flows to" in first.out
    assert "is in" in second.out
    assert "--again" in second.out
    assert (third["run"], third["n_sent"], third["n_rejected"]) == (1, 300, 0)
    ids = flow_ids(broker, Topics(prefix).flows)
    assert len(ids) == len(set(ids)) == 600


@pytest.mark.broker
def test_an_interrupted_replay_goes_on_where_it_stopped(
    start: Any, weir: Any, local_broker: KafkaSettings, prefix: str
) -> None:
    at = ["--bootstrap-servers", local_broker.servers, "--prefix", prefix]
    weir("topics", "create", *at)
    replay = ["replay", "synthetic", "--scale", "0.01", "--no-attacks", *at]

    process = start(*replay, "--speed", "1000x")
    while "Labels are" not in process.stderr.readline():
        pass
    flows = Topics(prefix).flows
    while not flow_ids(local_broker, flows):
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert "run the same command again" in process.stderr.read()
    sent_before = len(flow_ids(local_broker, flows))

    rest = json.loads(weir(*replay, "--json").out)

    assert 0 < sent_before == rest["first"]
    ids = flow_ids(local_broker, flows)
    assert len(ids) == len(set(ids)) == rest["next"]


@pytest.mark.parametrize(
    ("args", "code", "why"),
    [
        (["nsl-kd"], 1, "nsl-kd: no such file, and no dataset; expected a path, or one of nsl-kdd"),
        (["nsl-kdd", "--data", "none.txt"], 1, "none.txt"),
        (["nsl-kdd", "--seed", "1"], 1, "only synthetic takes a seed"),
        (["synthetic", "--speed", "fast"], 2, "'fast' is no speed; expected max, or a factor as 1x or 10x"),
        (["synthetic", "--speed", "0x"], 2, "is no speed"),
        (["synthetic", "--set", "writer.lane_by=src"], 1, "does not go with feature set conn"),
    ],
)
def test_wrong_use_of_replay_is_told_before_any_broker_is_asked(
    weir: Any, args: list[str], code: int, why: str
) -> None:
    result = weir("replay", *args)

    assert result.code == code
    assert why in result.err
