"""`weir capture`: what the log holds, once, however often it is run and ended."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from brokers import fresh_topics
from conn_flows import conn_rows, flows_message
from lane_workers import CONN_SET, TOPICS, LaneWorker
from memory_log import MemoryLog

from connectors.kafka_settings import KafkaSettings
from connectors.publish import publish
from connectors.topics import TopicAdmin, Topics, TopicSpec
from pipeline.agents.features import FeaturesRole
from pipeline.capture_files import PARTIAL, captured_rows, locked


@pytest.fixture
def stream(local_broker: KafkaSettings, tmp_path: Path) -> Topics:
    """Return topics whose features lane holds 10 messages of 100 flows."""
    topics, log = fresh_topics(), MemoryLog()
    for index in range(10):
        log.append(TOPICS.flows, 0, *flows_message(conn_rows(100, first=100 * index)))
    role = FeaturesRole(CONN_SET, TOPICS, max_rows=1000)
    LaneWorker(role, log, tmp_path / "state").run()
    with TopicAdmin(local_broker) as admin:
        admin.create([TopicSpec(name=topics.features("conn"), partitions=2)])
    messages = log.messages(role.output_topic)
    publish(local_broker, [(topics.features("conn"), 1, m.value or b"", list(m.headers)) for m in messages])
    return topics


def at(broker: KafkaSettings, topics: Topics) -> tuple[str, ...]:
    return ("--bootstrap-servers", broker.servers, "--prefix", topics.prefix)


@pytest.mark.broker
def test_what_the_log_holds_is_kept_once(
    weir: Callable[..., Any], local_broker: KafkaSettings, stream: Topics, tmp_path: Path
) -> None:
    """A part first, then the rest, then nothing; each run says so."""
    where = at(local_broker, stream)
    first = weir("capture", "--rows", "250", *where)
    second = weir("capture", *where)
    third = weir("capture", *where)

    assert [first.code, second.code, third.code] == [0, 0, 0]
    assert "300 rows in 1 files, 300 of them new" in first.out
    assert "1,000 rows in 2 files, 700 of them new" in second.out
    assert "0 of them new" in third.out
    assert captured_rows(tmp_path / "capture") == 1000


@pytest.mark.broker
def test_sigterm_ends_it_with_complete_files(
    start: Callable[..., subprocess.Popen[str]], local_broker: KafkaSettings, stream: Topics, tmp_path: Path
) -> None:
    """Following, it is told to stop, and what it has is complete."""
    folder = tmp_path / "capture"
    process = start("capture", "--follow", "--out", str(folder), *at(local_broker, stream))
    deadline = time.monotonic() + 30
    while not list(folder.glob(f"{PARTIAL}*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)

    assert process.wait(20) == 0
    assert captured_rows(folder) == 1000
    assert not list(folder.glob(f"{PARTIAL}*"))


@pytest.mark.broker
def test_for_so_long(weir: Callable[..., Any], local_broker: KafkaSettings, stream: Topics) -> None:
    began = time.monotonic()

    assert "1,000 rows" in weir("capture", "--for", "2s", *at(local_broker, stream)).out
    assert 2.0 <= time.monotonic() - began < 15


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("--for", "2 weeks"), 2, "expected a number above 0 and one of s, m, h, d"),
        (("--max-size", "0GB"), 2, "is no size"),
        (("--rows", "5", "--max-size", "1GB"), 2, "give one of them"),
        (("--set", "features.inline=true"), 78, "no features topic to keep"),
        (("--bootstrap-servers", "127.0.0.1:1", "--set", "kafka.connect_timeout_s=1"), 75, "127.0.0.1:1"),
    ],
)
def test_mistakes_are_one_sentence(
    weir: Callable[..., Any], args: tuple[str, ...], code: int, words: str
) -> None:
    found = weir("capture", *args)

    assert (code, True) == (found.code, words in found.err)
    assert "Traceback" not in found.err


def test_a_folder_in_use_is_said(weir: Callable[..., Any], tmp_path: Path) -> None:
    with locked(tmp_path / "capture"):
        found = weir("capture")

    assert found.code == 75
    assert "another capture writes to capture" in found.err


@pytest.mark.broker
def test_a_missing_topic_is_named(weir: Callable[..., Any], local_broker: KafkaSettings) -> None:
    found = weir("capture", "--bootstrap-servers", local_broker.servers, "--prefix", "nowhere")

    assert found.code != 0
    assert "nowhere.features.conn.v1 does not exist" in found.err
