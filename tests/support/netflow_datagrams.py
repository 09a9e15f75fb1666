"""Export datagrams made by hand, for tests of NetFlow v5, v9 and IPFIX."""

import ipaddress
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import pyarrow as pa

from connectors.base import Chunk
from connectors.netflow.assemble import assemble
from connectors.netflow.collector import Collector
from connectors.netflow.found import Found
from connectors.records import CONN

EXPORT_S = 1_500_000_000
UPTIME_MS = 100_000

Fields = Sequence[tuple[int, int] | tuple[int, int, int]]
"""Element and size of each field, and the enterprise where it is not IANA's."""

FLOW: Fields = (
    (8, 4), (12, 4), (7, 2), (11, 2), (4, 1), (6, 1), (1, 4), (2, 4), (22, 4), (21, 4),
)  # fmt: skip


def address(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def flow(**changes: int | str) -> bytes:
    """Return a record of the template FLOW: ten seconds of a TCP connection that ended 5 s ago."""
    values: dict[str, int | str] = {
        "src": "10.0.0.7", "dst": "10.0.0.9", "sport": 40_000, "dport": 443, "protocol": 6, "flags": 0x1B,
        "octets": 900, "packets": 9, "first": UPTIME_MS - 15_000, "last": UPTIME_MS - 5000, **changes,
    }  # fmt: skip
    src, dst, *numbers = values.values()
    return address(str(src)) + address(str(dst)) + struct.pack("!HHBBIIII", *numbers)


def v5(
    *records: bytes,
    sequence: int = 0,
    count: int | None = None,
    sampling: int = 0,
    uptime_ms: int = UPTIME_MS,
    export_s: int = EXPORT_S,
) -> bytes:
    n = len(records) if count is None else count
    header = struct.pack("!HHIIIIBBH", 5, n, uptime_ms, export_s, 250_000_000, sequence, 1, 2, sampling)
    return header + b"".join(records)


def v5_record(flags: int = 0x1B, protocol: int = 6, *, octets: int = 900, first: int = UPTIME_MS) -> bytes:
    return struct.pack(
        "!4s4s4sHHIIIIHHBBBBHHBBH", address("10.0.0.7"), address("10.0.0.9"), bytes(4), 1, 2, 9, octets,
        first, UPTIME_MS, 40_000, 443, 0, flags, protocol, 0, 0, 0, 24, 24, 0,
    )  # fmt: skip


def v9(
    *sets: bytes,
    sequence: int = 0,
    domain: int = 7,
    uptime_ms: int = UPTIME_MS,
    export_s: int = EXPORT_S,
) -> bytes:
    return struct.pack("!HHIIII", 9, len(sets), uptime_ms, export_s, sequence, domain) + b"".join(sets)


def ipfix(*sets: bytes, sequence: int = 0, domain: int = 7, export_s: int = EXPORT_S) -> bytes:
    body = b"".join(sets)
    return struct.pack("!HHIII", 10, 16 + len(body), export_s, sequence, domain) + body


def data(template_id: int, *records: bytes) -> bytes:
    body = b"".join(records)
    return struct.pack("!HH", template_id, 4 + len(body)) + body


def template(template_id: int, fields: Fields, *, version: int = 9) -> bytes:
    body = struct.pack("!HH", template_id, len(fields)) + _specifiers(fields)
    return struct.pack("!HH", 0 if version == 9 else 2, 4 + len(body)) + body


def options(template_id: int, scope: Fields, fields: Fields, *, version: int = 9) -> bytes:
    if version == 9:
        head = struct.pack("!HHH", template_id, 4 * len(scope), 4 * len(fields))
    else:
        head = struct.pack("!HHH", template_id, len(scope) + len(fields), len(scope))
    body = head + _specifiers(scope) + _specifiers(fields)
    return struct.pack("!HH", 1 if version == 9 else 3, 4 + len(body)) + body


def _specifiers(fields: Fields) -> bytes:
    out = b""
    for element, size, *enterprise in fields:
        out += struct.pack("!HH", element | (0x8000 if enterprise else 0), size)
        out += b"".join(struct.pack("!I", number) for number in enterprise)
    return out


def rows(found: Iterable[Found]) -> list[dict[str, object]]:
    """Return the good rows of what a collector found."""
    result: list[dict[str, object]] = assemble(list(found), 0).rows.to_pylist()
    return result


def reasons(found: Iterable[Found]) -> list[str]:
    """Return why things were rejected."""
    return [reject.reason for reject in assemble(list(found), 0).rejects]


def decoded(*datagrams: bytes, exporter: str = "10.0.0.1") -> pa.RecordBatch:
    """Return the rows of some datagrams of one exporter; nothing else may come of them."""
    collector = Collector(sensor="roof")
    chunk = assemble([found for one in datagrams for found in collector.feed(one, exporter)], 0)
    assert not chunk.rejects, chunk.rejects
    return chunk.rows


def write_datagrams(folder: Path, n: int) -> list[Path]:
    """Write datagrams with n records of flows in all, some of them broken, as files of a payload each."""
    records = [_spoiled(i) for i in range(n)]
    payloads = [v9(data(400, b"never has a template"), sequence=0)]
    payloads.append(v9(template(256, FLOW), sequence=1))
    for at in range(0, n, 20):
        sequence = len(payloads)
        payloads.append(v9(data(256, *records[at : at + 20]), sequence=sequence))
        if at % 100 == 20:
            payloads.append(v9(data(256, flow())[:-3], sequence=sequence + 1))
    paths = [folder / f"{i:05}.dat" for i in range(len(payloads))]
    for path, payload in zip(paths, payloads, strict=True):
        path.write_bytes(payload)
    return paths


def _spoiled(i: int) -> bytes:
    """Return record i; every thirteenth ends before it begins."""
    last = UPTIME_MS - 16_000 if i % 13 == 5 else UPTIME_MS - i % 1000
    return flow(sport=1024 + i % 60_000, octets=100 + i, last=last)


def assert_sound(chunk: Chunk) -> None:
    """Every position is one good row or one reject that says why."""
    positions = [*chunk.rows["position"].to_pylist(), *(reject.position for reject in chunk.rejects)]
    assert sorted(positions) == list(range(chunk.first, chunk.next))
    assert CONN.check(chunk.rows).bad == ()
    assert all(reject.raw and reject.reason and reject.detail for reject in chunk.rejects)
