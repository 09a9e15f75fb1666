"""The watch: it follows from the rows of the lane alone, keeps still on normal days and names what moved."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_workers import CONN_SET, conn_bundle
from office import friday, office_model

from detectors.robust_z import RobustZScore
from pipeline.bundle import Bundle
from pipeline.drift import Closed, Drift, drift_alert, drifts_text, read_drifts
from pipeline.errors import BundleError, JournalError
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from pipeline.judge import Judge, Verdict, _clock
from pipeline.metrics import Metrics
from pipeline.panel import Panel
from pipeline.reference import LEAST_ROWS, Reference, bin_counts, column_values, feature_columns
from pipeline.watch import PANE_US, PANES, Watch, _blocks

ALPHA = 1e-3
HOUR_US = 3_600_000_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return office_model(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def judge(bundle: Bundle) -> Judge:
    return Judge(Panel(name="main", alpha=ALPHA, bundles=(bundle,)), first=3, bucket_s=60.0)


def features(rows: pa.RecordBatch) -> pa.RecordBatch:
    (found,) = offline_features(CONN_SET, [rows]).features.combine_chunks().to_batches()
    return found


@pytest.fixture(scope="module")
def calm() -> pa.RecordBatch:
    return features(friday())


@pytest.fixture(scope="module")
def moved() -> pa.RecordBatch:
    return features(friday(factor=10))


def watched(judge: Judge, rows: pa.RecordBatch, cuts: Sequence[int]) -> tuple[Watch, list[Closed]]:
    """Return what is seen of rows that come in messages with these borders."""
    watch, closed, clock = judge.watcher.fresh, list[Closed](), 0
    borders = sorted({0, rows.num_rows, *(cut % rows.num_rows for cut in cuts)})
    for begin, end in pairwise(borders):
        part = rows.slice(begin, end - begin)
        verdict: Verdict = judge.judge(part, clock, watch=watch)
        assert verdict.watch is not None
        # As a worker that is started again after each message.
        watch = judge.watcher.read(judge.watcher.written(verdict.watch))
        clock = int(_clock(part, clock)[-1])
        closed += verdict.closed
    return watch, closed


def told(closed: Sequence[Closed]) -> str:
    return drifts_text([window.drift for window in closed if window.drift])


MESSAGES = range(0, 30_000, 2000)


def test_a_normal_day_is_no_drift(judge: Judge, calm: pa.RecordBatch) -> None:
    """The working day after training, hour by hour; and the budget holds over the day."""
    _, closed = watched(judge, calm, MESSAGES)

    assert len(closed) >= 10
    assert told(closed) == ""
    assert max((window.indices / window.limits).max() for window in closed) < 0.8
    assert all(window.distances[0] < window.p_limits[0] for window in closed)


def test_ten_times_the_bytes_is_a_drift_of_every_window(judge: Judge, moved: pa.RecordBatch) -> None:
    """Each window once, since the first of them; bytes are named first, with what was expected."""
    _, closed = watched(judge, moved, MESSAGES)
    drifts = read_drifts(told(closed))

    assert len(closed) == len(drifts) == len({drift.begin_us for drift in drifts})
    assert all(drift.end_us - drift.begin_us >= HOUR_US for drift in drifts)
    assert {drift.since_us for drift in drifts} == {drifts[0].begin_us}
    for drift in drifts:
        first = drift.features[0]
        assert "psi" in drift.monitors
        assert first.name in {"src_bytes", "src_packet_size", "src_bytes_10s", "src_bytes_per_flow_60s"}
        assert first.statistic > 10 * first.limit
        assert first.observed - first.expected > 0.25


@settings(max_examples=8, deadline=None)
@given(cuts=st.lists(st.integers(1, 30_000), max_size=12))
def test_messages_and_restarts_change_nothing(judge: Judge, moved: pa.RecordBatch, cuts: list[int]) -> None:
    """However the log is cut, with a restart after each message: the same state and the same drifts."""
    rows = moved.slice(0, 9000)
    expected = watched(judge, rows, [])
    found = watched(judge, rows, cuts)

    assert told(expected[1]) == told(found[1]) != ""
    assert judge.watcher.written(expected[0]) == judge.watcher.written(found[0])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40), st.booleans()), min_size=10, max_size=40))
def test_the_last_hour_is_counted(
    judge: Judge, calm: pa.RecordBatch, steps: list[tuple[int, int, bool]]
) -> None:
    """Rows and flagged rows of the last twelve panes of five minutes, as one counts them one by one."""
    watch, clock, seen = judge.watcher.fresh, HOUR_US * 400_000, list[tuple[int, bool]]()
    for step, n, flagged in steps:
        clock += step * PANE_US // 2 + n
        rows, flags = calm.slice(0, n), np.full(n, flagged)
        watch, _ = judge.watcher.follow(watch, rows, np.full(n, clock), flags, [np.full(n, 0.5)])
        seen += [(clock, flagged)] * n

    recent = [flagged for at, flagged in seen if at // PANE_US > clock // PANE_US - PANES]
    assert watch.last_hour == (len(recent), sum(recent))


def test_a_quiet_hour_joins_the_next(judge: Judge, calm: pa.RecordBatch) -> None:
    """A window has as many flows as a comparison needs, and ends at a full hour."""
    _, closed = watched(judge, calm, MESSAGES)

    assert any(window.end - window.begin > 1 for window in closed)  # at night
    assert any(window.end - window.begin == 1 for window in closed)
    assert all(one.end <= other.begin for one, other in pairwise(closed))


def test_a_busy_lane_is_compared_in_part(judge: Judge, moved: pa.RecordBatch) -> None:
    """One block in so many, as the window before foretells; a window of too few blocks says nothing."""
    n, watch, found = 40_000, judge.watcher.fresh, list[Closed]()
    rows = moved.take(pa.array(np.arange(n) % moved.num_rows))
    flags, p_values = np.zeros(n, dtype=np.bool_), [np.linspace(0.01, 1, n)]
    for hour, size in ((400_000, n), (400_001, n), (400_002, 2000), (400_003, n)):
        clock, part = np.full(size, hour * HOUR_US), slice(0, size)
        watch, closed = judge.watcher.follow(
            watch, rows[part], clock, flags[part], [each[part] for each in p_values]
        )
        found += closed

    assert [window.begin for window in found] == [400_001]
    assert found[0].drift is not None
    assert watch.stride == 1
    assert watch.features[0].sum() == n


@settings(max_examples=20, deadline=None)
@given(stride=st.integers(1, 16), cuts=st.lists(st.integers(0, 5000), max_size=8))
def test_blocks_do_not_depend_on_messages(stride: int, cuts: list[int]) -> None:
    """The same rows of a window are compared however it is cut: one block of 64 in so many."""
    borders = sorted({0, 5000, *cuts})
    found = [
        row + begin
        for begin, end in pairwise(borders)
        for block in _blocks(begin, end - begin, stride)
        for row in range(block.start, block.stop)
    ]

    assert found == [row for row in range(5000) if row // 64 % stride == 0]


def test_a_storm_of_flags_is_told(judge: Judge, calm: pa.RecordBatch) -> None:
    """Where most flows are flagged the rest says nothing: that itself is told."""
    n = 2 * LEAST_ROWS
    flags = np.arange(n) % 4 != 0
    watch = judge.watcher.fresh
    closed: tuple[Closed, ...] = ()
    for hour in (400_000, 400_001, 400_002):  # of the first one only the rate is known
        clock = np.full(n, hour * HOUR_US)
        rows = calm.slice(0, n)
        watch, closed = judge.watcher.follow(watch, rows, clock, flags, [np.linspace(0.01, 1, n)])

    (window,) = closed
    assert window.drift is not None
    assert "flagged" in window.drift.monitors
    assert window.flagged_share == 0.75


def test_counts_of_other_models_are_not_gone_on_with(
    judge: Judge, bundle: Bundle, calm: pa.RecordBatch
) -> None:
    """Nor those of another alpha, of an earlier version, or what somebody else wrote."""
    watch, _ = watched(judge, calm.slice(0, 500), [])
    text = judge.watcher.written(watch)
    other = Judge(Panel(name="main", alpha=0.5, bundles=(bundle,)), first=3, bucket_s=60.0)

    assert judge.watcher.read(text).rows == 500
    assert [reader.read(said).rows for reader, said in (
        (other.watcher, text), (judge.watcher, ""), (judge.watcher, "{}"), (judge.watcher, text[:-9]),
        (judge.watcher, text.replace("[[", "[[1,", 1)),
    )] == [0, 0, 0, 0, 0]  # fmt: skip


def test_a_reference_is_read_as_it_was_written(bundle: Bundle) -> None:
    """Bit for bit; of another feature set it is refused."""
    reference = bundle.reference
    assert reference is not None
    again = Reference.from_parquet(reference.to_parquet(), CONN_SET)

    assert reference.p_level == again.p_level
    for name in ("edges", "counts", "levels"):
        np.testing.assert_array_equal(getattr(reference, name), getattr(again, name))
    with pytest.raises(BundleError, match="not of the features of nsl-kdd"):
        Reference.from_parquet(reference.to_parquet(), feature_set("nsl-kdd"))


def test_every_flow_is_in_one_bin_of_each_feature(bundle: Bundle, calm: pa.RecordBatch) -> None:
    """As numpy counts them."""
    assert bundle.reference is not None
    values, edges = column_values(feature_columns(CONN_SET, calm)), bundle.reference.edges
    rows = np.arange(0, calm.num_rows, 7)
    counts = bin_counts(values, rows, edges)

    assert (counts.sum(axis=1) == rows.size).all()
    for j in range(len(edges)):
        bins = np.searchsorted(edges[j], values[j, rows], side="left")
        np.testing.assert_array_equal(np.bincount(bins, minlength=11), counts[j])


def test_a_model_without_a_reference_still_judges(tmp_path: Path, calm: pa.RecordBatch) -> None:
    """A bundle of an earlier version: p-values and budget are watched, features are not."""
    old = conn_bundle(tmp_path, "old", RobustZScore())
    judge = Judge(Panel(name="main", alpha=ALPHA, bundles=(old,)), first=3, bucket_s=60.0)
    watch, closed = watched(judge, calm, MESSAGES)

    assert old.reference is None
    assert watch.last_hour[0] > 0
    assert closed
    assert all(window.indices.size == 0 for window in closed)


def test_an_alert_of_a_drift_is_what_its_schema_says(judge: Judge, moved: pa.RecordBatch) -> None:
    """The same bytes for the same drift, an id of its own for each lane, and no kind `alert`."""
    _, closed = watched(judge, moved.slice(0, 6000), [])
    card = judge.panel.card()
    drift = closed[0].drift
    assert drift is not None
    schema = json.loads((Path(__file__).parents[2] / "pipeline" / "drift.schema.json").read_text())

    one = drift_alert(drift, card, 0)
    body = json.loads(one.body)
    jsonschema.validate(body, schema)
    assert one == drift_alert(read_drifts(drifts_text([drift]))[0], card, 0)
    assert one.id != drift_alert(drift, card, 1).id
    assert one.id != drift_alert(msgspec.structs.replace(drift, begin_us=0), card, 0).id
    assert body["event"]["kind"] == "state"
    assert "weir train conn --from capture/" in body["event"]["reason"]
    assert "of flows (expected" in body["event"]["reason"]


def test_what_is_no_drift_is_refused() -> None:
    """A header that another build wrote."""
    with pytest.raises(JournalError, match="header weir-drift is '\\[1\\]', expected drifts"):
        read_drifts("[1]")


def test_the_budget_is_shown(judge: Judge, calm: pa.RecordBatch) -> None:
    """Flagged flows of the last hour over the budget, summed over lanes; without one, over alpha."""
    metrics = Metrics()
    ratio = lambda: metrics.registry.get_sample_value("weir_alert_budget_used_ratio")  # noqa: E731
    metrics.watch.set_panel(replace(judge.watcher.watched, alarms_per_hour=4.0))
    metrics.watch.set_last_hour(0, 5000, 3)
    metrics.watch.set_last_hour(1, 1000, 3)
    assert ratio() == 1.5

    metrics.watch.set_panel(judge.watcher.watched)
    metrics.watch.set_last_hour(1, 1000, 0)
    assert ratio() == pytest.approx(3 / (ALPHA * 6000))
    metrics.watch.forget()
    metrics.watch.set_last_hour(1, 1000, 1)
    assert ratio() == pytest.approx(1.0)


def test_a_closed_window_is_shown(judge: Judge, moved: pa.RecordBatch) -> None:
    """Each feature's index beside its limit, each model's distance, and the windows that moved."""
    metrics = Metrics()
    metrics.watch.set_panel(judge.watcher.watched)
    _, closed = watched(judge, moved.slice(0, 6000), [])
    for window in closed:
        metrics.watch.set_closed(window)

    def value(metric: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(metric, labels)

    assert value("weir_drift_detected_total", monitor="psi") == len(closed)
    assert value("weir_drift_detected_total", monitor="flagged") == 0
    index = value("weir_drift_statistic", monitor="psi", feature="src_bytes")
    limit = value("weir_drift_limit", monitor="psi", feature="src_bytes")
    assert index is not None
    assert limit is not None
    assert index > limit
    assert value("weir_p_value_uniformity_distance", name="office", version="1") == closed[-1].distances[0]


def test_drifts_survive_their_header() -> None:
    """Nothing is an empty header."""
    assert (drifts_text([]), read_drifts("")) == ("", ())
    drift = Drift(
        begin_us=0, end_us=1, since_us=0, rows=1, flagged_share=0.0, monitors=("psi",), features=(), models=()
    )
    assert read_drifts(drifts_text([drift])) == (drift,)
