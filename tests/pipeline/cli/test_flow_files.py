"""`weir inspect` and `weir replay` on files of flows: what is in them, and into the stream with it."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import dead_letters, flow_ids, flow_messages, made_topics
from log_files import conn, event

from connectors.kafka_settings import KafkaSettings
from connectors.topics import Topics

NOW_S = 1_750_000_000


def zeek(path: Path, n: int, *, first: int = 0, step_s: float = 1.0, noise: str = "") -> str:
    records = (conn(i, ts=NOW_S + i * step_s, duration=0) for i in range(first, first + n))
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records) + noise)
    return str(path)


def eve(path: Path, n: int) -> str:
    path.write_text("".join(f"{json.dumps(event(i))}\n" for i in range(n)))
    return str(path)


def at(broker: KafkaSettings, topics: Topics) -> tuple[str, ...]:
    return ("--bootstrap-servers", broker.servers, "--prefix", topics.prefix)


def test_inspect_says_what_is_in_a_file(weir: Callable[..., Any], tmp_path: Path) -> None:
    """Kind, counts, span, values, and the rejects with file and line."""
    zeek(tmp_path / "conn.log", 20, noise="no record\n#close\n")
    text, found = weir("inspect", "conn.log"), weir("inspect", "conn.log", "--json")
    told = json.loads(found.out)

    assert (text.code, found.code) == (0, 0)
    assert "conn.log: zeek, records of type conn@1" in text.out
    assert "reject  not_json: conn.log line 21: " in text.out
    assert (told["flows"], told["rejected"], told["other"], told["records"]) == (20, {"not_json": 1}, 1, 21)
    assert told["first"] == "2025-06-15T15:06:40+00:00"
    assert told["last"] == "2025-06-15T15:06:59+00:00"
    assert told["values"]["protocol"] == {"tcp": 7, "udp": 7, "icmp": 6}
    assert told["examples"][0]["position"] == 20


def test_inspect_of_a_file_without_flows_fails(weir: Callable[..., Any], tmp_path: Path) -> None:
    """A script can tell that nothing was found."""
    (tmp_path / "eve.json").write_text(json.dumps({"timestamp": "x", "event_type": "dns"}) + "\n")
    found = weir("inspect", "eve.json")

    assert found.code == 1
    assert "1 lines or records that hold no flow" in found.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("nothing.log",), "no such file"), ((".",), "a folder, expected a file of flows"),
        (("notes.txt",), "of no known kind"), (("conn.log", "--kind", "zeke"), "no kind 'zeke'"),
        (("conn.log", "--kind", "suricata"), "none of its first"),
        (("conn.log", "--mapping", "x.yaml"), "x.yaml"),
        (("empty.log",), "it is empty"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_a_sentence(
    weir: Callable[..., Any], tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    """Never with a trace."""
    zeek(tmp_path / "conn.log", 3)
    (tmp_path / "notes.txt").write_text("dear diary\n")
    (tmp_path / "empty.log").write_bytes(b"")
    found = weir("inspect", *args)

    assert found.code == 1
    assert words in found.err
    assert "fault of weir" not in found.err


@pytest.mark.broker
def test_files_of_several_kinds_are_replayed_once(
    weir: Callable[..., Any], local_broker: KafkaSettings, tmp_path: Path
) -> None:
    """Each kind is told by content; run again, nothing is sent twice."""
    topics = made_topics(local_broker)
    files = (zeek(tmp_path / "a", 20, noise="no record\n"), eve(tmp_path / "b", 15))
    command = ("replay", *files, "--rebase", "--json", *at(local_broker, topics))
    first, second = weir(*command), weir(*command)
    told = [json.loads(line) for line in first.out.splitlines()]

    assert (first.code, second.code) == (0, 0)
    assert [(one["source"], one["n_sent"], one["n_rejected"]) for one in told] == [
        ("zeek", 20, 1),
        ("suricata", 15, 0),
    ]
    assert [json.loads(line)["n_sent"] for line in second.out.splitlines()] == [0, 0]
    assert len(flow_ids(local_broker, topics.flows)) == len(set(flow_ids(local_broker, topics.flows))) == 35
    assert [letter.reason for letter in dead_letters(local_broker, topics)] == ["not_json"]


@pytest.mark.broker
def test_a_loop_sends_new_flows_until_it_is_stopped(
    start: Callable[..., subprocess.Popen[str]], local_broker: KafkaSettings, tmp_path: Path
) -> None:
    """Each round has ids of its own, and times that go on."""
    topics = made_topics(local_broker, lanes=1)
    path = zeek(tmp_path / "a", 20)
    process = start("replay", path, "--loop", "--json", *at(local_broker, topics))
    until = time.monotonic() + 40
    while len(flow_ids(local_broker, topics.flows)) < 60:
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    ids = flow_ids(local_broker, topics.flows)
    times = [
        time
        for _, _, rows in flow_messages(local_broker, topics.flows)
        for time in rows.column("event_time").to_pylist()
    ]

    assert process.returncode == 130
    assert len(set(ids)) == len(ids) >= 60
    assert times == sorted(times)


@pytest.mark.broker
@pytest.mark.slow
def test_a_paused_replay_does_not_burst(
    start: Callable[..., subprocess.Popen[str]], local_broker: KafkaSettings, tmp_path: Path
) -> None:
    """Ctrl-Z stops the clock of a paced replay: what was not due before is not due at once afterwards."""
    topics = made_topics(local_broker, lanes=1)
    path = zeek(tmp_path / "a", 400, step_s=0.1)
    process = start("replay", path, "--speed", "1x", "--json", *at(local_broker, topics))

    def n_sent() -> int:
        return len(flow_ids(local_broker, topics.flows))

    until = time.monotonic() + 40
    while n_sent() < 10:
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(signal.SIGTSTP)
    time.sleep(1.0)
    paused = n_sent()
    time.sleep(5.0)
    assert n_sent() == paused
    process.send_signal(signal.SIGCONT)
    time.sleep(1.5)
    after = n_sent()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)

    assert paused < after <= paused + 40  # 50 more were due without the pause, and 15 with it


@pytest.mark.broker
@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("nothing.log",), 1, "no such file, and no dataset"),
        (("conn.log", "nothing.log"), 1, "nothing.log: no such"),
        (("conn.log", "--seed", "3"), 2, "are for datasets"),
        (("synthetic", "--kind", "zeek"), 2, "are for files"),
        (("notes.txt",), 1, "of no known kind"),
    ],
)  # fmt: skip
def test_replay_tells_mistakes(
    weir: Callable[..., Any],
    local_broker: KafkaSettings,
    tmp_path: Path,
    args: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    """Before anything is sent."""
    topics = made_topics(local_broker)
    zeek(tmp_path / "conn.log", 3)
    (tmp_path / "notes.txt").write_text("dear diary\n")
    found = weir("replay", *args, *at(local_broker, topics))

    assert found.code == code
    assert words in found.err
    assert flow_ids(local_broker, topics.flows) == []
