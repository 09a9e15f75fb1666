"""Logs: one JSON object a line on file descriptor 2, whoever captured the streams."""

import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from pipeline.exit_codes import AGAIN
from pipeline.logs import configure_logging

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave logging as it was found: other tests depend on it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capfd: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capfd.readouterr().err.splitlines()]


def test_an_event_is_one_json_line_with_its_role(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json", role="detect")

    structlog.get_logger().info("worker_started", lanes=4)

    (line,) = lines(capfd)
    assert line.pop("timestamp")
    assert line == {"event": "worker_started", "lanes": 4, "level": "info", "role": "detect"}


def test_debug_is_silent_at_info(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json")

    structlog.get_logger().debug("batch_judged")

    assert lines(capfd) == []


def test_a_batch_is_bound_once_for_all_its_lines(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json")
    with structlog.contextvars.bound_contextvars(partition=2, offset=17):
        structlog.get_logger().warning("first")
        structlog.get_logger().warning("second")
    structlog.get_logger().warning("third")

    assert [line.get("offset") for line in lines(capfd)] == [17, 17, None]


@pytest.mark.parametrize("library", ["faust", "mode.worker", "aiokafka.consumer", "kafka.conn"])
def test_libraries_are_heard_from_warning_on(library: str, capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(level="debug", format="json")
    logging.getLogger(library).info("chatter")
    logging.getLogger(library).warning("lost %s", "broker")

    (line,) = lines(capfd)
    assert (line["event"], line["logger"], line["level"]) == ("lost broker", library, "warning")


def test_a_python_warning_is_a_line_too(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old call", DeprecationWarning, stacklevel=1)

    assert "old call" in str(lines(capfd)[0]["event"])


def test_an_error_carries_its_trace_as_data(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging(format="json")
    try:
        int("broken")
    except ValueError:
        structlog.get_logger().exception("batch_failed")

    (line,) = lines(capfd)
    assert line["exception"][0]["exc_value"].endswith("'broken'")


def test_lines_reach_descriptor_two_though_the_streams_are_captured() -> None:
    """Faust replaces both streams; our lines must not become its warnings."""
    code = (
        "import io, sys, structlog; from pipeline.logs import configure_logging;"
        "sys.stdout = sys.stderr = io.StringIO(); configure_logging(format='json');"
        "structlog.get_logger().info('worker_started')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stderr)["event"] == "worker_started"


def refused(password: str) -> None:
    raise ConnectionError(f"refused, {len(password)} letters")


def test_a_trace_shows_no_values(capfd: pytest.CaptureFixture[str]) -> None:
    """Local variables of a client library may hold a password."""
    configure_logging(format="json")
    try:
        refused("secret-7")
    except ConnectionError:
        logging.getLogger("kafka").exception("login")

    (line,) = lines(capfd)
    assert "secret-7" not in json.dumps(line)
    assert "refused, 8 letters" in json.dumps(line)


FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from lane_workers import CONN_SET, TOPICS
from memory_log import MemoryLog
from pipeline.agents.attempts import Attempts
from pipeline.agents.carrier import Carrier
from pipeline.agents.features import FeaturesRole
from pipeline.agents.meter import Meter
from pipeline.logs import configure_logging
from pipeline.metrics import Metrics

configure_logging(format="json")
log, role = MemoryLog(), FeaturesRole(CONN_SET, TOPICS, max_rows=10)
log.append(role.input_topic, 0, b"", [], None)
attempts = Attempts(Path(sys.argv[1]))
carrier = Carrier(role, log, None, attempts, Meter("features", Metrics()), lambda _: True)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
asyncio.run(carrier.carry(next(iter(log.messages(role.input_topic)))))
"""


def test_a_full_disk_ends_a_worker_whose_log_is_full_too(tmp_path: Path) -> None:
    """It cannot say why, and must not live on: Faust would commit the message that it could not take."""
    script = tmp_path / "worker.py"
    script.write_text(FULL_DISK)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])}
    with (tmp_path / "log").open("w") as log:
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path)], stderr=log, env=env, check=False, timeout=60
        )

    assert done.returncode == AGAIN
    assert "worker_failed" not in (tmp_path / "log").read_text()


def test_a_line_that_nobody_reads_is_no_error() -> None:
    """The reader of our standard error has gone."""
    script = "from pipeline.logs import *; configure_logging(); structlog.get_logger().error('lost')"
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", script], stderr=writer, check=False, timeout=60, cwd=ROOT)
    os.close(writer)

    assert done.returncode == 0
