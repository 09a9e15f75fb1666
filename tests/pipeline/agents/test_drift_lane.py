"""Drift through the stages: one alert a window, the same bytes whatever happens to the workers."""

import json
from pathlib import Path

import pytest
from conn_flows import flows_message
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lane_workers import CONN_SET, TOPICS, LaneWorker
from memory_log import MemoryLog
from office import friday, office_model

from pipeline.agents.alerts import AlertsRole
from pipeline.agents.detect import DetectRole
from pipeline.agents.features import FeaturesRole
from pipeline.agents.inline import InlineRole
from pipeline.judge import Judge
from pipeline.panel import Panel
from pipeline.settings_sections import GroupingSettings

N_ROWS = 9000
"""Flows of the morning: three windows of it are closed."""

FEATURES_ROLE = FeaturesRole(CONN_SET, TOPICS, max_rows=10_000)
ALERTS_ROLE = AlertsRole("main", TOPICS, GroupingSettings())


@pytest.fixture(scope="module")
def detect(tmp_path_factory: pytest.TempPathFactory) -> DetectRole:
    bundle = office_model(tmp_path_factory.mktemp("models"))
    judge = Judge(Panel(name="main", alpha=1e-5, bundles=(bundle,)), first=3, bucket_s=60.0)
    return DetectRole(CONN_SET, judge, TOPICS, begin="earliest")


def flows(*, factor: int, size: int) -> MemoryLog:
    log = MemoryLog()
    rows = friday(factor=factor).slice(0, N_ROWS)
    for begin in range(0, N_ROWS, size):
        log.append(TOPICS.flows, 0, *flows_message(rows.slice(begin, size)))
    return log


def drifts(log: MemoryLog) -> dict[str, bytes]:
    """Return the drift alerts in the log by id; repeats must be equal to the first."""
    found: dict[str, bytes] = {}
    for message in log.messages(TOPICS.alerts):
        body = message.value or b""
        said = json.loads(body)
        if said["weir"].get("kind") == "drift":
            assert found.setdefault(said["event"]["id"], body) == body
    return found


def ran(log: MemoryLog, detect: DetectRole, folder: Path) -> dict[str, bytes]:
    assert LaneWorker(FEATURES_ROLE, log, folder / "features").run()
    assert LaneWorker(detect, log, folder / "detect").run()
    assert LaneWorker(ALERTS_ROLE, log, folder / "alerts").run()
    return drifts(log)


@pytest.fixture(scope="module")
def calm_run(detect: DetectRole, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the drift alerts of an undisturbed run over shifted traffic."""
    return ran(flows(factor=10, size=1000), detect, tmp_path_factory.mktemp("calm"))


def test_normal_traffic_brings_no_drift(detect: DetectRole, tmp_path: Path) -> None:
    """The windows are closed, and nothing is published."""
    assert ran(flows(factor=1, size=1000), detect, tmp_path) == {}


def test_one_alert_a_window(calm_run: dict[str, bytes]) -> None:
    """No two of one window, whole hours apart, all of the first lane."""
    told = [json.loads(body) for body in calm_run.values()]
    ends = sorted(said["event"]["end"] for said in told)

    assert len(told) >= 3
    assert len(set(ends)) == len(ends)
    assert all(end.endswith(":00:00.000000Z") for end in ends)
    assert {said["weir"]["lane"] for said in told} == {0}


@pytest.mark.parametrize("size", [250, 4000])
def test_the_size_of_messages_changes_no_byte(
    detect: DetectRole, calm_run: dict[str, bytes], tmp_path: Path, size: int
) -> None:
    assert ran(flows(factor=10, size=size), detect, tmp_path) == calm_run


def test_one_process_tells_the_same(detect: DetectRole, calm_run: dict[str, bytes], tmp_path: Path) -> None:
    """Features and verdicts inline."""
    log = flows(factor=10, size=1000)
    assert LaneWorker(InlineRole(FEATURES_ROLE, detect), log, tmp_path / "inline").run()
    assert LaneWorker(ALERTS_ROLE, log, tmp_path / "alerts").run()

    assert drifts(log) == calm_run


@hypothesis_settings(max_examples=8, deadline=None)
@given(
    deaths=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 9)), max_size=3),
    alert_deaths=st.lists(st.integers(0, 6), max_size=3),
)
def test_deaths_change_no_byte(
    tmp_path_factory: pytest.TempPathFactory,
    detect: DetectRole,
    calm_run: dict[str, bytes],
    deaths: list[tuple[int, int]],
    alert_deaths: list[int],
) -> None:
    """However often detect and alerts workers die, in the middle of a window too."""
    log, folder = flows(factor=10, size=1000), tmp_path_factory.mktemp("deaths")
    assert LaneWorker(FEATURES_ROLE, log, folder / "features").run()
    for dies_at, behind in deaths:
        done = len(log.messages(detect.output_topic))
        LaneWorker(detect, log, folder / "detect", dies_at=dies_at).run(max(0, done - behind))
    assert LaneWorker(detect, log, folder / "detect").run()
    for dies_at in alert_deaths:
        LaneWorker(ALERTS_ROLE, log, folder / "alerts", dies_at=dies_at).run()
    assert LaneWorker(ALERTS_ROLE, log, folder / "alerts").run()

    assert drifts(log) == calm_run


def test_a_panel_may_be_silent_about_drift(detect: DetectRole, tmp_path: Path) -> None:
    """With panel.drift_alerts off the headers say it still, the alerts do not."""
    log = flows(factor=10, size=1000)
    assert LaneWorker(InlineRole(FEATURES_ROLE, detect), log, tmp_path / "inline").run()
    silent = AlertsRole("main", TOPICS, GroupingSettings(), drift_alerts=False)
    assert LaneWorker(silent, log, tmp_path / "alerts").run()

    assert drifts(log) == {}
    assert any(dict(message.headers).get("weir-drift") for message in log.messages(detect.output_topic))
