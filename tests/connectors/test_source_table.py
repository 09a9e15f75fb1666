"""Dataset files: odd text, wrong files and what the errors say."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from connectors.base import Reject
from connectors.errors import SourceError
from connectors.layouts import KDD99, NSL_KDD, UNSW_PARTITION, UNSW_RAW
from connectors.lines import LONGEST_LINE
from connectors.sources import open_source

GOOD = b"0,tcp,http,SF," + b"1," * 37 + b"normal,21"


def read(path: Path, dataset: str = "nsl-kdd", rows: int = 7) -> tuple[list[int], list[Reject]]:
    """Return the positions of the good records, and the rejects."""
    chunks = list(open_source(dataset, path).chunks(rows=rows))
    good = [position for chunk in chunks for position in chunk.rows["position"].to_pylist()]
    return good, [reject for chunk in chunks for reject in chunk.rejects]


cells = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [b"0", b"1.5", b"-1", b"nan", b"", b" 7 ", b"1e999", b"\x00", b'"', b"\xc3\xa9", b"0x1f"]
    ),
)
line = st.one_of(
    st.binary(max_size=40),
    st.lists(cells, min_size=43, max_size=43).map(b",".join),
    st.lists(cells, min_size=41, max_size=45).map(b",".join),
    st.just(GOOD),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(line, max_size=12), end=st.sampled_from([b"\n", b"\r\n"]))
@example(lines=[b"", b"\xff" * 3, b",".join([b"\r"] * 43)], end=b"\n")
@example(lines=[GOOD.replace(b"tcp", b'"tcp')], end=b"\n")
def test_any_bytes_are_rows_or_rejects(lines: list[bytes], end: bytes, tmp_path: Path) -> None:
    """Whatever stands in a file, every line that is not blank is one record or one reject with its bytes."""
    path = tmp_path / "a.txt"
    content = end.join([GOOD, *lines, GOOD])
    path.write_bytes(content)
    expected = [stripped for part in content.split(b"\n") if (stripped := part.rstrip(b"\r\n")).strip()]
    good, rejects = read(path)

    assert sorted([*good, *(r.position for r in rejects)]) == list(range(len(expected)))
    assert {r.position: r.raw for r in rejects} == {r.position: expected[r.position] for r in rejects}
    assert {0, len(expected) - 1} <= set(good)


def test_a_file_that_breaks_off_says_so(tmp_path: Path) -> None:
    """A last line without its end and with too few fields is called truncated; a whole one is good."""
    whole, cut = tmp_path / "a", tmp_path / "b"
    whole.write_bytes(GOOD + b"\n" + GOOD)
    cut.write_bytes(GOOD + b"\n" + GOOD[:-15])
    (reject,) = read(cut)[1]

    assert read(whole) == ([0, 1], [])
    assert (reject.position, reject.reason, reject.raw) == (1, "truncated_record", GOOD[:-15])
    assert "the file ends after 39 fields of 43" in reject.detail


def test_an_endless_line_is_one_reject(tmp_path: Path) -> None:
    """A line longer than any record is given up after its first part; the next line is read."""
    path = tmp_path / "a"
    path.write_bytes(GOOD + b"\n" + b"7" * (3 * LONGEST_LINE) + b"\n" + GOOD)
    good, (reject,) = read(path)

    assert (good, reject.position, reject.reason) == ([0, 2], 1, "line_too_long")
    assert len(reject.raw) <= LONGEST_LINE


def test_names_on_the_first_line_are_no_record(tmp_path: Path) -> None:
    """A copy to which someone gave a header, in other spelling, order and with more columns, is read."""
    path = tmp_path / "a.csv"
    names = [*(name.upper() for name in NSL_KDD.columns), "mine"][::-1]
    fields = [*GOOD.decode().split(","), "x"][::-1]
    path.write_text(",".join(names) + "\n" + ",".join(fields))
    (chunk,) = open_source("nsl-kdd", path).chunks()

    assert [chunk.rows["label"][0].as_py(), chunk.rows["service"][0].as_py()] == ["normal", "http"]


def file_of(path: Path, kind: str) -> Path:
    """Write a file that is not an NSL-KDD one."""
    contents = {
        "kdd99": b",".join([b"1"] * len(KDD99.columns)),
        "raw": b",".join([b"1"] * len(UNSW_RAW.columns)),
        "partition": ",".join(UNSW_PARTITION.columns).encode(),
        "short": b"1,2,3",
        "long": b",".join([b"1"] * 60),
        "other 43": b",".join([b"x"] * 43),
        "renamed": ",".join(["length", *NSL_KDD.columns[1:]]).encode(),
        "repeated": ",".join([*NSL_KDD.columns, "Label"]).encode(),
        "header only": ",".join(NSL_KDD.columns).encode(),
        "empty": b"\n \n",
        "damaged": b"PAR1 and no more",
    }
    path.write_bytes(contents[kind] + b"\n")
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("kdd99", r"42 columns, expected 43 .* column 43 \(difficulty\); it looks like KDD Cup 1999 .*kdd99"),
        ("raw", r"49 columns, expected 43 .* too many is column 44; it looks like a raw file of UNSW-NB15"),
        ("partition", r"no column .*; it looks like a partition of UNSW-NB15 .*: use dataset unsw-nb15"),
        ("short", r"3 columns, expected 43 of NSL-KDD .* missing is column 4 \(flag\)$"),
        ("long", r"60 columns, expected 43 of NSL-KDD \(43 columns\); the first one too many is column 44$"),
        ("other 43", r"none of the first 1 records .*: a\.csv line 1: duration is 'x', expected a number"),
        ("renamed", r"no column duration; expected it as column 1 of NSL-KDD .*column 1 there is length$"),
        ("repeated", r"column label occurs twice, expected once"),
        ("header only", r"no record in the file, expected NSL-KDD"),
        ("empty", r"the file is empty, expected NSL-KDD"),
        ("damaged", r"broken Parquet file .*; fetch it again"),
    ],
)
def test_a_wrong_file_is_refused_by_its_first_wrong_column(kind: str, message: str, tmp_path: Path) -> None:
    """The error names the file, the column, what was expected and whose file it looks like."""
    path = file_of(tmp_path / "a.csv", kind)

    with pytest.raises(SourceError, match=message) as caught:
        open_source("nsl-kdd", path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_parquet_of_another_dataset_is_named(tmp_path: Path) -> None:
    """The same help for typed files."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({name: pa.array([1]) for name in KDD99.columns}), path)

    with pytest.raises(
        SourceError, match=r"no column difficulty; expected it as column 43 .* use dataset kdd99"
    ):
        open_source("nsl-kdd", path)


def test_parquet_columns_that_are_no_cells_are_refused(tmp_path: Path) -> None:
    """A column of lists is named with its type."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"duration": pa.array([[1]])}), path)

    with pytest.raises(SourceError, match=r"duration has type list.*, expected text, numbers or times"):
        open_source("nsl-kdd", path)


def test_a_typed_file_with_missing_counts_is_read(tmp_path: Path) -> None:
    """NaN where a count is missing is a null: allowed in optional columns, a reject in others."""
    columns = {name: pa.array([1.0, 1.0, 1.0]) for name in UNSW_PARTITION.columns}
    columns |= {name: pa.array(["a", "b", "c"]) for name in ("proto", "service", "state", "attack_cat")}
    columns["is_ftp_login"] = pa.array([float("nan"), 1.0, 1.0])
    columns["spkts"] = pa.array([1.0, float("nan"), 1.5])
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    (chunk,) = open_source("unsw-nb15", path).chunks()

    assert chunk.rows["is_ftp_login"].to_pylist() == [None]
    assert [(r.position, r.reason) for r in chunk.rejects] == [(1, "null_value"), (2, "unreadable_value")]


def test_a_cut_gzip_gives_what_it_holds_and_then_an_error(tmp_path: Path) -> None:
    """Records before the damage are read; the damage is an error that names the file, not silence."""
    path = tmp_path / "a.gz"
    lines = [f"{i}," + GOOD.decode().partition(",")[2] for i in range(20_000)]
    whole = gzip.compress("\n".join(lines).encode())
    path.write_bytes(whole[: len(whole) // 2])
    chunks = open_source("nsl-kdd", path).chunks(rows=100)

    assert next(chunks).next == 100
    with pytest.raises(SourceError, match=r"a\.gz: cannot be read to its end .*; fetch it again"):
        list(chunks)


def test_a_damaged_parquet_page_is_an_error(tmp_path: Path) -> None:
    """Bytes that no longer decode are reported with the record behind which they stand."""
    path = tmp_path / "a.parquet"
    columns = {name: pa.array([str(i) for i in range(5000)]) for name in NSL_KDD.columns}
    pq.write_table(pa.table(columns), path, row_group_size=1000, compression="zstd")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(content)

    with pytest.raises(SourceError, match=r"a\.parquet: damaged after record \d000 .*; fetch it again"):
        list(open_source("nsl-kdd", path).chunks())


def test_an_empty_table_is_an_empty_source(tmp_path: Path) -> None:
    """A Parquet file with the right columns and no rows gives no records and no error."""
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({name: pa.array([], pa.int64()) for name in NSL_KDD.columns}), path)

    assert read(path) == ([], [])
