"""A detect worker without its models lives, says how far collecting has come, and begins with them."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from conn_flows import conn_rows, flows_message
from lane_workers import CONN_SET, TOPICS, LaneWorker, conn_bundle
from memory_log import MemoryLog

from connectors.broker_local import free_port
from detectors.robust_z import RobustZScore
from pipeline.agents.collecting import Counter, counter, missing_models, wait_for_models, waited
from pipeline.agents.features import FeaturesRole
from pipeline.errors import PipelineError
from pipeline.panel import load_panel
from pipeline.settings import Settings, load_settings


@pytest.fixture
def collecting(tmp_path: Path) -> Settings:
    overrides = {
        "topics.prefix": "t",
        "panel.models": "office",
        "panel.models_dir": str(tmp_path / "models"),
        "panel.collect_flows": 5000,
        "worker.port": free_port(),
    }
    return load_settings(overrides=overrides, env={})


@pytest.fixture
def log(tmp_path: Path) -> MemoryLog:
    """Return a log with the features of 1,200 flows in three messages."""
    log = MemoryLog()
    for index in range(3):
        log.append(TOPICS.flows, 0, *flows_message(conn_rows(400, first=400 * index)))
    LaneWorker(FeaturesRole(CONN_SET, TOPICS, max_rows=1000), log, tmp_path / "state").run()
    return log


def asked(settings: Settings, path: str) -> tuple[int, dict[str, object]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{settings.worker.port}{path}", timeout=5) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def within(done: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def answers(settings: Settings) -> bool:
    try:
        asked(settings, "/live")
    except OSError:
        return False
    return True


def test_it_is_live_and_not_ready_until_the_model_appears(collecting: Settings, log: MemoryLog) -> None:
    """503 with the flows so far; and it ends by itself, the port free, as soon as the bundle is there."""
    found: list[bool] = []
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: found.append(waited(collecting, counter(log, collecting), stop)), daemon=True
    )
    thread.start()
    within(lambda: answers(collecting))

    assert asked(collecting, "/live")[0] == 200
    assert asked(collecting, "/ready") == (
        503, {"ready": False, "missing": ["collecting: 1,200 of 5,000 flows"]},
    )  # fmt: skip
    assert missing_models(collecting.panel) == ["office"]
    conn_bundle(collecting.panel.models_dir, "office", RobustZScore())
    within(lambda: not thread.is_alive())
    assert found == [True]
    assert not answers(collecting)


def test_it_ends_when_told_to_stop(collecting: Settings, log: MemoryLog) -> None:
    stop = threading.Event()
    stop.set()

    assert not waited(collecting, counter(log, collecting), stop)


def test_each_message_is_counted_once(collecting: Settings, log: MemoryLog) -> None:
    """What comes later is added, what is no features message is nothing, and what has left stays counted."""
    counted = counter(log, collecting)
    assert counted.update() == 1200
    log.append(TOPICS.features("conn"), 0, b"?", [])
    first = log.messages(TOPICS.features("conn"))[0]
    log.append(TOPICS.features("conn"), 0, first.value or b"", list(first.headers))
    log.cut(TOPICS.features("conn"), 0, 2)

    assert counted.update() == 1600
    assert counted.update() == 1600


def test_inline_workers_count_flows(collecting: Settings, log: MemoryLog) -> None:
    inline = load_settings(overrides={"topics.prefix": "t", "features.inline": True}, env={})

    assert isinstance(found := counter(log, inline), Counter)
    assert found.update() == 1200


def test_without_the_setting_a_missing_model_stops_the_start(tmp_path: Path) -> None:
    """Nobody waits for a model that is not announced."""
    overrides = {"panel.models": "office", "panel.models_dir": str(tmp_path)}
    settings = load_settings(overrides=overrides, env={})

    assert wait_for_models(settings)
    with pytest.raises(PipelineError, match="no model 'office'"):
        load_panel(settings.panel)


def test_a_model_that_is_there_is_not_waited_for(collecting: Settings) -> None:
    """By its name, by a version, or by its path."""
    bundle = conn_bundle(collecting.panel.models_dir, "office", RobustZScore())
    for named in ("office", "office/1", str(bundle.path)):
        panel = collecting.panel.model_copy(update={"models": (named,)})
        assert wait_for_models(collecting.model_copy(update={"panel": panel}))
