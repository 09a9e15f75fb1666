"""The detect stage: one verdict a flows message, whatever happens to a worker, and a panel's beginning."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conn_flows import FLUSH, conn_rows, flows_message
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lane_workers import CONN_SET, TOPICS, LaneWorker, conn_bundle
from memory_log import MemoryLog

from connectors.dead_letters import DeadLetter
from connectors.wire import decode
from detectors.pu_gan import PUGAN
from detectors.robust_z import RobustZScore
from pipeline import history
from pipeline.agents.detect import DetectRole
from pipeline.agents.features import FeaturesRole
from pipeline.agents.roles import _inline
from pipeline.errors import FeatureSetError, PipelineError
from pipeline.features.lane import offline_features
from pipeline.history import Past
from pipeline.judge import Judge
from pipeline.messages import DetectionsHeaders, FeaturesHeaders
from pipeline.panel import Panel

FEATURES_ROLE = FeaturesRole(CONN_SET, TOPICS, max_rows=1000)
FEATURES = FEATURES_ROLE.output_topic


N_HOSTS = 6  # that send in these flows

DETECTORS = {
    "row by row": RobustZScore,
    # A window of one and a half messages.
    "sequence": lambda: PUGAN(length=31, hidden=4, latent=2, components=4, epochs=1),
    # Of a source there are three or four flows in a message.
    "sequence of a source": lambda: PUGAN(
        length=6, history_of="source", hidden=4, latent=2, components=4, epochs=1
    ),
}


@pytest.fixture(scope="module", params=sorted(DETECTORS))
def judge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """Return a panel that judges each row alone, and some that look back: on the lane, on each source."""
    if "sequence" in request.param:
        pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")
    detector = DETECTORS[request.param]()
    with pytest.MonkeyPatch.context() as patch:
        # Some rows of a source are further away than that.
        patch.setattr(history, "REACH", 45)
        bundle = conn_bundle(tmp_path_factory.mktemp("models"), "small", detector)
        yield Judge(Panel(name="main", alpha=0.2, bundles=(bundle,)), first=1, bucket_s=60.0)


@pytest.fixture(scope="module")
def role(judge: Judge) -> DetectRole:
    return DetectRole(CONN_SET, judge, TOPICS, begin="earliest")


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> MemoryLog:
    """Return a log in which the features of 16 messages stand, a flush and a broken one among them."""
    log = MemoryLog()
    for index in range(14):
        log.append(TOPICS.flows, 0, *flows_message(conn_rows(20, first=20 * index)))
        if index == 5:
            log.append(TOPICS.flows, 0, *FLUSH)
            log.append(TOPICS.flows, 0, b"no arrow", flows_message(conn_rows(3))[1])
    LaneWorker(FEATURES_ROLE, log, tmp_path_factory.mktemp("state")).run()
    return log


def copied(features: MemoryLog, order: list[int] | None = None) -> MemoryLog:
    """Return a log with the features messages alone, in another order or with repeats if asked."""
    messages = features.messages(FEATURES)
    log = MemoryLog()
    for index in range(len(messages)) if order is None else order:
        log.append(FEATURES, 0, messages[index].value or b"", list(messages[index].headers))
    return log


def answers(log: MemoryLog, role: DetectRole) -> dict[int, tuple[int, bytes]]:
    """Return rows and body of each flows offset's verdict; repeats must be equal to the first."""
    found: dict[int, tuple[int, bytes]] = {}
    for message in log.messages(role.output_topic):
        headers = DetectionsHeaders.from_kafka(message.headers)
        if not headers.begins:
            verdict = (headers.rows, message.value or b"")
            assert found.setdefault(headers.flows_offset, verdict) == verdict
    return found


@pytest.fixture(scope="module")
def calm(
    features: MemoryLog, role: DetectRole, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, tuple[int, bytes]]:
    log = copied(features)
    assert LaneWorker(role, log, tmp_path_factory.mktemp("calm")).run()
    return answers(log, role)


def test_every_flows_message_has_one_verdict(calm: dict[int, tuple[int, bytes]]) -> None:
    """Also the flush and the message that was dead before: the journal has no holes."""
    assert list(range(16)) == list(calm)
    assert [calm[6][0], calm[7][0]] == [0, 0]
    assert sum(rows for rows, _ in calm.values()) == 14 * 20


@hypothesis_settings(max_examples=20, deadline=None)
@given(
    deaths=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 16)), max_size=4),
    zombies=st.lists(st.tuples(st.integers(0, 15), st.integers(1, 15)), max_size=4),
)
def test_deaths_and_repeats_change_nothing(
    tmp_path_factory: pytest.TempPathFactory,
    features: MemoryLog,
    role: DetectRole,
    calm: dict[int, tuple[int, bytes]],
    deaths: list[tuple[int, int]],
    zombies: list[tuple[int, int]],
) -> None:
    """However often a worker dies, whatever it had committed, and whatever a zombie wrote again."""
    order = list(range(16))
    for repeated, behind in zombies:
        order.insert(order.index(repeated) + 1 + behind, repeated)
    log = copied(features, order)
    folder = tmp_path_factory.mktemp("state")

    for dies_at, behind in deaths:
        n_done = len(answers(log, role))
        LaneWorker(role, log, folder, dies_at=dies_at).run(max(0, n_done - behind))

    assert LaneWorker(role, log, folder).run(0)
    assert calm == answers(log, role)


def test_offsets_committed_ahead_of_the_journal_are_judged(
    features: MemoryLog, role: DetectRole, calm: dict[int, tuple[int, bytes]], tmp_path: Path
) -> None:
    """The journal decides where to go on, not the committed offset."""
    log = copied(features)
    LaneWorker(role, log, tmp_path, dies_at=4).run()
    assert len(answers(log, role)) == 4

    assert LaneWorker(role, log, tmp_path).run(11)

    assert calm == answers(log, role)


def test_a_new_panel_begins_where_its_mark_says(features: MemoryLog, judge: Judge, tmp_path: Path) -> None:
    """From the latest on: the earliest of several marks counts, and nothing after it is left out."""
    latest = DetectRole(CONN_SET, judge, TOPICS, begin="latest")
    log = copied(features, list(range(9)))
    marks = latest.first_marks(log)
    log = copied(features, list(range(12)))
    later = latest.first_marks(log)
    for mark in (*marks, *later):
        log.append(mark.topic, mark.partition or 0, mark.value, mark.headers)
    whole = copied(features)
    for message in whole.messages(FEATURES)[12:]:
        log.append(FEATURES, 0, message.value or b"", list(message.headers))

    assert LaneWorker(latest, log, tmp_path).run()
    assert LaneWorker(latest, log, tmp_path).run()

    assert list(range(9, 16)) == list(answers(log, latest))


def test_a_panel_that_ran_gets_no_mark(features: MemoryLog, role: DetectRole, tmp_path: Path) -> None:
    """First marks are for lanes that nobody has judged."""
    log = copied(features)
    LaneWorker(role, log, tmp_path).run()

    assert role.first_marks(log) == []


def test_foreign_messages_are_set_aside(features: MemoryLog, role: DetectRole, tmp_path: Path) -> None:
    """What no features worker wrote is dead; features that cannot be read are dead and answered."""
    log = copied(features, [0, 1])
    log.append(FEATURES, 0, b"foreign", [])
    told = features.messages(FEATURES)[2]
    log.append(FEATURES, 0, b"no arrow", list(told.headers))

    assert LaneWorker(role, log, tmp_path).run()

    letters = [DeadLetter.from_kafka(m.headers, m.value) for m in log.messages(TOPICS.dead_letters)]
    assert [(x.reason, x.stage, x.rows) for x in letters] == [
        ("not_features", "detect", 1),
        ("not_arrow", "detect", 20),
    ]
    assert list(answers(log, role)) == [0, 1, 2]


def test_foreign_verdicts_do_not_hide_the_journal(
    features: MemoryLog, role: DetectRole, calm: dict[int, tuple[int, bytes]], tmp_path: Path
) -> None:
    """Messages of others at the end of the detections topic are passed over at a restart."""
    log = copied(features)
    LaneWorker(role, log, tmp_path, dies_at=6).run()
    n_before = len(log.messages(role.output_topic)) + 9
    for _ in range(9):
        log.append(role.output_topic, 0, b"foreign", [])

    worker = LaneWorker(role, log, tmp_path)
    assert worker.run()

    written = log.messages(role.output_topic)[n_before:]
    found = [DetectionsHeaders.from_kafka(m.headers).flows_offset for m in written]
    assert list(range(6, 16)) == found


def test_features_of_another_set_stop_the_worker(
    features: MemoryLog, role: DetectRole, tmp_path: Path
) -> None:
    """The models would read other columns: both sets are named, and nothing is judged."""
    headers = FeaturesHeaders.from_kafka(features.messages(FEATURES)[0].headers)

    with pytest.raises(FeatureSetError, match=r"carries feature set other:1.* trained on conn:"):
        role.agree(
            FeaturesHeaders(
                feature_set="other:1", rows=0, flows_offset=0, clock_us=0, clock_end_us=0, low=headers.low
            )
        )


def test_cuts_of_messages_do_not_change_what_a_panel_looks_back_on(judge: Judge, role: DetectRole) -> None:
    """Row by row, the lane's rows before count, however messages were cut."""
    (rows,) = offline_features(CONN_SET, [conn_rows(120)]).features.combine_chunks().to_batches()
    whole = judge.judge(rows, 0).p_values
    for size in (1, 7, 60):
        past: Past | None = None
        found = []
        for start in range(0, 120, size):
            part = rows.slice(start, size)
            found.append(judge.judge(part, 0, before=past).p_values)
            past = judge.depth.past(past, part)
        assert (past.rows.num_rows if past else 0) <= judge.depth.lane + N_HOSTS * judge.depth.source
        np.testing.assert_array_equal(np.concatenate(found), whole)


def test_a_restored_lane_looks_back_on_the_same_rows(
    features: MemoryLog, role: DetectRole, tmp_path: Path
) -> None:
    """Wherever it goes on, and although a dead worker's message is in the log twice."""
    messages = features.messages(FEATURES)
    depth = role.judge.depth
    for end in (3, 5, 9, 12, 16):
        log = copied(features, [0, 1, 0, *range(2, end), end - 1])
        assert LaneWorker(role, log, tmp_path).run()
        restored = role.restore(log, 0, 0).lane._past
        rows = [decode(m.value) for m in messages[:end] if FeaturesHeaders.from_kafka(m.headers).rows]
        expected = depth.past(None, pa.concat_batches(rows))
        if expected is None:
            assert restored is None
        else:
            assert restored is not None
            assert expected.rows.equals(restored.rows)
            np.testing.assert_array_equal(expected.ages, restored.ages)


def test_a_panel_that_looks_back_cannot_be_inline(judge: Judge) -> None:
    """After a restart the features before could not be made again."""
    if judge.depth.rows:
        told = rf"looks back on {judge.depth}, .*set features\.inline to false"
        with pytest.raises(PipelineError, match=told):
            _inline(FEATURES_ROLE, DetectRole(CONN_SET, judge, TOPICS))
    else:
        assert _inline(FEATURES_ROLE, DetectRole(CONN_SET, judge, TOPICS))
