"""What every source of flow records promises, over every source and form of file."""

import gzip
import hashlib
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from captures import make_source as capture
from flow_files import MAKERS as FLOW_FILES
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from json_lines import write_flows
from log_files import suricata, zeek_json, zeek_table
from netflow_datagrams import write_datagrams

from connectors.base import Chunk, Reject, Source
from connectors.layouts import KDD99, NSL_KDD, UNSW_PARTITION, UNSW_RAW, Layout
from connectors.source_json import JsonSource
from connectors.source_netflow import DatagramFiles
from connectors.sources import Generated, open_source

N_RECORDS = 57

TEXTS = {
    "protocol_type": "udp", "flag": "SF", "srcip": "10.1.0.7", "dstip": "10.2.0.9", "dsport": "0x50",
    "proto": "tcp", "state": "FIN", "service": "-", "attack_cat": " Fuzzers ", "label": "1",
}  # fmt: skip
TIMES = {"stime": 1_500_000_000, "ltime": 1_500_000_003}


def cells(layout: Layout, i: int) -> list[str]:
    """Invented cells of record i: small whole numbers, fractions where the name says so."""
    kdd_label = {"label": "neptune." if layout is KDD99 else "neptune"} if "land" in layout.columns else {}
    row = []
    for j, name in enumerate(layout.columns):
        if name in TIMES:
            row.append(str(TIMES[name] + i // 3))
        elif name in TEXTS:
            row.append({**TEXTS, **kdd_label}[name])
        else:
            row.append(
                f"0.{(7 * i + j) % 90 + 10}" if name.endswith("_rate") or name == "dur" else str(i * j % 501)
            )
    return row


def broken(line: bytes, i: int) -> bytes:
    """Spoil some records, each in another way."""
    spoiled = {
        5: line.rpartition(b",")[0],
        11: line.replace(b",0.", b",zero.", 1),
        17: line.replace(b",0.", b",-0.", 1),
        23: line + b"\xff",
        29: line.replace(b",", b"\r,", 1),
    }
    return spoiled.get(i, line)


def write_text(path: Path, layout: Layout, n: int) -> Path:
    lines = [broken(",".join(cells(layout, i)).encode(), i) for i in range(n)]
    header = [] if layout.headerless else [",".join(layout.columns).encode()]
    # A byte order mark, Windows line ends, a blank line in the middle and no end of the last line.
    content = b"\xef\xbb\xbf" + b"\r\n".join([*header, *lines[:3], b"  ", *lines[3:]])
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def typed(values: Sequence[str]) -> pa.Array:
    for kind in (pa.int64(), pa.float64()):
        try:
            return pa.array(values).cast(kind)
        except pa.ArrowInvalid:
            continue
    return pa.array(values).dictionary_encode()


def write_parquet(path: Path, layout: Layout, n: int) -> Path:
    rows = [cells(layout, i) for i in range(n)]
    columns = [typed(column) for column in zip(*rows, strict=True)]
    if "dur" in layout.columns:
        # Two rows that a typed file can hold and that are no records: infinite and negative.
        at = layout.columns.index("dur")
        values = columns[at].to_pylist()
        values[4:6] = [float("inf"), -1.0]
        columns[at] = pa.array(values, pa.float64())
    pq.write_table(pa.table(columns, names=list(layout.columns)), path, row_group_size=20 if n < 100 else 400)
    return path


Make = Callable[[Path, int], Source]


def from_file(dataset: str, layout: Layout, name: str) -> Make:
    write = write_parquet if name.endswith(".parquet") else write_text
    return lambda folder, n: open_source(dataset, write(folder / name, layout, n))


def generated(n: int, *, attacks: bool | tuple[str, ...]) -> Source:
    """Return some days of a nearly idle site: about a hundred normal flows each."""
    wanted = Generated(seed=3, days=max(1, n // 200), scale=0.001, attacks=attacks)
    return open_source("synthetic", generated=wanted)


LOGS: dict[str, Make] = {
    "zeek tsv": zeek_table,
    "zeek tsv gzip": lambda folder, n: zeek_table(folder, n, "conn.log.gz"),
    "zeek json": zeek_json,
    "suricata": suricata,
}
"""Sources with positions that hold no flow: headers, blank lines, events of another kind."""

SOURCES: dict[str, Make] = {
    "nsl-kdd text": from_file("nsl-kdd", NSL_KDD, "a.txt"),
    "nsl-kdd parquet": from_file("nsl-kdd", NSL_KDD, "a.parquet"),
    "kdd99 text": from_file("kdd99", KDD99, "a"),
    "kdd99 gzip": from_file("kdd99", KDD99, "a.gz"),
    "kdd99 parquet": from_file("kdd99", KDD99, "a.parquet"),
    "unsw raw text": from_file("unsw-nb15", UNSW_RAW, "a.csv"),
    "unsw raw parquet": from_file("unsw-nb15", UNSW_RAW, "a.parquet"),
    "unsw partition text": from_file("unsw-nb15", UNSW_PARTITION, "a.csv"),
    "unsw partition parquet": from_file("unsw-nb15", UNSW_PARTITION, "a.parquet"),
    "unsw conn text": from_file("unsw-conn", UNSW_RAW, "a.csv"),
    "unsw conn parquet": from_file("unsw-conn", UNSW_RAW, "a.parquet"),
    "synthetic": lambda _, n: generated(n, attacks=False),
    "synthetic with attacks": lambda _, n: generated(n, attacks=("slow_exfiltration", "beaconing")),
    "nsl-kdd again": lambda folder, n: open_source(
        "nsl-kdd", write_text(folder / "a.txt", NSL_KDD, n), run=2, shift_us=3_600_000_000
    ),
    **FLOW_FILES,
    "netflow datagrams": lambda folder, n: DatagramFiles(write_datagrams(folder, n)),
    "json lines": lambda folder, n: JsonSource(write_flows(folder / "a.json", n)),
    "json lines gzip": lambda folder, n: JsonSource(write_flows(folder / "a.gz", n)),
    "pcap": lambda folder, n: capture("a.pcap", folder, n),
    "pcap gzip": lambda folder, n: capture("a.pcap.gz", folder, n),
    "pcapng": lambda folder, n: capture("a.pcapng", folder, n),
    **LOGS,
}

each_source = pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)


def read(source: Source, start: int = 0, rows: int = 10) -> tuple[pa.Table, list[Reject]]:
    chunks = list(source.chunks(start, rows=rows))
    table = pa.Table.from_batches([c.rows for c in chunks], source.record_type.schema)
    return table.combine_chunks(), [reject for c in chunks for reject in c.rejects]


def covered(chunk: Chunk) -> list[int]:
    return sorted([*chunk.rows["position"].to_pylist(), *(reject.position for reject in chunk.rejects)])


@each_source
def test_is_a_source(make: Make, tmp_path: Path) -> None:
    """What the registry opens has everything that the contract names."""
    source = make(tmp_path, N_RECORDS)

    assert isinstance(source, Source)
    assert all(isinstance(note, str) and note for note in source.notes)


@each_source
@pytest.mark.parametrize("rows", [1, 10, 4000])
def test_positions_cover_everything_exactly_once(make: Make, rows: int, tmp_path: Path) -> None:
    """Each position is one row or one reject of one chunk, in order; chunks keep to their size.

    In logs it is at most one of them.
    """
    source = make(tmp_path, N_RECORDS)
    following = 0
    for chunk in source.chunks(rows=rows):
        assert chunk.first == following
        assert 0 < chunk.next - chunk.first <= rows
        positions = range(chunk.first, chunk.next)
        found = covered(chunk)
        assert found == [at for at in positions if at in found or make not in LOGS.values()]
        following = chunk.next

    assert following >= N_RECORDS
    assert source.n_records in (None, following)


@each_source
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(start=st.integers(0, N_RECORDS + 3), rows=st.integers(1, 40))
def test_reading_resumes_from_any_position(make: Make, tmp_path: Path, start: int, rows: int) -> None:
    """From any position on, whatever the chunks, come the rows and rejects of a whole reading."""
    source = make(tmp_path, N_RECORDS)
    table, rejects = read(source)
    tail, tail_rejects = read(source, start, rows)

    assert tail.to_pylist() == [row for row in table.to_pylist() if row["position"] >= start]
    assert tail_rejects == [reject for reject in rejects if reject.position >= start]


@each_source
def test_two_readings_are_equal(make: Make, tmp_path: Path) -> None:
    """Opened and read twice, a source gives the same rows, ids and rejects."""
    (tmp_path / "other").mkdir()
    first, second = make(tmp_path, N_RECORDS), make(tmp_path / "other", N_RECORDS)

    assert first.source_id == second.source_id
    assert read(first)[0].equals(read(second)[0])
    assert read(first)[1] == read(second)[1]


@each_source
def test_ids_are_unique(make: Make, tmp_path: Path) -> None:
    """No two flows of a source share an id."""
    ids = read(make(tmp_path, N_RECORDS))[0]["flow_id"].to_pylist()

    assert len(set(ids)) == len(ids)


@each_source
def test_rows_are_good_records(make: Make, tmp_path: Path) -> None:
    """Rows have the schema of the record type and pass its check."""
    source = make(tmp_path, N_RECORDS)
    for chunk in source.chunks(rows=10):
        assert chunk.rows.schema.equals(source.record_type.schema)
        assert source.record_type.check(chunk.rows).bad == ()


@each_source
def test_rejects_carry_bytes_and_reason(make: Make, tmp_path: Path) -> None:
    """A reject says what it was and why, in a word and in a sentence."""
    for reject in read(make(tmp_path, N_RECORDS))[1]:
        assert reject.raw
        assert reject.reason.replace("_", "").replace("8", "").isalpha()
        assert len(reject.detail) > len(reject.reason)


@each_source
def test_nothing_lies_beyond_the_end(make: Make, tmp_path: Path) -> None:
    """A reader that resumes after the last record gets nothing."""
    source = make(tmp_path, N_RECORDS)
    end = max(chunk.next for chunk in source.chunks())

    assert list(source.chunks(end)) == []
    assert list(source.chunks(end + 1000)) == []


def peaks(source: Source) -> tuple[int, int]:
    """Return the greatest use of Python's and of Arrow's memory while reading."""
    arrow, before = 0, pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        for _ in source.chunks(rows=100):
            arrow = max(arrow, pa.total_allocated_bytes() - before)
        return tracemalloc.get_traced_memory()[1], arrow
    finally:
        tracemalloc.stop()


@each_source
def test_memory_does_not_grow_with_the_source(make: Make, tmp_path: Path) -> None:
    """Ten times the records take about the same memory."""
    (tmp_path / "big").mkdir()
    small, big = make(tmp_path, 400), make(tmp_path / "big", 4000)
    peaks(small)  # what is loaded once is not counted
    python, arrow = peaks(small)
    python_big, arrow_big = peaks(big)

    assert python_big < 2 * python + 100_000
    assert arrow_big < 2 * arrow + 100_000


TEXT_SOURCES = {"nsl-kdd": NSL_KDD, "kdd99": KDD99, "unsw-nb15": UNSW_RAW, "unsw-conn": UNSW_RAW}


@pytest.mark.parametrize("dataset", TEXT_SOURCES)
def test_broken_lines_become_rejects_with_their_bytes(dataset: str, tmp_path: Path) -> None:
    """Each broken line is given back as it stood there; all others are rows."""
    layout = TEXT_SOURCES[dataset]
    table, rejects = read(open_source(dataset, write_text(tmp_path / "a.csv", layout, N_RECORDS)))

    assert {r.position: r.reason for r in rejects} == {
        5: "wrong_field_count", 11: "unreadable_value", 17: "out_of_range", 23: "not_utf8",
        29: "stray_line_break",
    }  # fmt: skip
    for reject in rejects:
        line = ",".join(cells(layout, reject.position)).encode()
        assert reject.raw == broken(line, reject.position)
    assert table.num_rows == N_RECORDS - len(rejects)


@pytest.mark.parametrize("dataset", TEXT_SOURCES)
def test_text_and_parquet_give_the_same_records(dataset: str, tmp_path: Path) -> None:
    """But for ids, a table reads the same from either form."""
    layout = TEXT_SOURCES[dataset]
    text = read(open_source(dataset, write_text(tmp_path / "a.csv", layout, N_RECORDS)))[0]
    parquet = read(open_source(dataset, write_parquet(tmp_path / "a.parquet", layout, N_RECORDS)))[0]
    good = set(text["position"].to_pylist()) & set(parquet["position"].to_pylist())
    rows = [
        [row for row in table.drop_columns(["flow_id"]).to_pylist() if row["position"] in good]
        for table in (text, parquet)
    ]

    assert len(good) >= N_RECORDS - 7
    assert rows[0] == rows[1]


@pytest.mark.parametrize("dataset", TEXT_SOURCES)
def test_ids_depend_on_content_and_sensor_only(dataset: str, tmp_path: Path) -> None:
    """Another path keeps the ids; another sensor or another first record changes all of them."""
    path = write_text(tmp_path / "a.csv", TEXT_SOURCES[dataset], N_RECORDS)
    moved = Path(shutil.copy(path, tmp_path / "b.data"))
    changed = tmp_path / "c.csv"
    lines = path.read_bytes().split(b"\r\n")
    changed.write_bytes(b"\r\n".join(lines[1:]))
    sources = [
        open_source(dataset, path),
        open_source(dataset, moved),
        open_source(dataset, path, sensor="roof"),
        open_source(dataset, changed),
    ]
    ids = [set(read(source)[0]["flow_id"].to_pylist()) for source in sources]

    assert ids[0] == ids[1]
    assert ids[0].isdisjoint(ids[2])
    assert ids[0].isdisjoint(ids[3])
    assert [s.source_id == sources[0].source_id for s in sources] == [True, True, False, False]


PINNED = {
    "nsl-kdd text": "bb9197aa3c47",
    "nsl-kdd parquet": "f8ba8cb3a4b0",
    "unsw raw parquet": "e545f9714a34",
    "netflow datagrams": "8869102f51fb",
    "pcap": "d855517275fa",
}


def test_ids_do_not_change_between_releases(tmp_path: Path) -> None:
    """Ids of a given file are fixed: a change here makes every earlier ingest a different one."""
    ids = {form: read(SOURCES[form](tmp_path, N_RECORDS))[0]["flow_id"].to_pylist() for form in PINNED}

    assert {form: hashlib.sha256("".join(i).encode()).hexdigest()[:12] for form, i in ids.items()} == PINNED
