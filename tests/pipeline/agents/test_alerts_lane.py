"""The alerts stage: whatever happens to a worker, the same alerts come out, and none is missing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lane_workers import TOPICS, LaneWorker
from memory_log import MemoryLog

from connectors.dead_letters import DeadLetter
from connectors.wire import encode
from pipeline.agents.alerts import AlertsRole
from pipeline.messages import DetectionsHeaders
from pipeline.settings_sections import GroupingSettings

BUCKET_S = 10.0
ROLE = AlertsRole("main", TOPICS, GroupingSettings(bucket_s=BUCKET_S, first=1))
DETECTIONS = ROLE.input_topic

Make = Callable[..., Any]
Detection = tuple[bytes, DetectionsHeaders]


@pytest.fixture(scope="session")
def detections(flagged: Make, headers: Make) -> list[Detection]:
    """Return the verdicts on forty flows messages, three to six of them a bucket, one a flush."""
    found = []
    for offset in range(40):
        at = offset * 2.5
        hosts = [f"10.0.0.{1 + (offset + i) % 3}" for i in range(offset % 4)]
        rows = flagged(
            *({"at": at, "src_ip": host, "flow_id": f"f{offset}-{i}"} for i, host in enumerate(hosts))
        )
        found.append(
            (
                encode(rows),
                headers(
                    at,
                    rows=5,
                    flagged=len(hosts),
                    input_offset=offset,
                    flows_offset=offset,
                    flush=offset % 17 == 16,
                ),
            )
        )
    return found


def filled(entries: list[Detection]) -> MemoryLog:
    log = MemoryLog()
    for value, said in entries:
        log.append(DETECTIONS, 0, value, said.to_kafka())
    return log


def alerts(log: MemoryLog) -> dict[str, bytes]:
    """Return the bodies by id; repeats must be equal to the first."""
    found: dict[str, bytes] = {}
    for message in log.messages(TOPICS.alerts):
        body = message.value or b""
        assert found.setdefault(json.loads(body)["event"]["id"], body) == body
    return found


def letters(log: MemoryLog) -> list[DeadLetter]:
    return [DeadLetter.from_kafka(m.headers, m.value) for m in log.messages(TOPICS.dead_letters)]


@pytest.fixture(scope="session")
def calm(detections: list[Detection], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the alerts of a worker that nothing happens to."""
    log = filled(detections)
    assert LaneWorker(ROLE, log, tmp_path_factory.mktemp("calm")).run()
    return alerts(log)


def test_there_are_flows_and_summaries(calm: dict[str, bytes]) -> None:
    """The log is one in which groups matter."""
    summaries = [body for body in calm.values() if b'"tags":["summary"]' in body]

    assert 10 < len(summaries) < len(calm) - 10


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    deaths=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 40)), max_size=5),
    last=st.integers(0, 40),
)
def test_deaths_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    detections: list[Detection],
    calm: dict[str, bytes],
    deaths: list[tuple[int, int]],
    last: int,
) -> None:
    """However often a worker dies before a send, and whatever of its work is committed: the same alerts."""
    log = filled(detections)
    folder = tmp_path_factory.mktemp("state")
    done = 0
    for dies_at, behind in deaths:
        worker = LaneWorker(ROLE, log, folder, dies_at=dies_at)
        worker.run(max(0, done - behind))
        lane = worker.carrier._lanes.get(0)
        done = max(done, lane.done + 1 if lane else 0)

    assert LaneWorker(ROLE, log, folder).run(max(0, done - last))

    assert calm == alerts(log)


@hypothesis_settings(max_examples=80, deadline=None)
@given(
    zombies=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=8),
    restarts=st.lists(st.integers(0, 48), max_size=4),
    marks=st.lists(st.integers(0, 48), max_size=2),
)
@example(zombies=[(2, 3), (3, 4)], restarts=[9], marks=[])  # two old repeats in the open bucket
def test_late_repeats_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    detections: list[Detection],
    headers: Make,
    calm: dict[str, bytes],
    zombies: list[tuple[int, int]],
    restarts: list[int],
    marks: list[int],
) -> None:
    """Old verdicts written again by a zombie, and late first marks, neither add nor hide an alert."""
    entries = list(detections)
    for repeated, behind in zombies:
        entries.insert(_place(entries, repeated) + 1 + behind, detections[repeated])
    empty = detections[0][0]
    for place in marks:
        mark = headers(-1000, input_offset=-1, flows_offset=-1, begins=True)
        entries.insert(place, (empty, mark))
    log = filled(entries)
    folder = tmp_path_factory.mktemp("state")

    begin = 0
    for committed in sorted({min(place, len(entries)) for place in restarts}):
        _run_part(log, folder, begin, committed)
        begin = committed
    _run_part(log, folder, begin, len(entries))

    assert calm == alerts(log)


def _place(entries: list[Detection], flows_offset: int) -> int:
    return next(i for i, (_, said) in enumerate(entries) if said.flows_offset == flows_offset)


def _run_part(log: MemoryLog, folder: Path, begin: int, stop: int) -> None:
    """Run a fresh worker over the messages from `begin`, which is committed, up to `stop`."""
    part = _Until(log, stop)
    assert LaneWorker(ROLE, part, folder).run(begin)


class _Until(MemoryLog):
    """A log of which the input's end is not yet written."""

    def __init__(self, log: MemoryLog, stop: int) -> None:
        self.__dict__ = log.__dict__ | {"_stop": stop}

    def read_range(self, topic: str, partition: int, start: int, stop: int) -> Any:
        return super().read_range(topic, partition, start, min(stop, self._stop))

    _stop: int


def test_what_is_no_verdict_is_set_aside_also_after_a_restart(
    detections: list[Detection], calm: dict[str, bytes], tmp_path: Path
) -> None:
    """Foreign and damaged messages go to the dead letters; a restart that reads past them lives."""
    entries: list[tuple[bytes, Any]] = [(value, said.to_kafka()) for value, said in detections]
    entries.insert(21, (b"foreign", []))
    entries.insert(22, (b"no arrow", detections[20][1].to_kafka()[:-1]))
    log = MemoryLog()
    for value, said in entries:
        log.append(DETECTIONS, 0, value, said)

    assert LaneWorker(ROLE, log, tmp_path).run()
    assert [letter.reason for letter in letters(log)] == ["not_detections", "not_detections"]
    assert LaneWorker(ROLE, log, tmp_path).run(23)

    assert calm == alerts(log)


def test_a_row_that_cannot_be_worded_does_not_end_the_worker(
    detections: list[Detection], flagged: Make, headers: Make, tmp_path: Path
) -> None:
    """A verdict of another build is in the dead letters; before and after it all alerts come out."""
    odd = flagged({"at": 51, "scores": [1.0], "p_values": [0.1, 0.2], "reasons": "{"})
    said = headers(51, rows=1, flagged=1, input_offset=20, flows_offset=20)
    entries = [*detections[:20], (encode(odd), said), *detections[21:]]
    log = filled(entries)

    assert LaneWorker(ROLE, log, tmp_path).run()
    assert LaneWorker(ROLE, log, tmp_path).run(22)

    (letter,) = letters(log)
    assert (letter.reason, letter.stage, letter.offset) == ("failed", "alerts", 20)
    assert any(b'"flow_id":"f21-0"' in body for body in alerts(log).values())


def test_reading_back_stops_at_the_open_bucket(detections: list[Detection]) -> None:
    """A restart reads the current bucket again, not the whole log."""
    log = filled(detections)

    restored = ROLE.restore(log, 0, 38)

    width = int(BUCKET_S * 1e6)
    first = detections[restored.start][1].clock_end_us // width
    before = detections[restored.start - 1][1].clock_end_us // width
    assert first == detections[37][1].clock_end_us // width > before
