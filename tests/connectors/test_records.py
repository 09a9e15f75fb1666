"""The check of records: every bad row is found and named, every good one kept."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import RecordError
from connectors.records import (
    CONN,
    FAILED_STATES,
    IDENTITY,
    LATEST_US,
    RECORD_TYPES,
    STATES,
    TIME,
    Column,
    RecordType,
)

each_type = pytest.mark.parametrize("record_type", RECORD_TYPES.values(), ids=RECORD_TYPES)

GOOD: dict[pa.DataType, Any] = {
    pa.string(): "tcp", pa.float64(): 0.5, pa.int64(): 7, pa.uint16(): 443, pa.binary(16): b"\0" * 16,
    TIME: datetime(2026, 3, 2, tzinfo=UTC),
}  # fmt: skip


def good_value(column: Column) -> Any:
    return column.values[0] if column.values else GOOD[column.type]


def batch(record_type: RecordType, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    """Return good rows with the given values in place of some."""
    filled = [{c.name: good_value(c) for c in record_type.columns} | row for row in rows]
    schema = pa.schema([pa.field(f.name, f.type) for f in record_type.schema])
    return pa.RecordBatch.from_pylist(filled, schema=schema)


def faults(column: Column) -> list[tuple[str, Any]]:
    """Return every (reason, bad value) that a column can have."""
    found: list[tuple[str, Any]] = []
    if not column.nullable:
        found.append(("null_value", None))
    if pa.types.is_floating(column.type):
        found += [("not_finite", float("nan")), ("not_finite", float("inf")), ("not_finite", float("-inf"))]
    if column.minimum is not None:
        found.append(("out_of_range", -1))
    if column.type == TIME:
        found += [("absurd_time", -1), ("absurd_time", LATEST_US), ("absurd_time", 2**62)]
    if column.values:
        found.append(("unknown_value", "sideways"))
    elif pa.types.is_string(column.type) and not column.nullable:
        found.append(("empty_value", ""))
    return found


CASES = [
    pytest.param(record_type, column, reason, value, id=f"{record_type.id} {column.name} {value}")
    for record_type in RECORD_TYPES.values()
    for column in record_type.columns
    for reason, value in faults(column)
]


@pytest.mark.parametrize(("record_type", "column", "reason", "value"), CASES)
def test_every_fault_of_every_column_is_found(
    record_type: RecordType, column: Column, reason: str, value: Any
) -> None:
    """The bad row is cut out with its reason and its column; its neighbours stay."""
    checked = record_type.check(batch(record_type, [{}, {column.name: value}, {}]))
    (bad,) = checked.bad

    assert (bad.index, bad.reason) == (1, reason)
    assert f"{record_type.id}: {column.name} is " in bad.detail
    assert "expected" in bad.detail
    assert checked.kept.tolist() == [0, 2]
    assert checked.rows.num_rows == 2


@each_type
def test_nulls_are_good_where_they_are_allowed(record_type: RecordType) -> None:
    """A row with every optional value missing is a record."""
    empty = {column.name: None for column in record_type.columns if column.nullable}

    assert record_type.check(batch(record_type, [empty])).bad == ()


@each_type
@pytest.mark.parametrize("us", [0, 1, LATEST_US - 1])
def test_times_from_1970_to_2099_are_good(record_type: RecordType, us: int) -> None:
    """Exporters without a clock count from 1970; the bounds themselves are in or out as said."""
    assert record_type.check(batch(record_type, [{"event_time": us}])).bad == ()


CONN_FAULTS = [(column.name, *fault) for column in CONN.columns for fault in faults(column)]
Spoiled = list[list[tuple[str, str, Any]]]
"""For each row what is wrong with it: column, reason, value; nothing for a good one."""

spoiled_rows = st.lists(st.lists(st.sampled_from(CONN_FAULTS), max_size=3), max_size=25)


@settings(max_examples=60, deadline=None)
@given(spoiled=spoiled_rows)
def test_good_and_bad_rows_are_told_apart(spoiled: Spoiled) -> None:
    """Whatever is wrong with whichever rows, each is bad once, with a reason that it has."""
    rows = [{"position": i} | {name: value for name, _, value in row} for i, row in enumerate(spoiled)]
    checked = CONN.check(batch(CONN, rows))
    good = [i for i, row in enumerate(spoiled) if not row]

    assert checked.kept.tolist() == good
    assert checked.rows["position"].to_pylist() == good
    assert [bad.index for bad in checked.bad] == [i for i in range(len(rows)) if i not in good]
    for bad in checked.bad:
        assert bad.reason in {reason for _, reason, _ in spoiled[bad.index]}


@settings(max_examples=30, deadline=None)
@given(spoiled=spoiled_rows, at=st.integers(0, 25))
def test_the_check_does_not_depend_on_the_batch(spoiled: Spoiled, at: int) -> None:
    """Checked in two parts or as slices of a larger batch, the same rows are good."""
    whole = batch(CONN, [{name: value for name, _, value in row} for row in spoiled])
    parts = [CONN.check(whole.slice(0, at)), CONN.check(whole.slice(at))]
    joined = pa.Table.from_batches([part.rows for part in parts], CONN.schema)
    details = [bad.detail for part in parts for bad in part.bad]

    assert joined.equals(pa.Table.from_batches([CONN.check(whole).rows]))
    assert details == [bad.detail for bad in CONN.check(whole).bad]


@each_type
def test_good_rows_are_passed_through_unchanged(record_type: RecordType) -> None:
    """A checked row checks again to the same bits."""
    checked = record_type.check(batch(record_type, [{}] * 3))

    assert checked.rows.schema.equals(record_type.schema)
    assert record_type.check(checked.rows).rows.equals(checked.rows)


def without(name: str) -> pa.RecordBatch:
    return batch(CONN, [{}]).drop_columns([name])


def replaced(name: str, kind: pa.DataType) -> pa.RecordBatch:
    rows = batch(CONN, [{}])
    return rows.set_column(rows.schema.get_field_index(name), name, pa.nulls(1, kind))


REFUSED: dict[str, tuple[str, Callable[[], pa.RecordBatch]]] = {
    "missing": ("missing_column", lambda: without("flow_id")),
    "text for a number": ("mistyped_column", lambda: replaced("duration", pa.string())),
    "naive time": ("mistyped_column", lambda: replaced("event_time", pa.timestamp("us"))),
    "milliseconds": ("mistyped_column", lambda: replaced("event_time", pa.timestamp("ms", tz="UTC"))),
    "optional, mistyped": ("mistyped_column", lambda: replaced("src_port", pa.int32())),
    "twice": ("repeated_column", lambda: batch(CONN, [{}]).append_column("state", pa.array(["other"]))),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_batch_of_another_shape_is_refused(case: str) -> None:
    """Missing, repeated and mistyped columns are errors of the batch, named with what was expected."""
    reason, make = REFUSED[case]

    with pytest.raises(RecordError, match=r"^conn@1: column \w+ .*(expected|required)") as caught:
        CONN.check(make())
    assert caught.value.reason == reason


def test_columns_are_found_by_name() -> None:
    """Order does not matter, extra columns are dropped, missing optional ones become null."""
    rows = batch(CONN, [{}]).drop_columns(["service"])
    shuffled = rows.select(rows.schema.names[::-1]).append_column("mine", pa.array([1]))
    checked = CONN.check(shuffled)

    assert checked.rows.schema.names == CONN.schema.names
    assert checked.rows["service"].to_pylist() == [None]


@each_type
def test_types_begin_with_identity(record_type: RecordType) -> None:
    """The same ten columns, in the same order, come first in each type; names do not repeat."""
    names = [column.name for column in record_type.columns]

    assert tuple(names[: len(IDENTITY)]) == IDENTITY
    assert len(set(names)) == len(names)
    assert set(FAILED_STATES) < set(STATES)
