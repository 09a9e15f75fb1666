"""Lanes and the messages of a lane: every row goes to one place, in order."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from brokers import conn_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import BrokerError
from connectors.lane_buffer import LaneBuffer, Packed
from connectors.lanes import LaneBy, LaneMap
from connectors.wire import decode

ROWS = conn_rows(400, sensors=("a", "b", "c", "d", "e"))


@pytest.mark.parametrize(("lane_by", "column"), [("sensor", "sensor"), ("src", "src_ip"), ("dst", "dst_ip")])
def test_a_key_stays_in_its_lane(lane_by: LaneBy, column: str) -> None:
    """All rows are in one lane each, those of a sensor or address in the same, in source order."""
    parts = dict(LaneMap(n_lanes=3, lane_by=lane_by).split(ROWS))

    lanes_of: dict[object, set[int]] = {}
    for lane, rows in parts.items():
        positions = rows.column("position").to_pylist()
        assert sorted(positions) == positions
        for key in rows.column(column).to_pylist():
            lanes_of.setdefault(key, set()).add(lane)
    assert len(parts) > 1
    assert all(len(lanes) == 1 for lanes in lanes_of.values())
    assert list(range(400)) == sorted(
        p for rows in parts.values() for p in rows.column("position").to_pylist()
    )


def test_the_hash_is_stable() -> None:
    """A sensor's lane never changes: these were written down once."""
    lane_map = LaneMap(n_lanes=8)

    assert [lane_map.lane(name) for name in ("s1", "border", "dmz", "")] == [4, 5, 6, 4]


def test_missing_addresses_share_a_lane() -> None:
    """Rows without an address are not lost."""
    index = ROWS.schema.get_field_index("src_ip")
    rows = ROWS.set_column(index, ROWS.schema.field(index), pa.nulls(400, pa.binary(16)))

    assert [part.num_rows for _, part in LaneMap(n_lanes=3, lane_by="src").split(rows)] == [400]


def test_a_named_sensor_goes_where_it_is_told() -> None:
    """An explicit lane wins over the hash; the id of the map tells the two apart."""
    plain, named = LaneMap(n_lanes=3), LaneMap(n_lanes=3, sensor_lanes={"a": 2, "b": 2})

    assert (named.lane("a"), named.lane("b")) == (2, 2)
    assert plain.lane("c") == named.lane("c")
    assert plain.id != named.id
    assert named.id == LaneMap(n_lanes=3, sensor_lanes={"b": 2, "a": 2}).id


def test_a_lane_that_is_not_there_is_refused() -> None:
    """A mapping to a partition that the topic lacks is a mistake, said with the sensor's name."""
    with pytest.raises(BrokerError, match=r"border goes to lane 3, expected 0 to 2"):
        LaneMap(n_lanes=3, sensor_lanes={"border": 3})
    with pytest.raises(BrokerError, match=r"sensor_lanes is set with lane_by: src"):
        LaneMap(n_lanes=3, lane_by="src", sensor_lanes={"border": 0})


def _fill(buffer: LaneBuffer, rows: pa.RecordBatch, cuts: list[int]) -> list[Packed]:
    edges = [0, *sorted(cuts), rows.num_rows]
    packed = []
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            buffer.add(rows.slice(start, stop - start), 0.0)
            packed += buffer.take(0.0)
    return packed + buffer.take(0.0, everything=True)


@settings(max_examples=40, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 400), max_size=8),
    max_rows=st.integers(1, 500),
    size_bytes=st.integers(2000, 60_000),
)
def test_rows_come_out_as_they_went_in(cuts: list[int], max_rows: int, size_bytes: int) -> None:
    """However rows arrive, their messages hold them all, in order, within both limits."""
    packed = _fill(LaneBuffer(rows=max_rows, size_bytes=size_bytes), ROWS, cuts)

    bodies = [decode(message.value) for message in packed]
    assert ROWS.equals(pa.Table.from_batches(bodies).combine_chunks().to_batches()[0])
    for message, body in zip(packed, bodies, strict=True):
        assert message.rows == body.num_rows <= max_rows
        assert len(message.value) <= size_bytes or message.rows == 1
        assert message.first == body.column("position")[0].as_py()
        assert message.next == body.column("position")[-1].as_py() + 1


def test_rows_wait_until_a_message_is_full() -> None:
    """Fewer rows than a message takes stay; what is over a full message stays too."""
    buffer = LaneBuffer(rows=100, size_bytes=1_000_000)
    buffer.add(ROWS.slice(0, 99), 1.0)
    assert buffer.take(1.0) == []

    buffer.add(ROWS.slice(99, 151), 2.0)
    packed = buffer.take(2.0)

    assert [message.rows for message in packed] == [100, 100]
    assert (len(buffer), buffer.first) == (50, 200)


def test_a_row_too_big_for_the_limit_goes_alone() -> None:
    """Halving ends at one row; the writer decides what becomes of it."""
    index = ROWS.schema.get_field_index("service")
    services = pa.array(["x" * (50_000 if i == 7 else 5) for i in range(20)])
    rows = ROWS.slice(0, 20).set_column(index, ROWS.schema.field(index), services)

    packed = _fill(LaneBuffer(rows=100, size_bytes=20_000), rows, [])

    assert list(range(20)) == list(
        np.concatenate([np.arange(message.first, message.next) for message in packed])
    )
    assert [message.first for message in packed if len(message.value) > 20_000] == [7]
