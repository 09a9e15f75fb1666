"""How a file is known to be of a kind, and what opens it."""

import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_files import conn, event, header, table_row

from connectors.errors import SourceError
from connectors.kinds import KINDS, kind_names, kinds_of, open_file, open_files, recognise
from connectors.lines import TextFile

FLOWS = {
    "argus_ctu_botnet.binetflow.csv": "argus",
    "nfdump_ctu_malicious.nfdump": "nfdump",
    "suricata_eve.json": "suricata",
    "zeek_conn_json_mixed.log": "zeek",
    "zeek_conn_json_portscan.log": "zeek",
    "zeek_conn_tsv_labeled_ctu_sme_11.log": "zeek",
    "zeek_conn_tsv_mixed.log": "zeek",
}
TABLES = {
    "nsl_kdd/KDDTrain+.parquet": "nsl-kdd", "kdd99/corrected.parquet": "kdd99",
    "unsw_nb15/UNSW-NB15_1_first20000.parquet": "unsw-nb15",
}  # fmt: skip


@pytest.mark.data
@pytest.mark.parametrize(("name", "kind"), FLOWS.items())
def test_real_files_are_known_and_opened(name: str, kind: str, data_dir: Path) -> None:
    """Each is of one kind, which opens it."""
    path = data_dir / "flows" / name

    assert kinds_of(TextFile(path).head()) == [kind]
    assert open_file(path).name == kind


@pytest.mark.data
@pytest.mark.parametrize(("name", "kind"), TABLES.items())
def test_real_tables_are_known(name: str, kind: str, data_dir: Path) -> None:
    """Datasets are known by their columns."""
    assert recognise(data_dir / name) == kind


@pytest.mark.data
def test_real_captures_are_known(data_dir: Path) -> None:
    """Every capture is one, and nothing else."""
    paths = [*(data_dir / "pcaps").glob("*.pcap"), *(data_dir / "netflow").glob("*.pcap")]

    assert len(paths) > 15
    assert {name: kinds_of(TextFile(path).head()) for path in paths if (name := path.name)} == {
        path.name: ["pcap"] for path in paths
    }


@pytest.mark.data
def test_real_datagrams_are_known(data_dir: Path) -> None:
    """A datagram is of NetFlow and of no other kind; broken ones are of none."""
    found = {
        path.name: kinds_of(TextFile(path).head()) for path in sorted((data_dir / "netflow").glob("*.dat"))
    }
    unknown = [name for name, kinds in found.items() if kinds != ["netflow"]]

    assert len(found) > 80
    assert len(unknown) <= 5, unknown
    assert all(found[name] == [] for name in unknown)


@pytest.mark.data
def test_datagrams_are_read_together(data_dir: Path) -> None:
    """Templates stand in one file and what they explain in another."""
    folder = data_dir / "netflow"
    paths = [
        folder / "netflow9_test_ubnt_edgerouter_tpl.dat",
        folder / "netflow9_test_ubnt_edgerouter_data1024.dat",
        data_dir / "flows" / "zeek_conn_json_portscan.log",
    ]
    datagrams, zeek = open_files(paths)

    assert (datagrams.name, zeek.name) == ("netflow", "zeek")
    assert sum(chunk.rows.num_rows for chunk in datagrams.chunks()) > 0


INVENTED = {
    "zeek": [json.dumps(conn()), header() + table_row(conn()) + "\n", f"\ufeff{json.dumps(conn())}\n"],
    "suricata": [json.dumps(event()) + "\n"],
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("kind", "content"), [(kind, content) for kind, contents in INVENTED.items() for content in contents]
)
def test_packing_does_not_hide_a_kind(kind: str, content: str, tmp_path: Path, *, packed: bool) -> None:
    """Neither do a byte order mark or a name that says nothing."""
    path = tmp_path / "data"
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())

    assert recognise(path) == kind


def test_a_parquet_file_of_flows_is_known(tmp_path: Path) -> None:
    """One with the columns that conn@1 requires."""
    names = ["event_time", "duration", "src_bytes", "src_packets", "state"]
    pq.write_table(pa.table({name: pa.array([], pa.int64()) for name in names}), tmp_path / "a")

    assert recognise(tmp_path / "a") == "conn-parquet"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"), (b"hello, world\n", "begins with b'hello, world"),
        (bytes(range(256)), "no known kind"),
        (b'{"a": 1}\n', "no known kind"), (b"\x1f\x8b\x08junk", "cannot be read to its end"),
        (b"PAR1 and no more", "broken Parquet file"),
    ],
)  # fmt: skip
def test_unknown_files_are_refused_with_the_kinds(content: bytes, message: str, tmp_path: Path) -> None:
    """The sentence says what it found."""
    (tmp_path / "a").write_bytes(content)

    with pytest.raises(SourceError, match=message):
        open_file(tmp_path / "a")


def test_folders_missing_files_and_kinds_are_named(tmp_path: Path) -> None:
    """Each mistake has its own sentence."""
    with pytest.raises(SourceError, match="a folder, expected a file of flows"):
        open_file(tmp_path)
    with pytest.raises(SourceError, match="no such file"):
        open_file(tmp_path / "a")
    (tmp_path / "a").write_text(json.dumps(conn()))
    with pytest.raises(SourceError, match=f"no kind 'zeke'; expected one of {', '.join(kind_names())}"):
        open_file(tmp_path / "a", kind="zeke")
    with pytest.raises(SourceError, match="a mapping is for JSON lines, not for kind zeek"):
        open_file(tmp_path / "a", kind="zeek", mapping="goflow2")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    """With the system's own reason."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "a").chmod(0)

    with pytest.raises(SourceError, match="Permission denied"):
        open_file(tmp_path / "a")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_refuses_what_is_another(kind: str, tmp_path: Path) -> None:
    """A kind that was named wrongly is an error, not a traceback."""
    (tmp_path / "a").write_text("one,two\n1,2\n")

    with pytest.raises(SourceError, match=r"\ba\b"):
        list(open_file(tmp_path / "a", kind=kind).chunks())
