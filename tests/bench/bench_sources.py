"""Flows a second that each source reads, and its memory: `python tests/bench/bench_sources.py --help`."""

import csv
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

# As in a worker; before numpy is imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
sys.path.append(str(Path(__file__).parents[1] / "support"))

import captures
import flow_files
import netflow_datagrams
from rig import Report, Table, arguments
from zeek_log import header, zeek_columns, zeek_records

from connectors.base import Source
from connectors.kinds import open_file
from connectors.source_synthetic import SyntheticSource

PLAN = """{flows:,} generated flows in each form (captures: {packets:,} flows of three packets on average;
datagrams of 20 flows), read to the end by a process of its own on one core, checked and mapped to `conn@1`,
as `weir ingest` and `weir replay` read them; nothing is sent. *per CPU-second* is over all of its processes.
*memory* is the largest resident size of the process, *grown* by how much more than after the first tenth. The
floor does less: it parses every line with Python's own `json` or `csv`, without types, checks or columns."""

FLOWS, SHORT = 400_000, 40_000
PER_CAPTURE = 10  # times fewer flows in captures: a flow is several packets


def written(kind: str, folder: Path, n: int) -> list[Path]:
    """Write n flows in one form."""
    path = folder / kind
    with suppress(KeyError):
        WRITERS[kind](path, n)
        return [path]
    return netflow_datagrams.write_datagrams(folder, n)


def site_rows(n: int) -> Iterator[Any]:
    """Yield batches of flows of the synthetic site, n in all."""
    taken = 0
    for chunk in SyntheticSource(seed=1, days=1 + n // 80_000).chunks():
        rows = chunk.rows.slice(0, n - taken)
        taken += rows.num_rows
        yield rows
        if taken == n:
            return


def zeek_tsv(path: Path, n: int) -> None:
    """Write a conn.log as columns."""
    with path.open("w") as file:
        file.write(header())
        file.writelines(zeek_columns(site_rows(n)))


def zeek_json(path: Path, n: int) -> None:
    """Write a conn.log as JSON lines."""
    json_lines(path, zeek_records(site_rows(n)))


def json_lines(path: Path, objects: Iterable[dict[str, Any]]) -> None:
    """Write objects, one a line."""
    with path.open("w") as file:
        file.writelines(json.dumps(one, separators=(",", ":")) + "\n" for one in objects)


def suricata(path: Path, n: int) -> None:
    """Write flow events, with as many of another type between."""
    json_lines(path, (event for conn in zeek_records(site_rows(n)) for event in eve(conn)))


def eve(conn: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the flow event of a record, and a DNS event."""
    start, end = (moment(conn["ts"] + seconds) for seconds in (0, conn["duration"]))
    common = {
        "timestamp": end, "flow_id": int(conn["uid"][-12:], 16), "src_ip": conn["id.orig_h"],
        "src_port": conn["id.orig_p"], "dest_ip": conn["id.resp_h"], "dest_port": conn["id.resp_p"],
        "proto": conn["proto"].upper(),
    }  # fmt: skip
    flow = {
        "pkts_toserver": conn["orig_pkts"], "pkts_toclient": conn["resp_pkts"],
        "bytes_toserver": conn["orig_ip_bytes"], "bytes_toclient": conn["resp_ip_bytes"],
        "start": start, "end": end, "age": 1, "state": "closed", "reason": "timeout", "alerted": False,
    }  # fmt: skip
    tcp = {"tcp_flags": "1b", "tcp_flags_ts": "1b", "tcp_flags_tc": "1b", "syn": True, "state": "closed"}
    return [
        {**common, "event_type": "dns", "dns": {"type": "query", "id": 1, "rrname": "weir.test"}},
        {**common, "event_type": "flow", "app_proto": "tls", "flow": flow, "tcp": tcp},
    ]


def moment(seconds: float) -> str:
    """Return a time as Suricata writes it."""
    whole, fraction = divmod(round(seconds * 1e6), 1_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{fraction:06d}+0000"


def pcap(path: Path, n: int) -> None:
    """Write a capture."""
    packets = (
        packet for i in range(n // PER_CAPTURE) if i % 57 != 11 for packet in captures.flow(i % 60_000)
    )
    path.write_bytes(captures.pcap(sorted(packets)))


def goflow2(path: Path, n: int) -> None:
    """Write what goflow2 sends."""
    json_lines(path, (one_way(conn) for conn in zeek_records(site_rows(n))))


def one_way(conn: dict[str, Any]) -> dict[str, Any]:
    """Return the flow of the originator as goflow2 tells it."""
    return {
        "type": "NETFLOW_V9", "sampler_address": "10.0.0.1", "sequence_num": 7,
        "time_flow_start_ns": round(conn["ts"] * 1e9),
        "time_flow_end_ns": round((conn["ts"] + conn["duration"]) * 1e9),
        "src_addr": conn["id.orig_h"], "dst_addr": conn["id.resp_h"], "src_port": conn["id.orig_p"],
        "dst_port": conn["id.resp_p"], "proto": conn["proto"].upper(), "bytes": conn["orig_ip_bytes"],
        "packets": conn["orig_pkts"], "tcp_flags": 27,
    }  # fmt: skip


WRITERS: dict[str, Callable[[Path, int], Any]] = {
    "zeek columns": zeek_tsv,
    "zeek JSON": zeek_json,
    "suricata": suricata,
    "argus": flow_files.argus,
    "cic": flow_files.cic_flows,
    "parquet": flow_files.conn_parquet,
    "nfdump": flow_files.nfdump_binary,
    "nfdump JSON": flow_files.nfdump_json,
    "pcap": pcap,
    "JSON by a mapping": goflow2,
}
KINDS = (*WRITERS, "netflow v9")
FLOORS = {"zeek columns": "csv", "argus": "csv", "cic": "csv"} | dict.fromkeys(
    ("zeek JSON", "suricata", "JSON by a mapping"), "json"
)


def opened(kind: str, paths: list[Path]) -> Source:
    """Open what `written` wrote."""
    if kind == "netflow v9":
        from connectors.source_netflow import DatagramFiles

        return DatagramFiles(paths)
    return open_file(paths[0], mapping="goflow2" if kind == "JSON by a mapping" else None)


def measure(kind: str, paths: list[Path]) -> None:
    """Read a source to its end and print what it took, as JSON; runs in a process of its own."""
    with suppress(AttributeError):  # not on macOS
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    source = opened(kind, paths)
    next(iter(source.chunks()), None)  # what is imported and compiled once
    before, begun = cpu_s(), time.monotonic()
    n_flows, sizes = 0, []
    for chunk in source.chunks():
        n_flows += chunk.rows.num_rows
        sizes.append(peak_mb())
    spent, took = cpu_s() - before, time.monotonic() - begun
    floor = floor_rate(paths[0], FLOORS[kind]) if kind in FLOORS else None
    early = sizes[len(sizes) // 10]
    print(json.dumps([kind, n_flows / spent, n_flows / took, floor, sizes[-1], sizes[-1] - early, n_flows]))


def cpu_s() -> float:
    """Return the CPU seconds of this process and of those that it has ended."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def peak_mb() -> float:
    """Return the largest resident size so far, of this process or of one that it has ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e3
    with suppress(OSError):  # getrusage tells of the parent as well, before exec
        status = Path("/proc/self/status").read_text()
        return max(ended, float(status.partition("VmHWM:")[2].split()[0]) / 1e3)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS, in bytes


def floor_rate(path: Path, form: str) -> float:
    """Return the lines a CPU-second that Python's own parser reads."""
    begun = time.process_time()
    n_lines = 0
    with path.open(errors="replace") as file:
        lines: Iterable[Any] = map(json.loads, file) if form == "json" else csv.reader(file)
        for _ in lines:
            n_lines += 1
    return n_lines / (time.process_time() - begun)


def main() -> None:
    """Measure and report."""
    parser = arguments(__doc__)
    parser.add_argument("--only", metavar="KINDS", help="these, with commas between")
    parser.add_argument(
        "--one", nargs="+", metavar="KIND FILE", help="measure one file: used by the benchmark"
    )
    args = parser.parse_args()
    if args.one:
        measure(args.one[0], [Path(name) for name in args.one[1:]])
        return
    n = SHORT if args.short else FLOWS
    kinds = args.only.split(",") if args.only else KINDS
    rows = [line(kind, n) for kind in kinds]
    columns = [
        "source",
        "flows per CPU-second",
        "flows/s",
        "floor, lines per CPU-second",
        "memory, MB",
        "grown, MB",
    ]
    Report(
        name="sources",
        title="Sources",
        protocol=PLAN.format(flows=n, packets=n // PER_CAPTURE),
        tables=[Table(title="Reading on one core", columns=columns, rows=[row[:-1] for row in rows])],
    ).finish(args)


def line(kind: str, n: int) -> list[Any]:
    """Return the line of one kind in the table."""
    with TemporaryDirectory() as folder:
        paths = written(kind, Path(folder), n)
        command = [sys.executable, __file__, "--one", kind, *map(str, paths)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    found: list[Any] = (
        json.loads(done.stdout) if done.returncode == 0 else [kind, None, None, None, None, None, 0]
    )
    print(found, file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    main()
