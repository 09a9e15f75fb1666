"""Features and verdicts in one process: the verdicts of the two stages, whatever happens to it."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conn_flows import FLUSH, conn_rows, flows_message
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lane_workers import CONN_SET, TOPICS, LaneWorker, conn_bundle
from memory_log import MemoryLog

from connectors.dead_letters import DeadLetter
from detectors.robust_z import RobustZScore
from pipeline.agents.detect import DetectRole
from pipeline.agents.features import FeaturesRole
from pipeline.agents.inline import InlineRole
from pipeline.errors import JournalError
from pipeline.judge import Judge, Verdict
from pipeline.messages import DetectionsHeaders
from pipeline.panel import Panel

FEATURES_ROLE = FeaturesRole(CONN_SET, TOPICS, max_rows=1000)
N, ROWS = 18, 20
"""Messages, and rows in each: ten seconds, so that the widest window holds six messages."""

Verdicts = dict[int, tuple[int, int, bytes]]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    bundle = conn_bundle(tmp_path_factory.mktemp("models"), "small", RobustZScore())
    return Judge(Panel(name="main", alpha=0.2, bundles=(bundle,)), first=1, bucket_s=60.0)


@pytest.fixture(scope="module")
def detect(judge: Judge) -> DetectRole:
    return DetectRole(CONN_SET, judge, TOPICS, begin="earliest")


@pytest.fixture(scope="module")
def inline(detect: DetectRole) -> InlineRole:
    return InlineRole(FEATURES_ROLE, detect)


def flows() -> MemoryLog:
    """Return a log of flows with a flush, a broken message and bad rows among them."""
    log = MemoryLog()
    for index in range(N - 2):
        rows = conn_rows(ROWS, first=ROWS * index)
        log.append(TOPICS.flows, 0, *flows_message(rows))
        if index == 5:
            log.append(TOPICS.flows, 0, *FLUSH)
            log.append(TOPICS.flows, 0, b"no arrow", flows_message(conn_rows(3))[1])
    return log


def verdicts(log: MemoryLog, role: DetectRole) -> Verdicts:
    """Return rows, dead and body of each flows offset's verdict; repeats must be equal to the first."""
    found: Verdicts = {}
    for message in log.messages(role.output_topic):
        headers = DetectionsHeaders.from_kafka(message.headers)
        if not headers.begins:
            verdict = (headers.rows, headers.dead, message.value or b"")
            assert found.setdefault(headers.flows_offset, verdict) == verdict
    return found


@pytest.fixture(scope="module")
def two_hops(detect: DetectRole, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    log = flows()
    assert LaneWorker(FEATURES_ROLE, log, tmp_path_factory.mktemp("features")).run()
    assert LaneWorker(detect, log, tmp_path_factory.mktemp("detect")).run()
    return verdicts(log, detect)


def test_the_verdicts_are_those_of_two_stages(inline: InlineRole, two_hops: Verdicts, tmp_path: Path) -> None:
    """Each flows message once, in every byte, dead rows counted alike."""
    log = flows()

    assert LaneWorker(inline, log, tmp_path).run()

    assert verdicts(log, inline.detect) == two_hops
    assert list(range(N)) == list(two_hops)
    assert sum(rows for rows, _, _ in two_hops.values()) == (N - 2) * ROWS
    (letter,) = log.messages(TOPICS.dead_letters)
    assert DeadLetter.from_kafka(letter.headers, letter.value).stage == "features"


@hypothesis_settings(max_examples=40, deadline=None)
@given(
    deaths=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 16)), max_size=4),
    ahead=st.integers(0, N),
)
def test_deaths_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    inline: InlineRole,
    two_hops: Verdicts,
    deaths: list[tuple[int, int]],
    ahead: int,
) -> None:
    """However often a worker dies, whatever was committed, ahead of the journal too."""
    log = flows()
    folder = tmp_path_factory.mktemp("state")
    for dies_at, behind in deaths:
        n_done = len(verdicts(log, inline.detect))
        LaneWorker(inline, log, folder, dies_at=dies_at).run(max(0, n_done - behind))

    committed = min(max(ahead, len(verdicts(log, inline.detect))), N - 1)
    assert LaneWorker(inline, log, folder).run(committed)

    assert verdicts(log, inline.detect) == two_hops


@pytest.mark.parametrize("switch_at", [1, 7, 12])
def test_from_two_stages_to_one_and_back(
    inline: InlineRole, detect: DetectRole, two_hops: Verdicts, tmp_path: Path, switch_at: int
) -> None:
    """An installation may change its mind: each goes on where the other was."""
    log = flows()
    LaneWorker(FEATURES_ROLE, log, tmp_path / "features", dies_at=switch_at + 2).run()
    LaneWorker(detect, log, tmp_path / "detect", dies_at=switch_at).run()
    assert len(verdicts(log, detect)) == switch_at

    LaneWorker(inline, log, tmp_path / "inline", dies_at=3).run()
    assert switch_at < len(verdicts(log, detect)) < N
    assert LaneWorker(FEATURES_ROLE, log, tmp_path / "features").run()
    assert LaneWorker(detect, log, tmp_path / "detect").run()

    assert verdicts(log, detect) == two_hops


def test_a_new_panel_begins_with_full_windows(judge: Judge, tmp_path: Path) -> None:
    """Of the flows before it only those count that its windows hold; it judges none of them."""
    explaining = Judge(judge.panel, first=None, bucket_s=60.0)  # all rows: what was told before shows nothing
    early, late = (
        InlineRole(FEATURES_ROLE, DetectRole(CONN_SET, explaining, TOPICS, begin=begin))
        for begin in ("earliest", "latest")
    )
    whole, log = flows(), MemoryLog()
    assert LaneWorker(early, whole, tmp_path / "early").run()
    expected = verdicts(whole, early.detect)
    for message in whole.messages(TOPICS.flows)[:12]:
        log.append(TOPICS.flows, 0, message.value or b"", list(message.headers))
    (mark,) = late.first_marks(log)
    log.append(mark.topic, 0, mark.value, mark.headers)
    for message in whole.messages(TOPICS.flows)[12:]:
        log.append(TOPICS.flows, 0, message.value or b"", list(message.headers))

    worker = LaneWorker(late, log, tmp_path / "late")
    restored = late.restore(log, 0, 12)
    assert worker.run(12)

    assert 0 < restored.start < 12
    found = verdicts(log, late.detect)
    assert list(found) == list(range(12, N))
    assert found == {offset: expected[offset] for offset in found}


def test_a_message_that_cannot_be_judged_stays_in_the_windows(
    judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are one dead letter of the detect stage; all others are judged as ever."""
    explaining = Judge(judge.panel, first=None, bucket_s=60.0)  # all rows: what comes later shows nothing
    inline = InlineRole(FEATURES_ROLE, DetectRole(CONN_SET, explaining, TOPICS, begin="earliest"))
    calm, log = flows(), flows()
    assert LaneWorker(inline, calm, tmp_path / "calm").run()
    expected = verdicts(calm, inline.detect)
    judged = explaining.judge
    calls = iter(range(100))

    def fails_once(rows: pa.RecordBatch, clock_us: int, *lane: Any) -> Verdict:
        if next(calls) == 3:
            raise ArithmeticError("bug")
        return judged(rows, clock_us, *lane)

    monkeypatch.setattr(explaining, "judge", fails_once)
    assert LaneWorker(inline, log, tmp_path).run()

    found = verdicts(log, inline.detect)
    assert found[3][:2] == (0, ROWS)
    assert {**found, 3: expected[3]} == expected
    letters = [DeadLetter.from_kafka(m.headers, m.value) for m in log.messages(TOPICS.dead_letters)]
    assert next((letter.stage, letter.reason, letter.rows) for letter in letters) == (
        "detect",
        "failed",
        ROWS,
    )


def test_flows_that_were_created_anew_are_refused(inline: InlineRole, tmp_path: Path) -> None:
    """A journal that answers what the log never had is a contradiction a person must solve."""
    log, short = flows(), MemoryLog()
    assert LaneWorker(inline, log, tmp_path).run()
    for message in log.messages(inline.detect.output_topic):
        short.append(message.topic, 0, message.value or b"", list(message.headers))
    short.append(TOPICS.flows, 0, *FLUSH)

    with pytest.raises(JournalError, match="created anew"):
        inline.restore(short, 0, 0)
