"""The alerts stage with suppressions: whatever happens to a worker, each flow is told of once."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lane_workers import TOPICS, LaneWorker
from memory_log import MemoryLog

from connectors.wire import encode
from pipeline.agents.alerts import AlertsRole
from pipeline.settings_sections import GroupingSettings
from pipeline.suppressions import Suppressed

ROLE = AlertsRole("main", TOPICS, GroupingSettings(bucket_s=60.0, first=1), suppresses=True)
N = 50
STEP_S = 200.0
"""Eighteen messages an hour."""

KNOWN = Suppressed(id="ab" * 8, reason="known scanner").to_json()

Make = Callable[..., Any]


@pytest.fixture(scope="session")
def log_of(flagged: Make, headers: Make) -> Callable[[], MemoryLog]:
    """Return a maker of a log of nearly three hours, in which every other flow is suppressed."""

    def make() -> MemoryLog:
        log = MemoryLog()
        for offset in range(N):
            at = offset * STEP_S
            rows = flagged(
                {"at": at, "flow_id": f"a{offset}"},
                {"at": at, "flow_id": f"b{offset}", "suppressed": KNOWN, "reasons": None},
            )
            said = headers(at, rows=9, flagged=2, flows_offset=offset, flush=offset == N - 1)
            log.append(ROLE.input_topic, 0, encode(rows), said.to_kafka())
        return log

    return make


def alerts(log: MemoryLog) -> dict[str, bytes]:
    """Return the bodies by id; repeats must be equal to the first."""
    found: dict[str, bytes] = {}
    for message in log.messages(TOPICS.alerts):
        body = message.value or b""
        assert found.setdefault(json.loads(body)["event"]["id"], body) == body
    return found


@hypothesis_settings(max_examples=40, deadline=None)
@given(restarts=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), max_size=4))
def test_deaths_change_no_report(
    tmp_path_factory: pytest.TempPathFactory,
    log_of: Callable[[], MemoryLog],
    restarts: list[tuple[int, int]],
) -> None:
    """Whenever a worker dies and whatever is committed, every suppressed flow is reported, and once."""
    calm, log = log_of(), log_of()
    folder = tmp_path_factory.mktemp("state")
    assert LaneWorker(ROLE, calm, folder).run()
    done = 0
    for dies_at, behind in restarts:
        worker = LaneWorker(ROLE, log, folder, dies_at=dies_at)
        worker.run(max(0, done - behind))
        lane = worker.carrier._lanes.get(0)
        done = max(done, lane.done + 1 if lane else 0)

    assert LaneWorker(ROLE, log, folder).run(done)

    assert alerts(calm) == alerts(log)
    bodies = [json.loads(body) for body in alerts(log).values()]
    reports = [body for body in bodies if body["event"]["kind"] == "event"]
    assert sum(report["weir"]["group"]["count"] for report in reports) == N
    assert len(reports) == 3  # the hours that the log touches
    assert {body["weir"]["flow_id"] for body in bodies if body["event"]["kind"] == "alert"} == {
        f"a{offset}" for offset in range(N)
    }


def test_a_lane_without_suppressions_reads_back_one_bucket(log_of: Callable[[], MemoryLog]) -> None:
    """The hour is read again only where something of it is kept."""
    plain = AlertsRole("main", TOPICS, GroupingSettings(bucket_s=60.0))

    assert plain.restore(log_of(), 0, 40).start == 39
    assert ROLE.restore(log_of(), 0, 40).start < 39


def test_suppressed_flows_are_counted(log_of: Callable[[], MemoryLog]) -> None:
    """The metric has them by reason; they are neither alerts nor in a group."""
    log = log_of()
    lane = ROLE.restore(log, 0, 0).lane

    step = lane.process(log.messages(ROLE.input_topic)[0])

    assert step.tally.suppressed == {"known_scanner": 1}
    assert step.tally.grouped == 0
    assert sum(step.tally.severities.values()) == 1
    assert len(step.outs) == 1


def test_the_state_folder_is_not_needed(tmp_path: Path, log_of: Callable[[], MemoryLog]) -> None:
    """What was suppressed follows from the log alone: another machine goes on where one stopped."""
    calm, log = log_of(), log_of()
    assert LaneWorker(ROLE, calm, tmp_path / "a").run()

    LaneWorker(ROLE, log, tmp_path / "b", dies_at=20).run()
    assert LaneWorker(ROLE, log, tmp_path / "c").run()

    assert alerts(calm) == alerts(log)
