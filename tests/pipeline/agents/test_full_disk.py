"""A full disk ends a worker; it makes no message a dead letter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from lane_workers import CONN_SET, TOPICS
from memory_log import MemoryLog

from pipeline.agents.alerts import AlertsLane, AlertsRole
from pipeline.agents.features import FeaturesLane, FeaturesRole, FlowsLane
from pipeline.agents.lane import MACHINE_FAULTS, Lane
from pipeline.exit_codes import AGAIN
from pipeline.settings_sections import GroupingSettings

ROOT = Path(__file__).parents[3]

WORKER = """
import asyncio, resource, sys
from pathlib import Path
from conn_flows import conn_rows, flows_message
from lane_workers import CONN_SET, TOPICS
from memory_log import MemoryLog
from pipeline.agents.attempts import Attempts
from pipeline.agents.carrier import Carrier
from pipeline.agents.features import FeaturesRole
from pipeline.agents.meter import Meter
from pipeline.metrics import Metrics

async def send(out):
    print("sent", out.topic, flush=True)

log, role = MemoryLog(), FeaturesRole(CONN_SET, TOPICS, max_rows=100)
log.append(role.input_topic, 0, *flows_message(conn_rows(10)), None)
attempts = Attempts(Path(sys.argv[1]))
carrier = Carrier(role, log, send, attempts, Meter("features", Metrics()), lambda _: True)
(message,) = log.messages(role.input_topic)
# Room for the count of attempts, none for a compiled kernel.
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
asyncio.run(carrier.carry(message))
"""


@pytest.mark.slow
def test_a_kernel_that_cannot_be_cached_ends_the_worker(tmp_path: Path) -> None:
    """Numba writes what it compiles; the first message of a new installation needs the room."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
    env = {**os.environ, "PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-c", WORKER, str(tmp_path / "state")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)

    assert done.returncode == AGAIN, done.stderr
    assert "File too large" in done.stdout
    assert "sent" not in done.stdout


FEATURES = FeaturesLane(FeaturesRole(CONN_SET, TOPICS, max_rows=100), 0)
ALERTS = AlertsLane(AlertsRole("main", TOPICS, GroupingSettings()), 0, done=-1, answered=-1)


@pytest.mark.parametrize("error", MACHINE_FAULTS)
@pytest.mark.parametrize(
    ("lane", "where"), [(FEATURES, (FlowsLane, "_take")), (ALERTS, (AlertsLane, "_feed"))]
)
def test_faults_of_the_machine_make_no_dead_letter(
    lane: Lane, where: tuple[type, str], error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are raised, and so end the process before the offset moves; on the way back as well."""

    def failing(*_: object) -> None:
        raise error

    monkeypatch.setattr(*where, failing)
    log = MemoryLog()
    log.append("t", 0, b"", [], None)

    with pytest.raises(error):
        lane.process(log.messages("t")[0])
    with pytest.raises(error):
        lane.warm(log.messages("t")[0])
