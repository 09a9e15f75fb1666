"""Invented files of flows in the formats of other tools, some of their records broken."""

import gzip
import shutil
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from connectors.base import Source
from connectors.source_argus import ArgusSource
from connectors.source_cic import CicSource
from connectors.source_nfdump import NfdumpSource
from connectors.source_parquet import ParquetSource

START = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)

ARGUS_NAMES = (
    "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,TotPkts,TotBytes,SrcBytes,SrcPkts,"
    "Label"
)
CIC_PLAIN_NAMES = (
    " Destination Port, Flow Duration, Total Fwd Packets, Total Backward Packets,Total Length of Fwd Packets,"
    " Total Length of Bwd Packets, Fwd Header Length,Flow Bytes/s, Flow Packets/s,FIN Flag Count,"
    " SYN Flag Count, RST Flag Count, ACK Flag Count, Fwd Header Length,Init_Win_bytes_forward, Label"
)
CIC_FLOWS_NAMES = (
    "Flow ID,Src IP,Src Port,Dst IP,Dst Port,Protocol,Timestamp,Flow Duration,Tot Fwd Pkts,Tot Bwd Pkts,"
    "TotLen Fwd Pkts,TotLen Bwd Pkts,Flow Byts/s,FIN Flag Cnt,SYN Flag Cnt,RST Flag Cnt,ACK Flag Cnt,"
    "Init Fwd Win Byts,Label"
)


def argus(path: Path, n: int, *, totals: bool = False) -> Path:
    """Write Argus flows as comma text, as in the CTU captures; `totals`: without SrcPkts."""
    lines = [_spoiled(_argus_line(i), i) for i in range(n)]
    names = ARGUS_NAMES
    if totals:
        names = names.replace(",SrcPkts", "")
        lines = [b",".join(cells[:14] + cells[15:]) for line in lines if (cells := line.split(b","))]
    return write_lines(path, names, lines)


def _argus_line(i: int) -> str:
    start = f"{START + timedelta(seconds=i / 7):%Y/%m/%d %H:%M:%S.%f}"
    kinds = (
        "tcp,10.0.0.7,40000,   ->,10.0.0.9,443,FSPA_FSPA,0,0,9,1900,700,4",
        "tcp,10.0.0.7,40001,   ->,10.0.0.9,22,S_RA,0,0,2,120,60,1",
        "udp,10.0.0.7,5353,  <->,10.0.0.1,53,CON,0,0,2,180,70,1",
        "icmp,10.0.0.7,0x0303,   ->,10.0.0.1,0xfe25,URP,0,,1,70,70,1",
        "tcp,10.0.0.9,80,  <- ,2001:db8::7,40002,SRPA_SPA,0,0,8,1500,900,4",
    )
    return f"{start},{i % 9}.25,{kinds[i % 5]},flow=Background-{i % 3}"


def cic_plain(path: Path, n: int) -> Path:
    """Write CICFlowMeter flows without addresses and times, as CIC-IDS2017 has them for learners."""
    lines = [
        f"{i % 1000},{i}000,3,{i % 4},120,{i % 4 * 100},60,Infinity,NaN,0,{i % 2},{i % 3 // 2},1,60,-1,"
        + ("BENIGN" if i % 2 else "Web Attack")
        for i in range(n)
    ]
    return write_lines(path, CIC_PLAIN_NAMES, [_spoiled(line, i) for i, line in enumerate(lines)])


def cic_flows(path: Path, n: int) -> Path:
    """Write CICFlowMeter 4 flows with addresses and times."""
    lines = [
        f"10.0.0.7-10.0.0.9-4000-443-6,10.0.0.7,{4000 + i % 60_000},10.0.0.9,443,{(6, 17, 0)[i % 3]},"
        f"{START + timedelta(seconds=i):%d/%m/%Y %I:%M:%S %p},{i}000,3,{i % 4},1.2E2,{i % 4 * 100}.0,"
        f"NaN,0,1,0,1,8192,No Label"
        for i in range(n)
    ]
    return write_lines(path, CIC_FLOWS_NAMES, [_spoiled(line, i) for i, line in enumerate(lines)])


def _spoiled(line: str, i: int) -> bytes:
    """Break some records, each in another way."""
    raw = line.encode()
    ways = {
        5: raw.rpartition(b",")[0],
        11: b",".join([b"zero" if j in (1, 7) else cell for j, cell in enumerate(raw.split(b","))]),
        17: raw.replace(b",", b",-", 3),
        23: b"\x81" + raw,
        29: raw.replace(b",", b"\r,", 1),
        31: b"\0" * len(raw),
    }
    return ways.get(i, raw)


def write_lines(path: Path, names: str, lines: Sequence[bytes]) -> Path:
    """Write lines below their names with Windows line ends and a blank line in the middle."""
    content = b"\xef\xbb\xbf" + b"\r\n".join([names.encode(), *lines[:3], b"  ", *lines[3:]])
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def typed(path: Path, text: Path) -> Path:
    """Write a table of comma text as Parquet, with empty cells where a record has too few."""
    names, *lines = text.read_text("utf-8-sig", errors="replace").split("\n")
    width = names.count(",") + 1
    rows = [[*line.split(","), *[""] * width][:width] for line in lines if line.strip()]
    columns = dict(zip(names.strip().split(","), map(pa.array, zip(*rows, strict=True)), strict=True))
    pq.write_table(pa.table(columns), path, row_group_size=20 if len(rows) < 100 else 400)
    return path


def conn_rows(n: int) -> list[dict[str, object]]:
    """Return invented values of conn@1, without those that are computed."""
    return [
        {
            "event_time": START + timedelta(seconds=i),
            "src_ip": "2001:db8::7" if i % 5 == 4 else "10.0.0.7",
            "dst_ip": f"10.0.{i % 3}.9",
            "src_port": 40_000 + i % 20_000,
            "dst_port": 443 if i % 4 else None,
            "protocol": "tcp",
            "duration": i / 8,
            "src_bytes": 100 * i,
            "dst_bytes": 50 * i if i % 3 else None,
            "src_packets": i,
            "dst_packets": i if i % 3 else None,
            "state": "established",
        }
        for i in range(n)
    ]


def conn_parquet(path: Path, n: int) -> Path:
    """Write conn@1 columns as other tools may: addresses as text, times in nanoseconds; some are broken."""
    rows = conn_rows(n)
    if n > 20:
        rows[5]["src_ip"] = "10.0.0"
        rows[11]["duration"] = -1.0
        rows[17]["state"] = "gone"
    table = pa.Table.from_pylist(rows)
    nanoseconds = table["event_time"].cast(pa.timestamp("ns", "Europe/Prague"))
    table = table.set_column(table.schema.get_field_index("event_time"), "event_time", nanoseconds)
    pq.write_table(
        table.append_column("mine", pa.array([[1]] * n)), path, row_group_size=20 if n < 100 else 400
    )
    return path


def nfdump_text(i: int, **changes: str) -> str:
    """Return a record as nfdump 1.7 prints it; values are JSON."""
    fields = {
        "type": '"FLOW"', "sampled": "0", "export_sysid": "1",
        "first": f'"2024-05-06T07:{i // 60 % 60:02}:{i % 60:02}.123"',
        "last": f'"2024-05-06T07:{i // 60 % 60:02}:{i % 60:02}.{200 + i % 700}"',
        "received": '"1970-01-01T00:00:00.000"', "in_packets": str(1 + i % 9), "in_bytes": str(60 + i),
        "proto": "6", "tcp_flags": '"...AP.SF"', "src_port": str(40_000 + i % 20_000), "dst_port": "443",
        "src_tos": "0", "src4_addr": '"10.0.0.7"', "dst4_addr": f'"10.0.{i % 200}.9"', "label": '"<none>"',
    } | changes  # fmt: skip
    return "{\n" + ",\n".join(f'\t"{name}" : {value}' for name, value in fields.items()) + "\n}"


def nfdump_json(path: Path, n: int) -> Path:
    """Write what `nfdump -o json` prints, with some broken records."""
    records = [nfdump_text(i) for i in range(n)]
    if n > 30:
        records[5] = nfdump_text(5, in_bytes="-7")
        records[11] = nfdump_text(11, src4_addr='"10.0.0"')
        records[17] = records[17][:-2]
        records[23] = nfdump_text(23, type='"EVENT"')
        records[29] = nfdump_text(29, label='"\x01"', in_packets='"many"')
    path.write_text("[\n" + ",\n".join(records) + "]\n")
    return path


def need_nfdump() -> None:
    """Skip the test, visibly, where the program is not installed."""
    if shutil.which("nfdump") is None:
        pytest.skip("the program nfdump is not installed here")


def nfdump_binary(path: Path, n: int) -> Path:
    """Write n tcp flows as a binary file of nfdump 1.6."""
    flows = [packed_flow(src_port=40_000 + i % 20_000, n_bytes=60 + i, second=i) for i in range(n)]
    return write_binary(path, flows)


def packed_flow(
    *,
    src: str = "10.0.0.7",
    dst: str = "10.0.0.9",
    src_port: int = 40_000,
    dst_port: int = 443,
    protocol: int = 6,
    flags: int = 0x1B,
    n_packets: int = 3,
    n_bytes: int = 180,
    second: int = 0,
    span_ms: int = 77,
) -> bytes:
    """Return a common record of layout 1, with 32-bit counters [1]_; it begins at 5 ms past the second.

    References
    ----------
    .. [1] nfdump 1.6, bin/nffile.h: common_record_t, type 10.
    """
    first = int(START.timestamp()) + second
    addresses = ip_address(src).packed + ip_address(dst).packed
    wide = len(addresses) > 8
    head = struct.pack("<HHHHII", int(wide), 0, 5, 5 + span_ms, first, first)
    head += struct.pack("<BBBBHHHH", 0, flags, protocol, 0, src_port, dst_port, 1, 0)
    if wide:
        addresses = b"".join(addresses[i : i + 8][::-1] for i in range(0, 32, 8))
    else:
        addresses = b"".join(addresses[i : i + 4][::-1] for i in range(0, 8, 4))
    body = head + addresses + struct.pack("<II", n_packets, n_bytes)
    return struct.pack("<HH", 10, len(body) + 4) + body


def write_binary(path: Path, flows: Sequence[bytes]) -> Path:
    """Write packed flows as a file of layout 1, one block for each thousand."""
    extension_map = struct.pack("<HHHHI", 2, 12, 0, 0, 0)
    blocks = []
    for at in range(0, len(flows), 1000):
        records = ([extension_map] if at == 0 else []) + list(flows[at : at + 1000])
        body = b"".join(records)
        blocks.append(struct.pack("<IIHH", len(records), len(body), 2, 0) + body)
    head = struct.pack("<HHII128s", 0xA50C, 1, 0, len(blocks), b"none")
    path.write_bytes(head + bytes(136) + b"".join(blocks))
    return path


def _binary_source(folder: Path, n: int) -> Source:
    need_nfdump()
    return NfdumpSource(nfdump_binary(folder / "nfcapd.202405060705", n))


MAKERS: dict[str, Callable[[Path, int], Source]] = {
    "argus text": lambda folder, n: ArgusSource(argus(folder / "a.binetflow", n)),
    "argus gzip, totals only": lambda folder, n: ArgusSource(argus(folder / "a.gz", n, totals=True)),
    "argus parquet": lambda folder, n: ArgusSource(typed(folder / "a.parquet", argus(folder / "a", n))),
    "cic text": lambda folder, n: CicSource(cic_plain(folder / "a.csv", n)),
    "cic with addresses text": lambda folder, n: CicSource(cic_flows(folder / "a.csv", n)),
    "cic parquet": lambda folder, n: CicSource(typed(folder / "a.parquet", cic_flows(folder / "a", n))),
    "conn parquet": lambda folder, n: ParquetSource(conn_parquet(folder / "a.parquet", n)),
    "nfdump json": lambda folder, n: NfdumpSource(nfdump_json(folder / "a.json", n)),
    "nfdump binary": _binary_source,
}
"""Sources over such files, by form."""
