"""Parquet files of conn@1 columns: what is kept, what is computed, and files that are not whole."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flow_files import conn_parquet, conn_rows
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import Reject, Source
from connectors.errors import SourceError
from connectors.kinds import recognise
from connectors.layouts import CIC_FLOWS, UNSW_RAW
from connectors.records import CONN, RECORD_TYPES, TIME
from connectors.source_argus import ArgusSource
from connectors.source_parquet import ParquetSource, recognises_columns
from connectors.source_synthetic import SyntheticSource

ADDRESS = bytes(10) + b"\xff\xff\x0a\x00\x00\x07"


def read(source: Source, rows: int = 7) -> tuple[list[dict[str, Any]], list[Reject]]:
    chunks = list(source.chunks(rows=rows))
    table = pa.Table.from_batches([chunk.rows for chunk in chunks], source.record_type.schema)
    return table.to_pylist(), [reject for chunk in chunks for reject in chunk.rejects]


def source_of(path: Path, n: int = 3, **columns: pa.Array) -> ParquetSource:
    """Return a source over a file of `n` plain records with some columns replaced or, if None, left out."""
    table = {name: [row[name] for row in conn_rows(n)] for name in conn_rows(1)[0]}
    kept = {**table, **columns}
    pq.write_table(pa.table({name: column for name, column in kept.items() if column is not None}), path)
    return ParquetSource(path)


def flow(path: Path, **columns: pa.Array) -> dict[str, Any]:
    """Return the first flow of a file with some columns replaced."""
    return read(source_of(path, len(next(iter(columns.values()))), **columns))[0][0]


def test_what_weir_writes_reads_back_identical(tmp_path: Path) -> None:
    """Rows with their ids, sensors, addresses and times, whatever the size of groups and chunks."""
    source = SyntheticSource(seed=3, days=1, scale=0.01, attacks=True, sensor="roof")
    written = pa.Table.from_batches([chunk.rows for chunk in source.chunks()], CONN.schema)
    pq.write_table(written, tmp_path / "a.parquet", row_group_size=300, compression="zstd")
    again = ParquetSource(tmp_path / "a.parquet")
    back = pa.Table.from_batches([chunk.rows for chunk in again.chunks(rows=77)], CONN.schema)

    assert back.equals(written)
    assert again.n_records == written.num_rows
    assert recognise(tmp_path / "a.parquet") == "conn-parquet"


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["10.0.0.7"]), pa.array(["::ffff:10.0.0.7"], pa.large_string()), pa.array([ADDRESS]),
        pa.array([ADDRESS], pa.binary(16)), pa.array([ADDRESS[12:]]), pa.array([ADDRESS[12:]], pa.binary(4)),
        pa.array([ADDRESS], pa.large_binary()), pa.array(["10.0.0.7"]).dictionary_encode(),
    ],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_addresses_are_read_in_every_form(column: pa.Array, tmp_path: Path) -> None:
    """Text, and 4 or 16 bytes."""
    assert flow(tmp_path / "a", src_ip=column)["src_ip"] == ADDRESS


AT = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([AT], pa.timestamp("s")), pa.array([AT], pa.timestamp("ms", "UTC")), pa.array([AT], TIME),
        pa.array([int(AT.timestamp()) * 10**9 + 999], pa.int64()).cast(pa.timestamp("ns", "Asia/Tokyo")),
        pa.array(["2024-05-06T07:08:09Z"]), pa.array(["2024-05-06 09:08:09.000+02:00"]),
        pa.array(["2024-05-06 07:08:09"]),
    ],
    ids=lambda column: f"{column.type} {column[0]}",
)  # fmt: skip
def test_times_are_read_in_every_form(column: pa.Array, tmp_path: Path) -> None:
    """Any unit and zone, and text; without a zone it is UTC; below a microsecond it is cut off."""
    assert flow(tmp_path / "a", event_time=column)["event_time"] == AT


@pytest.mark.parametrize(
    "column", [pa.array([7], pa.uint8()), pa.array([7.0]), pa.array(["7"]), pa.array([Decimal(7)])],
    ids=lambda column: str(column.type),
)  # fmt: skip
def test_counts_are_read_in_every_form(column: pa.Array, tmp_path: Path) -> None:
    """Whole numbers of any type."""
    row = flow(tmp_path / "a", src_bytes=column, src_port=column)

    assert [row["src_bytes"], row["src_port"]] == [7, 7]


def test_optional_columns_may_be_missing(tmp_path: Path) -> None:
    """They are null; sensor, id and position are made."""
    names = ("src_ip", "dst_ip", "src_port", "dst_port", "protocol", "dst_bytes", "dst_packets")
    rows = read(source_of(tmp_path / "a", **dict.fromkeys(names)))[0]

    assert all(row[name] is None for row in rows for name in (*names, "label", "service"))
    assert [row["sensor"] for row in rows] == ["conn-parquet"] * 3
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert len({row["flow_id"] for row in rows}) == 3


def test_ids_and_sensors_of_the_file_are_kept_where_it_has_them(tmp_path: Path) -> None:
    """What is missing is computed; a sensor that is given holds for all."""
    columns = {"flow_id": pa.array(["x", None, "z"]), "sensor": pa.array(["roof", None, "cellar"])}
    rows = read(source_of(tmp_path / "a", **columns, position=pa.array([7, 7, 9])))[0]
    given = read(ParquetSource(tmp_path / "a", sensor="door"))[0]

    assert [row["sensor"] for row in rows] == ["roof", "conn-parquet", "cellar"]
    assert [row["flow_id"] for row in rows][::2] == ["x", "z"]
    assert len(rows[1]["flow_id"]) == 20
    assert [row["position"] for row in rows] == [0, 1, 2]
    assert {row["sensor"] for row in given} == {"door"}


@pytest.mark.parametrize(
    ("name", "column", "reason"),
    [
        ("src_ip", pa.array(["10.0.0.7", "10.0.0", None]), "unreadable_value"),
        ("src_ip", pa.array([ADDRESS, b"12345", None]), "unreadable_value"),
        ("event_time", pa.array(["2024-05-06 07:08:09", "today", "2024-05-06 07:08:09"]), "unreadable_value"),
        ("event_time", pa.array([AT, None, AT]), "null_value"),
        ("src_bytes", pa.array([1.0, 1.5, 2.0]), "unreadable_value"),
        ("src_bytes", pa.array([1.0, float("nan"), 2.0]), "null_value"),
        ("src_bytes", pa.array([1, 2**64 - 1, 2], pa.uint64()), "unreadable_value"),
        ("src_port", pa.array([1, 70_000, None]), "unreadable_value"),
        ("duration", pa.array([1.0, float("inf"), 2.0]), "not_finite"),
        ("state", pa.array(["other", "open", "reset"]), "unknown_value"),
        ("service", pa.array([b"http", b"\xff", None]).view(pa.string()), "not_utf8"),
        ("src_ip", pa.array([b"10.0.0.7", b"\xff", None]).view(pa.string()), "not_utf8"),
    ],
)  # fmt: skip
def test_a_bad_cell_is_a_reject(name: str, column: pa.Array, reason: str, tmp_path: Path) -> None:
    """It is named with its record; the records around it are kept."""
    rows, (reject,) = read(source_of(tmp_path / "a.parquet", **{name: column}))

    assert [row["position"] for row in rows] == [0, 2]
    assert (reject.position, reject.reason) == (1, reason)
    assert reject.detail.startswith("a.parquet record 1: ")
    assert reject.raw


def test_only_the_columns_of_conn_are_recognised() -> None:
    """Those that are required, under their names; no other record type or dataset has them."""
    assert recognises_columns([c.name for c in CONN.columns])
    assert not any(
        recognises_columns([c.name for c in kind.columns])
        for kind in RECORD_TYPES.values()
        if kind is not CONN
    )
    assert not any(recognises_columns(layout.columns) for layout in (UNSW_RAW, CIC_FLOWS))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"state": None}, "no column state; expected the columns of conn@1"),
        ({"event_time": pa.array([1, 2, 3])}, "column event_time has type int64, expected timestamp or text"),
        ({"src_ip": pa.array([1, 2, 3])}, "column src_ip has type int64, expected text, or 4 or 16 bytes"),
        ({"state": pa.array([1, 2, 3])}, "column state has type int64, expected text"),
        ({"duration": pa.array([[1.0]] * 3)}, r"column duration has type list.*, expected numbers"),
    ],
)
def test_a_file_with_other_columns_is_refused(column: dict[str, Any], message: str, tmp_path: Path) -> None:
    """The error names the file and the first column that does not fit."""
    with pytest.raises(SourceError, match=message) as caught:
        source_of(tmp_path / "a", **column)
    assert str(caught.value).startswith(str(tmp_path / "a"))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"event_time,state\n", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_no_parquet_is_refused(content: bytes, tmp_path: Path) -> None:
    """Empty, cut, text or rubbish: an error of ours that says what was expected."""
    path = tmp_path / "a.parquet"
    path.write_bytes(content)

    with pytest.raises(SourceError, match=r"expected a Parquet file|fetch it again"):
        ParquetSource(path)
    with pytest.raises(SourceError, match="no such file"):
        ParquetSource(tmp_path / "b.parquet")


def test_an_empty_table_is_an_empty_source(tmp_path: Path) -> None:
    """No records, no error."""
    pq.write_table(pa.Table.from_batches([], CONN.schema), tmp_path / "a")

    assert read(ParquetSource(tmp_path / "a")) == ([], [])


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """Damage may hit the names of columns."""
    path = conn_parquet(tmp_path / "a", 5)
    path.write_bytes(path.read_bytes().replace(b"protocol", b"proto\xff\xffl"))

    with pytest.raises(SourceError, match="broken Parquet file"):
        ParquetSource(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_never_crashes(data: st.DataObject, tmp_path: Path) -> None:
    """Bytes that are overwritten or cut away: records and rejects, then at worst an error of ours."""
    whole = conn_parquet(tmp_path / "whole", 57).read_bytes()
    content = bytearray(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8)):
        content[at] = data.draw(st.integers(0, 255))
    path = tmp_path / "a"
    path.write_bytes(content)
    try:
        source = ParquetSource(path)
        rows, rejects = read(source)
    except SourceError:
        return
    assert len(rows) + len(rejects) == source.n_records


@pytest.mark.data
def test_public_flows_survive_a_round(data_dir: Path, tmp_path: Path) -> None:
    """All 6,751 flows of an Argus file, written and read back, are the same."""
    source = ArgusSource(data_dir / "flows" / "argus_ctu_botnet.binetflow.csv")
    written = pa.Table.from_batches([chunk.rows for chunk in source.chunks()], CONN.schema)
    pq.write_table(written, tmp_path / "a.parquet", row_group_size=1000)
    back = [chunk.rows for chunk in ParquetSource(tmp_path / "a.parquet").chunks(rows=999)]

    assert written.num_rows == 6751
    assert pa.Table.from_batches(back, CONN.schema).equals(written)
