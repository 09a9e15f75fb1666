"""Mistakes of people end in one clear sentence, within seconds, and a panel's first start loses nothing."""

import hashlib
import json
import re
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from brokers import conn_rows, fresh_topics
from cases import MakeStream, Trained
from stream import ROOT, Stream, stopped

from connectors.broker_local import free_port
from connectors.child import Child
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.source_memory import MemorySource
from connectors.topics import TopicAdmin
from pipeline.exit_codes import AGAIN, CONFIG, WRONG_USE
from pipeline.settings import load_settings
from pipeline.topic_plan import topic_specs

pytestmark = [pytest.mark.data, pytest.mark.slow]

AT_ONCE_S = 15.0
"""Start of Python on a busy machine, and the five seconds a broker is waited for."""

Prefix = str


def refused(args: list[str], said: str, code: int = CONFIG) -> None:
    """Check that a worker ends soon, with its exit code and one sentence."""
    started = time.monotonic()
    done = weir_process(args)
    assert time.monotonic() - started < AT_ONCE_S
    assert code == done.returncode, done.stderr
    assert re.search(said, done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    sentences = [line for line in done.stderr.splitlines() if line.startswith("weir: ")]
    assert len(sentences) == 1, done.stderr


def weir_process(args: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.cli.main", *args]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def prefix(local_broker: KafkaSettings) -> Prefix:
    """Topics of the default lanes under a new prefix."""
    name = fresh_topics().prefix
    settings = load_settings(overrides={"topics.prefix": name}, env={})
    with TopicAdmin(local_broker) as admin:
        admin.create(topic_specs(settings))
    return name


def detect(kafka: KafkaSettings, prefix: Prefix, models: Path, name: str = "unsw-conn-bn") -> list[str]:
    where = ["--bootstrap-servers", kafka.servers, "--prefix", prefix]
    chosen = {"panel.models_dir": models, "panel.models": name, "worker.port": "null"}
    chosen["worker.state_dir"] = models / "state"
    return ["worker", "detect", *where, *(x for k, v in chosen.items() for x in ("--set", f"{k}={v}"))]


@pytest.fixture
def models(trained: Trained, tmp_path: Path) -> Path:
    """A copy of the models that may be spoilt."""
    copy = tmp_path / "models"
    shutil.copytree(trained("unsw-conn"), copy)
    return copy


def flip_a_byte(bundle: Path) -> None:
    path = bundle / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def other_feature_set(bundle: Path) -> None:
    """Write a manifest that is whole, but of a model for other features."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["feature_set"]["hash"] = "0123456789abcdef"
    content = json.dumps(manifest).encode()
    (bundle / "manifest.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    (bundle / "manifest.sha256").write_bytes(f"{digest}  manifest.json\n".encode())


@pytest.mark.broker
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (flip_a_byte, r"weights\.safetensors does not have the SHA-256 in manifest\.json; .*copy"),
        (other_feature_set, r"conn:0123456789abcdef, but this program has conn:[0-9a-f]{16}; train"),
        (shutil.rmtree, r"no model 'unsw-conn-bn'"),
    ],
)
def test_a_spoilt_model_is_refused(
    local_broker: KafkaSettings, prefix: Prefix, models: Path, spoil: Callable[[Path], None], said: str
) -> None:
    """One byte changed, another feature set, no model: named, before anything is consumed."""
    spoil(models / "unsw-conn-bn" / "1")

    refused(detect(local_broker, prefix, models), said)


@pytest.mark.broker
def test_a_panel_without_models_is_refused(local_broker: KafkaSettings, prefix: Prefix, models: Path) -> None:
    """The setting to set is named."""
    refused(detect(local_broker, prefix, models, ""), r"panel main has no models that decide; name")


@pytest.mark.parametrize("stage", ["features", "detect"])
def test_a_broker_that_is_not_there_is_named(stage: str, models: Path) -> None:
    """No worker waits for ever for a broker that nobody started."""
    nowhere = KafkaSettings(bootstrap_servers=(f"127.0.0.1:{free_port()}",))
    args = detect(nowhere, "p", models)
    args[1] = stage

    refused(args, rf"no answer from Kafka at {nowhere.servers} .*start the broker", AGAIN)


def test_missing_topics_are_named(broker: KafkaSettings, models: Path) -> None:
    """With the command that makes them."""
    refused(
        detect(broker, "nobody-made-this", models),
        r"missing topics nobody-made-this\.dead-letters\.v1, .*weir topics create",
    )


@pytest.mark.broker
def test_a_used_port_is_named(local_broker: KafkaSettings, prefix: Prefix, models: Path) -> None:
    """A second worker on a machine is told which setting to change."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        args = [*detect(local_broker, prefix, models), "--set", f"worker.port={port}"]

        refused(args, rf"port {port} on 127\.0\.0\.1 is in use; .*worker\.port", AGAIN)


@pytest.mark.broker
def test_a_state_folder_that_cannot_be_made_is_named(
    local_broker: KafkaSettings, prefix: Prefix, models: Path
) -> None:
    """No restart gives a folder where a file stands."""
    (models / "state").write_text("a file")

    refused(detect(local_broker, prefix, models), r"models/state.*: Not a directory; .*write there")


def test_a_refused_login_is_named(guarded_kafka: KafkaSettings, models: Path) -> None:
    """Trying again would only lock the account."""
    stranger = models.parent / "weir.yaml"
    connection = guarded_kafka.model_dump(mode="json", exclude_defaults=True) | {"sasl_password": "wrong"}
    stranger.write_text(yaml.safe_dump({"kafka": connection}))

    refused(["worker", "features", "-c", str(stranger)], r"the broker refused the login; check user and")


def test_a_wrong_command_line_is_no_failure_to_try_again() -> None:
    """Usage errors keep their own code."""
    done = weir_process(["worker", "featurs"])

    assert (done.returncode, "'featurs' is not one of" in done.stderr) == (WRONG_USE, True)


@pytest.mark.broker
def test_workers_wait_for_a_broker_that_starts_after_them(
    local_broker: KafkaSettings, prefix: Prefix, models: Path
) -> None:
    """At boot `weir worker all` may be first: its children end with 75 until there is a broker."""
    port = free_port()
    early = local_broker.model_copy(update={"bootstrap_servers": (f"127.0.0.1:{port}",)})
    args = [sys.executable, "-m", "pipeline.cli.main", *detect(early, prefix, models)]
    args[args.index("detect")] = "all"
    log = models.parent / "all.log"

    worker = Child(args, log, {"PYTHONPATH": str(ROOT)})
    try:
        wait_for(log, r'"exit_code": 75', 3)
        with forwarded(port, local_broker.bootstrap_servers[0]):
            wait_for(log, r"lanes_assigned", 3)
    finally:
        worker.stop(patience_s=25)

    assert worker.ended() == 0


def wait_for(log: Path, what: str, n_times: int, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while len(re.findall(what, log.read_text())) < n_times:
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


@contextmanager
def forwarded(port: int, target: str) -> Iterator[None]:
    """Let a port lead to a broker, as if it were up from now on."""
    host, _, number = target.rpartition(":")

    class Forward(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection((host, int(number))) as onward:
                back = threading.Thread(target=_pump, args=(onward, self.request), daemon=True)
                back.start()
                _pump(self.request, onward)

    with socketserver.ThreadingTCPServer(("127.0.0.1", port), Forward) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.broker
def test_an_unknown_setting_is_named(local_broker: KafkaSettings, prefix: Prefix, models: Path) -> None:
    """With the nearest one that there is."""
    args = [*detect(local_broker, prefix, models), "--set", "worker.prot=1"]

    refused(args, r"worker\.prot: unknown setting; did you mean port\?")


def n_messages(stream: Stream, topic: str) -> int:
    with KafkaReader(stream.kafka) as reader:
        return sum(end - begin for begin, end in reader.offsets(topic).values())


def test_new_panels_begin_at_the_end_and_lose_nothing_afterwards(make_stream: MakeStream) -> None:
    """Two first starts at once with --from latest: old flows are not judged, later ones all are."""
    source = MemorySource(conn_rows(900, sensors=("s1", "s2")))
    stream = make_stream("unsw-conn", writer={"rows": 50, "sensor_lanes": {"s1": 0, "s2": 1}})
    accounts = stream.accounts
    stream.start("features", "alerts")
    stream.send(source, 300)
    stream.wait(
        lambda: n_messages(stream, stream.topics.features("conn")) == 8, "features of the first flows"
    )
    old = set(accounts.look().sent)

    first = stream.start("detect", "detect", begin="latest")
    stream.wait(lambda: all("lanes_assigned" in worker.text for worker in first), "both began")
    stream.send(source, 600)
    stream.wait(lambda: set(accounts.look().sent) == old | set(accounts.books.scored), "new flows judged")
    assert [stopped(worker) for worker in first] == [0, 0]
    stream.send(source, 900)
    stream.start("detect", begin="latest")
    stream.wait(lambda: set(accounts.look().sent) == old | set(accounts.books.scored), "later flows judged")

    assert old.isdisjoint(accounts.books.scored)
    assert sum(accounts.books.scored.values()) == 600
