"""The local broker: up when it says so, gone when it should be."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from connectors.broker_local import HOST, check_port, free_port, local_broker, wait_ready
from connectors.child import Child
from connectors.errors import BrokerError
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin, TopicSpec

pytestmark = pytest.mark.broker
ROOT = Path(__file__).parent.parent.parent


def _listens(settings: KafkaSettings) -> bool:
    host, _, port = settings.servers.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def test_it_answers_at_once_and_is_gone_after() -> None:
    """The first request works; nothing listens behind the end, by an exception too."""
    with pytest.raises(ZeroDivisionError):
        _use_and_fail(reached := [])

    assert not _listens(reached[0])


def _use_and_fail(reached: list[KafkaSettings]) -> None:
    with local_broker() as settings:
        reached.append(settings)
        with TopicAdmin(settings) as admin:
            admin.create([TopicSpec(name="a.topic", partitions=2)])
        raise ZeroDivisionError


def test_it_takes_the_port_that_it_is_given(tmp_path: Path) -> None:
    """A given port, a log of one's own, and the port is free again afterwards."""
    port = free_port()
    with local_broker(port, log=tmp_path / "log") as settings:
        assert settings.servers == f"{HOST}:{port}"

    assert check_port(port) == port
    assert "listening on" in (tmp_path / "log").read_text()


def test_a_used_port_is_one_sentence() -> None:
    """Somebody listens there already: said at once, with the number and what to do."""
    with socket.socket() as used:
        used.bind((HOST, 0))
        used.listen()
        port = used.getsockname()[1]
        with pytest.raises(BrokerError, match=rf"port {port} on {HOST} cannot be used .*another port"):
            local_broker(port).__enter__()


def test_two_brokers_know_nothing_of_each_other() -> None:
    """Each starts empty."""
    with local_broker() as one, local_broker() as two:
        with TopicAdmin(one) as admin:
            admin.create([TopicSpec(name="only.here", partitions=1)])
        with TopicAdmin(two) as admin:
            assert admin.names() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can tie a child to its parent")
def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    """A parent killed with -9 leaves no broker behind."""
    program = (
        "import time\n"
        "from connectors.broker_local import local_broker\n"
        "with local_broker() as settings:\n"
        "    print(settings.servers, flush=True)\n"
        "    time.sleep(60)\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}  # what a killed parent cannot clean up
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env
    )
    with parent:
        assert parent.stdout is not None
        settings = KafkaSettings(bootstrap_servers=(parent.stdout.readline().strip(),))
        assert _listens(settings)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while _listens(settings):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_child_that_does_not_listen_to_reason_is_killed(tmp_path: Path) -> None:
    """SIGTERM ignored: after its patience `stop` kills."""
    ignore = (
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('up', flush=True)\n"
        "time.sleep(60)\n"
    )
    child = Child([sys.executable, "-c", ignore], tmp_path / "log")
    deadline = time.monotonic() + 10
    while "up" not in child.log_tail():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    begun = time.monotonic()
    child.stop(patience_s=0.3)

    assert child.ended() == -signal.SIGKILL
    assert time.monotonic() - begun < 3
    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_broker_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """Its exit code and its last words are in the error; nobody waits for the time limit."""
    child = Child([sys.executable, "-c", "import sys; sys.exit('no room')"], tmp_path / "log")
    settings = KafkaSettings(bootstrap_servers=(f"{HOST}:{free_port()}",))
    begun = time.monotonic()
    with pytest.raises(BrokerError, match=r"ended with exit code 1; its last words: no room"):
        wait_ready(settings, child.ended, child.log_tail, 30)
    child.stop()

    assert time.monotonic() - begun < 5
