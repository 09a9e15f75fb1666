"""Apache Kafka for tests: its download, its start and its end."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectors import broker_kafka
from connectors.broker_local import free_port
from connectors.errors import BrokerError
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.publish import publish
from connectors.topics import TopicAdmin, TopicSpec

ROOT = Path(__file__).parent.parent.parent


def _fake_maven(folder: Path, script: str) -> None:
    """Put a program named mvn first on the path: what Maven does when it fails cannot be had from it."""
    program = folder / "bin" / "mvn"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IEXEC)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (
            'mkdir -p "${7#*=}"; touch "${7#*=}/half.jar"; exit 1',
            "mvn failed with 1",
        ),
        ("exit 0", "Maven brought no broker"),
        ("echo no network >&2; exit 2", "no network"),
    ],
)
def test_a_download_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str
) -> None:
    """The cache is as before, so that the next attempt begins anew."""
    _fake_maven(tmp_path, script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("WEIR_CACHE", str(tmp_path / "cache"))

    with pytest.raises(BrokerError, match=expected):
        broker_kafka.fetch_jars()

    assert list((tmp_path / "cache").iterdir()) == []


def test_missing_tools_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install is said; with the jars at hand Maven is not needed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("WEIR_CACHE", str(tmp_path / "cache"))
    assert broker_kafka.missing_tools() == "java and mvn"
    with pytest.raises(BrokerError, match="mvn is not installed"):
        broker_kafka.fetch_jars()

    (tmp_path / "cache" / f"kafka-{broker_kafka.VERSION}").mkdir()
    assert broker_kafka.missing_tools() == "java"


@pytest.mark.kafka
def test_it_starts_empty_and_leaves_nothing(apache_kafka: KafkaSettings) -> None:
    """The broker of `make kafka`: prints where it is, takes requests, ends cleanly on Ctrl-C."""
    assert apache_kafka.servers  # the jars are there
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "connectors.broker_kafka", "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert f"listens on 127.0.0.1:{port}" in process.stdout.readline()
        with TopicAdmin(KafkaSettings(bootstrap_servers=(f"127.0.0.1:{port}",))) as admin:
            assert admin.names() == []
        begun = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(15) == 0
        assert process.stderr.read() == ""
    assert time.monotonic() - begun < 10
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")
def test_a_used_port_is_one_sentence() -> None:
    """Said before anything is downloaded or started."""
    with socket.socket() as used:
        used.bind(("127.0.0.1", 0))
        used.listen()
        command = [sys.executable, "-m", "connectors.broker_kafka", "--port", str(used.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=30)

    assert done.returncode == 1
    assert "cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.kafka
def test_killed_it_comes_back_with_its_data(apache_kafka: KafkaSettings, tmp_path: Path) -> None:
    """On the same port; what was acknowledged before kill -9 is there."""
    assert apache_kafka.servers  # the jars are there
    broker = broker_kafka.ApacheKafka(tmp_path)
    try:
        broker.start()
        with TopicAdmin(broker.settings) as admin:
            admin.create([TopicSpec(name="t", partitions=1)])
        publish(broker.settings, [("t", 0, b"%d" % n, []) for n in range(100)])

        broker.kill()
        broker.start()

        with KafkaReader(broker.settings) as reader:
            assert [m.value for m in reader.read_range("t", 0, 0, 100)] == [b"%d" % n for n in range(100)]
    finally:
        broker.stop()
