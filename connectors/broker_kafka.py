"""Apache Kafka, one broker in KRaft mode on loopback ports, for tests and benchmarks.

Its jars come by Maven once, into a cache outside the tree. Needs Java 17 or later and Maven.

Run as `python -m connectors.broker_kafka [--port N]` to keep one in the foreground.
"""

import argparse
import base64
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from connectors.broker_local import HOST, check_port, free_port, wait_ready
from connectors.child import Child
from connectors.errors import BrokerError, ConnectorError
from connectors.kafka_settings import KafkaSettings

VERSION = "4.3.1"
ARTIFACT = "kafka_2.13"
HEAP = "-Xmx512m"

_DOWNLOAD_S = 540.0
_TOOL_S = 60.0

_POM = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>weir</groupId><artifactId>broker</artifactId><version>1</version>
  <dependencies><dependency>
    <groupId>org.apache.kafka</groupId><artifactId>{ARTIFACT}</artifactId><version>{VERSION}</version>
  </dependency></dependencies>
</project>
"""


def missing_tools() -> str:
    """Return which of java and mvn are missing, or nothing if Apache Kafka can be had.

    Maven is not needed once the jars are in the cache.
    """
    needed = ["java"] if jar_folder().is_dir() else ["java", "mvn"]
    return " and ".join(tool for tool in needed if shutil.which(tool) is None)


def jar_folder() -> Path:
    """Return where the jars are, or will be: WEIR_CACHE, else the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "weir"
    return Path(os.environ.get("WEIR_CACHE") or default) / f"kafka-{VERSION}"


def fetch_jars() -> Path:
    """Return the folder of Kafka's jars, downloaded if they are not there yet.

    They appear all at once: a download that breaks off leaves nothing behind.

    Raises
    ------
    BrokerError
        If Maven is missing or fails.
    """
    jars = jar_folder()
    if jars.is_dir():
        return jars
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent, prefix=".download-") as folder:
        _download(Path(folder))
        try:
            (Path(folder) / "jars").rename(jars)
        except OSError:
            if not jars.is_dir():  # somebody else was faster: theirs are as good
                raise
    return jars


def _download(folder: Path) -> None:
    (folder / "pom.xml").write_text(_POM)
    goal = "dependency:copy-dependencies"
    command = ["mvn", "-B", "-q", "-f", str(folder / "pom.xml"), goal, "-DincludeScope=runtime"]
    result = _run([*command, f"-DoutputDirectory={folder / 'jars'}"], "download Apache Kafka", _DOWNLOAD_S)
    if not any((folder / "jars").glob(f"{ARTIFACT}-{VERSION}.jar")):
        raise BrokerError(
            f"cannot download Apache Kafka {VERSION}: Maven brought no broker ({result[-300:]})"
        )


def _run(command: list[str], doing: str, timeout_s: float) -> str:
    if shutil.which(command[0]) is None:
        raise BrokerError(
            f"cannot {doing}: {command[0]} is not installed; install it (Java 17 or later, Maven)"
        )
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise BrokerError(
            f"cannot {doing}: {command[0]} took more than {timeout_s:g} s; try again"
        ) from error
    output = f"{done.stdout}\n{done.stderr}".strip()
    if done.returncode:
        raise BrokerError(f"cannot {doing}: {command[0]} failed with {done.returncode}: {output[-500:]}")
    return output


class ApacheKafka:
    """A broker with its data in a folder: killed, it can be started again on the same data and ports.

    Parameters
    ----------
    folder : Path
        For its data and its log; formatted here, so it must be new.
    port : int, optional
        Port to listen on, free where not given.
    advertised_port : int, optional
        Port that clients are told to use, where a proxy stands before the broker.
    properties : mapping, optional
        Lines of server.properties to add or to replace.

    Raises
    ------
    BrokerError
        If the port is in use, or the jars cannot be had.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        advertised_port: int | None = None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port() if port is None else check_port(port)
        self.settings = KafkaSettings(bootstrap_servers=(f"{HOST}:{advertised_port or self.port}",))
        self._folder = folder
        classpath = f"{fetch_jars()}{os.sep}*"
        config = _configure(folder, self.port, advertised_port or self.port, properties or {})
        _format(folder, classpath, config)
        self._command = [*_java(folder, classpath), "kafka.Kafka", str(config)]
        self._child: Child | None = None

    def start(self, timeout_s: float = 60.0) -> None:
        """Return when the broker answers.

        Raises
        ------
        BrokerError
            If it does not, with its last words.
        """
        child = self.launch()
        direct = KafkaSettings(bootstrap_servers=(f"{HOST}:{self.port}",))
        wait_ready(direct, child.ended, child.log_tail, timeout_s)

    def launch(self) -> Child:
        """Start the process, unless it runs, and return it at once, before it answers."""
        if self._child is None or self._child.ended() is not None:
            self._child = Child(self._command, self._folder / "broker.log")
        return self._child

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._child is not None and self._child.ended() is None

    @property
    def told(self) -> str:
        """Whether the process runs, and its last words."""
        if self._child is None:
            return "never started"
        state = "is alive" if self.is_alive else f"ended with {self._child.ended()}"
        return f"{state}: {self._child.log_tail(2)}"

    def kill(self) -> None:
        """End it with -9, as a power cut that spares the disk would."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            self._child.stop()

    def stop(self) -> None:
        """End it as one should."""
        if self._child is not None:
            self._child.stop()


@contextmanager
def kafka_broker(
    port: int | None = None, *, properties: Mapping[str, str] | None = None, timeout_s: float = 60.0
) -> Iterator[KafkaSettings]:
    """Run Apache Kafka with an empty log on a loopback port and yield how to reach it.

    It answers before this yields; when this ends, by an exception too, it is gone with its data.

    Parameters
    ----------
    port : int, optional
        Port to listen on, free where not given.
    properties : mapping, optional
        Lines of server.properties to add or to replace.

    Raises
    ------
    BrokerError
        If the port is in use, the jars cannot be had, or the broker does not start.
    """
    with tempfile.TemporaryDirectory(prefix="weir-kafka-") as name:
        broker = ApacheKafka(Path(name), port, properties=properties)
        try:
            broker.start(timeout_s)
            yield broker.settings
        finally:
            broker.stop()


def _java(folder: Path, classpath: str) -> list[str]:
    logging = folder / "log4j2.yaml"
    return ["java", HEAP, f"-Dlog4j2.configurationFile={logging}", "-cp", classpath]


_LOGGING = """Configuration:
  Appenders:
    Console: {name: console, PatternLayout: {pattern: "%d %p %m (%c)%n"}}
  Loggers:
    Root: {level: WARN, AppenderRef: {ref: console}}
"""


def _configure(folder: Path, port: int, advertised: int, properties: Mapping[str, str]) -> Path:
    controller = free_port()
    lines = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{advertised}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(folder / "log"),
        # One broker: nothing to replicate to. No auto-creation: a missing topic is an error.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        **properties,
    }
    config = folder / "server.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    (folder / "log4j2.yaml").write_text(_LOGGING)
    return config


def _format(folder: Path, classpath: str, config: Path) -> None:
    # A tool of one second: compiling it well would take longer.
    java = [*_java(folder, classpath), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    # "--cluster-id=": an id may begin with a dash.
    command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(config)]
    _run(command, "format Kafka's log", _TOOL_S)


def main(arguments: list[str] | None = None) -> int:
    """Run Apache Kafka in the foreground until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m connectors.broker_kafka", description=main.__doc__)
    parser.add_argument("--port", type=int, default=9092, help="port on 127.0.0.1 (default: 9092)")
    port = parser.parse_args(arguments).port
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        with kafka_broker(port) as settings:
            sys.stdout.write(f"Apache Kafka {VERSION} listens on {settings.servers}; Ctrl-C stops it\n")
            sys.stdout.flush()
            stop.wait()
    except ConnectorError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
