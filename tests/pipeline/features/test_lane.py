"""A lane's features: the same bits however the rows are cut into batches, and after a restart."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.features.feature_sets import FEATURE_SETS, feature_set
from pipeline.features.lane import LaneFeatures, offline_features
from pipeline.features.normaliser import Normaliser

MakeRows = Callable[..., pa.RecordBatch]
N_ROWS = 300
ALL = frozenset({"numeric", "binary", "categorical"})


def _batches(rows: pa.RecordBatch, cuts: list[int]) -> list[pa.RecordBatch]:
    edges = [0, *sorted(cuts), rows.num_rows]
    return [rows.slice(a, b - a) for a, b in pairwise(edges)]


def _rows(make_rows: MakeRows, name: str, seed: int = 7) -> pa.RecordBatch:
    chosen = feature_set(name)
    return make_rows(chosen.record_type, N_ROWS, seed, chosen.required)


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, N_ROWS), max_size=8), seed=st.integers(0, 99))
@pytest.mark.parametrize("name", ["conn", "unsw-nb15"])
def test_batches_do_not_matter(make_rows: MakeRows, name: str, cuts: list[int], seed: int) -> None:
    """Any split of the rows gives the same bits: of features, and of the matrix behind them."""
    rows = _rows(make_rows, name, seed)
    whole = LaneFeatures(feature_set(name)).process(rows)
    normaliser = Normaliser.fit(feature_set(name), whole, kinds=ALL, scaling="standard")

    lane = LaneFeatures(feature_set(name))
    parts = [lane.process(batch) for batch in _batches(rows, cuts)]

    assert whole.equals(pa.Table.from_batches(parts).combine_chunks().to_batches()[0])
    matrices = np.concatenate([normaliser.matrix(part) for part in parts])
    assert normaliser.matrix(whole).tobytes() == matrices.tobytes()


@settings(max_examples=10, deadline=None)
@given(crash=st.integers(0, N_ROWS))
def test_rebuilt_lane_goes_on_with_the_same_bits(make_rows: MakeRows, crash: int) -> None:
    """A lane fed again from its oldest open row, with clock and seq from there, computes the rest alike."""
    rows, chosen = _rows(make_rows, "conn"), feature_set("conn")
    lost = LaneFeatures(chosen)
    clocks = [0]
    for batch in _batches(rows.slice(0, crash), list(range(1, crash))):
        lost.process(batch)
        clocks.append(lost.clock_us)
    expected = lost.process(rows.slice(crash))

    lane = LaneFeatures(chosen, clock_us=clocks[(start := _oldest(rows, crash))], seq=start)
    lane.process(rows.slice(start, crash - start))

    assert expected.equals(lane.process(rows.slice(crash)))
    assert (lost.clock_us, lost.seq) == (lane.clock_us, lane.seq)


def _oldest(rows: pa.RecordBatch, crash: int) -> int:
    lane = LaneFeatures(feature_set("conn"))
    lane.process(rows.slice(0, crash))
    return lane.oldest_seq


@pytest.mark.parametrize("name", sorted(FEATURE_SETS))
def test_clock_and_lateness_follow_event_times(make_rows: MakeRows, name: str) -> None:
    """The clock never goes back; rows behind it are counted, and the latest one measured."""
    chosen = FEATURE_SETS[name]
    rows = make_rows(chosen.record_type, 5, 1, chosen.required)
    times = pa.array([100, 90, 100, 70, 130], chosen.record_type.schema.field("event_time").type)
    at = rows.schema.get_field_index("event_time")
    lane = LaneFeatures(chosen, clock_us=80, seq=11)
    lane.process(rows.set_column(at, rows.schema.field(at), times))

    assert (lane.clock_us, lane.seq, lane.n_late, lane.late_us) == (130, 16, 2, 30)
    lane.process(rows.slice(0, 0))
    assert (lane.clock_us, lane.seq, lane.n_late, lane.late_us) == (130, 16, 2, 0)


def test_lane_and_windows_agree_on_the_clock(make_rows: MakeRows) -> None:
    """The clock in the journal is the one that the windows were computed with."""
    lane = LaneFeatures(feature_set("conn"))
    lane.process(_rows(make_rows, "conn"))
    windows = lane._windows

    assert windows is not None
    assert (windows.clock_us, windows.seq, windows.n_late) == (lane.clock_us, lane.seq, lane.n_late)


def test_set_without_windows_holds_no_row_back(make_rows: MakeRows) -> None:
    """Without windows there is nothing to rebuild and nothing to cap."""
    lane = LaneFeatures(feature_set("nsl-kdd"))
    lane.process(_rows(make_rows, "nsl-kdd"))

    assert (lane.seq, lane.oldest_seq, lane.n_capped) == (N_ROWS, N_ROWS, 0)


def test_unchecked_null_is_refused(make_rows: MakeRows) -> None:
    """Rows that skipped the check cannot slip through as an address of zeros."""
    rows = make_rows(feature_set("conn").record_type, 50, 1)

    with pytest.raises(ValueError, match=r"src_ip holds \d+ nulls; check the rows"):
        LaneFeatures(feature_set("conn")).process(rows)


def test_carried_columns_are_not_copied(make_rows: MakeRows) -> None:
    """Identity travels on in the buffers it came in."""
    rows = _rows(make_rows, "conn")
    features = LaneFeatures(feature_set("conn")).process(rows)

    assert [b and b.address for b in rows.column("flow_id").buffers()] == [
        b and b.address for b in features.column("flow_id").buffers()
    ]


def test_offline_is_the_live_code_with_labels_beside(make_rows: MakeRows) -> None:
    """A dataset in chunks gives what a lane gives, less the bad rows, and the labels of the others."""
    chosen = feature_set("conn")
    rows = make_rows(chosen.record_type, N_ROWS, 2)  # some without addresses
    good = chosen.check(rows).rows

    read = offline_features(chosen, _batches(rows, [10, 10, 200]))

    assert N_ROWS - good.num_rows == read.n_bad > 0
    assert good.column("label").to_pylist() == read.labels.to_pylist()
    assert "label" not in read.features.schema.names
    assert LaneFeatures(chosen).process(good).equals(read.features.combine_chunks().to_batches()[0])


def test_no_batches_are_an_empty_table() -> None:
    """An empty dataset has the schema and no rows."""
    read = offline_features(feature_set("unsw-nb15"), [])

    assert (0, feature_set("unsw-nb15").schema) == (read.features.num_rows, read.features.schema)
