"""`weir ingest`: a growing log in the flows topic, each flow once, however it is stopped."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import dead_letters, flow_ids, flow_messages, made_topics
from log_files import conn

from connectors.broker_kafka import ApacheKafka, missing_tools
from connectors.kafka_settings import KafkaSettings
from connectors.topics import Topics

Start = Callable[..., subprocess.Popen[str]]
NOW_S = 1_750_000_000
LATEST_US = NOW_S * 1_000_000 + 490_000 + 500_000  # of 50 flows of half a second, one every 10 ms


def lines(first: int, n: int, **changes: Any) -> str:
    records = (conn(i, ts=NOW_S + i / 100, **changes) for i in range(first, first + n))
    return "".join(f"{json.dumps(record)}\n" for record in records)


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def at(broker: KafkaSettings, topics: Topics) -> tuple[str, ...]:
    return ("--bootstrap-servers", broker.servers, "--prefix", topics.prefix)


def wait(process: subprocess.Popen[str], done: Callable[[], bool], within_s: float = 40) -> None:
    until = time.monotonic() + within_s
    while not done():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.1)


def stopped(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Stop an ingest in order, and return its summary."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    summary: dict[str, Any] = json.loads(out.splitlines()[-1])
    return summary


def expected(n: int) -> list[str]:
    return sorted(f"C{i}x" for i in range(n))


@pytest.mark.broker
@pytest.mark.slow
def test_a_growing_log_is_ingested_once(start: Start, local_broker: KafkaSettings, tmp_path: Path) -> None:
    """Stopped, killed, started again and rotated meanwhile: each flow is there once."""
    topics, log = made_topics(local_broker), tmp_path / "conn.log"
    command = ("ingest", str(log), "--sensor", "edge", "--json", *at(local_broker, topics))

    def n_flows() -> int:
        return len(flow_ids(local_broker, topics.flows))

    append(log, lines(0, 30) + "no record\n")
    process = start(*command)
    wait(process, lambda: n_flows() == 30)
    append(log, lines(30, 20))
    wait(process, lambda: n_flows() == 50)
    summary = stopped(process)

    process = start(*command)
    append(log, lines(50, 10))
    wait(process, lambda: n_flows() == 60)
    process.kill()  # no last word, no flush
    process.wait()
    append(log, lines(60, 5))
    log.rename(tmp_path / "conn.log.1")
    append(log, lines(65, 5))
    process = start(*command)
    wait(process, lambda: n_flows() >= 70)
    second = stopped(process)

    assert summary == {
        "flows": 50,
        "rejects": {"not_json": 1},
        "latest_us": LATEST_US,
    }
    assert second["flows"] >= 10  # what was on its way at the kill is read again
    assert sorted(flow_ids(local_broker, topics.flows)) == expected(70)
    messages = [rows for _, _, rows in flow_messages(local_broker, topics.flows) if rows.num_rows]
    assert {rows.column("sensor")[0].as_py() for rows in messages} == {"edge"}
    letters = {letter.id: letter for letter in dead_letters(local_broker, topics)}
    assert [letter.reason for letter in letters.values()] == ["not_json"]


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.skipif(bool(missing_tools()), reason="Apache Kafka needs Java and Maven")
def test_a_broker_may_be_restarted_under_it(start: Start, tmp_path: Path) -> None:
    """Flows written while it is away come later, and each once."""
    (tmp_path / "logs").mkdir()
    log, kafka = tmp_path / "logs" / "conn.log", ApacheKafka(tmp_path)
    kafka.start()
    try:
        topics = made_topics(kafka.settings)
        append(log, lines(0, 30))
        process = start("ingest", str(log), "--json", *at(kafka.settings, topics))
        wait(process, lambda: len(flow_ids(kafka.settings, topics.flows)) == 30)
        kafka.kill()
        append(log, lines(30, 30))
        time.sleep(3)
        append(log, lines(60, 30))
        kafka.start()
        wait(process, lambda: len(flow_ids(kafka.settings, topics.flows)) >= 90, within_s=90)
        stopped(process)

        assert sorted(flow_ids(kafka.settings, topics.flows)) == expected(90)
    finally:
        kafka.stop()


@pytest.mark.broker
def test_flows_from_the_future_are_dead_letters(
    start: Start, local_broker: KafkaSettings, tmp_path: Path
) -> None:
    """A sensor's wrong clock would make all later flows late."""
    topics, log = made_topics(local_broker), tmp_path / "conn.log"
    append(log, lines(0, 3) + json.dumps(conn(3, ts=time.time() + 4000)) + "\n" + lines(4, 3))
    process = start("ingest", str(log), "--json", *at(local_broker, topics))
    wait(process, lambda: len(flow_ids(local_broker, topics.flows)) == 6)
    summary = stopped(process)
    (letter,) = dead_letters(local_broker, topics)

    assert summary["rejects"] == {"future_time": 1}
    assert letter.reason == "future_time"
    assert "set the clock of the sensor" in letter.detail


@pytest.mark.broker
def test_metrics_tell_what_was_taken_over(start: Start, local_broker: KafkaSettings, tmp_path: Path) -> None:
    """A scraper sees the flows, and the health endpoints answer."""
    topics, log = made_topics(local_broker), tmp_path / "conn.log"
    append(log, lines(0, 8) + "no record\n")
    process = start("ingest", str(log), "--port", "0", "--json", *at(local_broker, topics))
    assert process.stderr is not None
    line = next(line for line in process.stderr if line.startswith("metrics on "))
    address = line.removeprefix("metrics on ").strip()
    wait(process, lambda: len(flow_ids(local_broker, topics.flows)) == 8)

    def scraped() -> str:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return str(answer.read().decode())

    wait(process, lambda: 'reason="not_json"' in scraped())
    with urllib.request.urlopen(address.replace("/metrics", "/live"), timeout=5) as answer:
        assert answer.status == 200
    assert stopped(process)["flows"] == 8


@pytest.mark.broker
def test_a_log_that_does_not_exist_yet_is_waited_for(
    start: Start, local_broker: KafkaSettings, tmp_path: Path
) -> None:
    """It may be stopped while it waits, too."""
    topics = made_topics(local_broker)
    path = str(tmp_path / "conn.log")
    process = start("ingest", path, "--port", "0", "--json", *at(local_broker, topics))
    assert process.stderr is not None
    assert any(line.startswith("metrics on ") for line in process.stderr)
    time.sleep(1)

    assert stopped(process) == {"flows": 0, "rejects": {}, "latest_us": 0}


MISTAKES = [
    (("conn.log", "--kind", "zeke"), "no kind 'zeke'; expected one of zeek, suricata"),
    (("conn.log", "--kind", "pcap"), "no log that grows"),
    (("nowhere/conn.log",), "no such folder"),
    (("tcp://1.2.3.4:5",), "no source of flows; expected the path of a log file"),
    (("udp://127.0.0.1",), "no port, expected udp://HOST:PORT"),
    (("udp://127.0.0.1:99999",), "no port, expected udp://HOST:PORT"),
    (("kafka://flows",), "a topic needs its name and a mapping"),
    (("kafka://flows", "--mapping", "nowhere.yaml"), "nowhere.yaml"),
    (("notes.log",), "of no known kind"),
]


@pytest.mark.broker
@pytest.mark.parametrize(("args", "words"), MISTAKES, ids=[" ".join(args) for args, _ in MISTAKES])
def test_mistakes_end_it_with_a_sentence(
    weir: Callable[..., Any], local_broker: KafkaSettings, tmp_path: Path, args: tuple[str, ...], words: str
) -> None:
    """No restart helps, and the exit code says so."""
    (tmp_path / "conn.log").write_text(lines(0, 3))
    (tmp_path / "notes.log").write_text("dear diary\n")
    found = weir("ingest", *args, *at(local_broker, made_topics(local_broker)))

    assert found.code == 78
    assert words in found.err
    assert "Traceback" not in found.err


@pytest.mark.broker
def test_a_taken_port_is_told(weir: Callable[..., Any], local_broker: KafkaSettings) -> None:
    """Two collectors on one port would share its datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = weir("ingest", f"udp://127.0.0.1:{port}", *at(local_broker, made_topics(local_broker)))

    assert found.code in (75, 78)
    assert str(port) in found.err


@pytest.mark.broker
def test_missing_topics_are_told(
    weir: Callable[..., Any], local_broker: KafkaSettings, tmp_path: Path
) -> None:
    """With what makes them."""
    (tmp_path / "conn.log").write_text(lines(0, 3))
    found = weir("ingest", "conn.log", *at(local_broker, Topics(f"none{os.getpid()}")))

    assert found.code in (75, 78)
    assert "does not exist at" in found.err
    assert "create it first" in found.err
