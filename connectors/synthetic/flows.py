"""Flows as a numpy table, their volumes and failures, and the way to conn@1."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.records import ADDRESS, CONN, STATES, TIME

UNKNOWN = -1
"""Stands for null in a column of numbers or names."""

FLOW = np.dtype(
    [
        ("end_us", np.int64),  # since the day began
        ("duration", np.float64),
        ("src", np.uint32),
        ("dst", np.uint32),
        ("src_port", np.int32),
        ("dst_port", np.int32),
        ("protocol", np.int8),
        ("service", np.int8),
        ("state", np.int8),
        ("label", np.int8),
        ("src_bytes", np.int64),
        ("dst_bytes", np.int64),
        ("src_packets", np.int64),
        ("dst_packets", np.int64),
    ]
)
Flows = npt.NDArray[np.void]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

PROTOCOLS = ("tcp", "udp", "icmp")
TCP, UDP, ICMP = range(3)
SERVICES = ("dns", "http", "ssl", "smtp", "ssh", "smb", "ntp", "snmp", "syslog")
ESTABLISHED, ATTEMPTED, REJECTED, RESET, OTHER = range(5)
assert STATES == ("established", "attempted", "rejected", "reset", "other")
LABELS = (
    "normal", "port_scan", "host_sweep", "ssh_brute_force", "slow_exfiltration", "dns_tunnel", "syn_flood",
    "beaconing",
)  # fmt: skip

DAY_US = 86_400_000_000
SYN_BYTES = 60  # a SYN with the usual options
RST_BYTES = 40
_HEADER_BYTES = np.array([40, 28, 28])  # IP and transport, by protocol
# A host that gets no answer sends its SYN again after 1 s and then 2 s: how long 1, 2 or 3 of them take.
_SYN_RETRY_S = np.array([0.0, 1.0, 3.0])


def ephemeral_ports(rng: np.random.Generator, n: int) -> npt.NDArray[np.int32]:
    """Return source ports of the range that Linux uses."""
    return rng.integers(32_768, 61_000, n, dtype=np.int32)


def lognormal(rng: np.random.Generator, median: Floats | float, sigma: Floats | float, n: int) -> Floats:
    """Return heavy-tailed values by their median and sigma."""
    return np.exp(np.log(median) + sigma * rng.standard_normal(n))


def set_volume(flows: Flows, sent: Floats, received: Floats, segment: Floats | int) -> None:
    """Fill in the packets and bytes of flows that were answered, from their payloads.

    TCP adds its handshake and end, and an acknowledgement for every second packet of the other side.
    """
    tcp = flows["protocol"] == TCP
    sent, received = np.maximum(np.rint(sent), 1), np.maximum(np.rint(received), 1)
    out, back = np.ceil(sent / segment), np.ceil(received / segment)
    flows["src_packets"] = out + tcp * (3 + np.ceil(back / 2))
    flows["dst_packets"] = back + tcp * (2 + np.ceil(out / 2))
    header = _HEADER_BYTES[flows["protocol"]]
    flows["src_bytes"] = sent + header * flows["src_packets"]
    flows["dst_bytes"] = received + header * flows["dst_packets"]


def set_one_way(flows: Flows, where: Mask) -> None:
    """Take the answers away: for UDP and ICMP, of which nothing came back."""
    tcp = flows["protocol"] == TCP
    where &= ~tcp
    flows["dst_bytes"][where] = UNKNOWN
    flows["dst_packets"][where] = UNKNOWN
    flows["duration"][where & (flows["src_packets"] == 1)] = 0.0


def set_unanswered(flows: Flows, where: Mask, rng: np.random.Generator) -> None:
    """Turn flows into attempts that nobody answered."""
    flows["state"][where] = ATTEMPTED
    flows["service"][where & (flows["protocol"] == TCP)] = UNKNOWN
    set_one_way(flows, where.copy())
    rows = np.flatnonzero(where & (flows["protocol"] == TCP))
    syns = rng.choice(3, rows.size, p=[0.35, 0.15, 0.5])
    flows["src_packets"][rows] = syns + 1
    flows["src_bytes"][rows] = SYN_BYTES * (syns + 1)
    flows["dst_packets"][rows] = UNKNOWN
    flows["dst_bytes"][rows] = UNKNOWN
    flows["duration"][rows] = _SYN_RETRY_S[syns] * rng.uniform(1.0, 1.03, rows.size)


def set_rejected(flows: Flows, where: Mask, rng: np.random.Generator) -> None:
    """Turn TCP flows into attempts that were answered by a reset."""
    rows = np.flatnonzero(where & (flows["protocol"] == TCP))
    flows["state"][rows] = REJECTED
    flows["service"][rows] = UNKNOWN
    flows["src_packets"][rows] = flows["dst_packets"][rows] = 1
    flows["src_bytes"][rows] = SYN_BYTES
    flows["dst_bytes"][rows] = RST_BYTES
    flows["duration"][rows] = lognormal(rng, 0.0008, 0.9, rows.size)


def to_rows(flows: Flows, day_us: int, ids: pa.Array, first: int, sensor: str) -> pa.RecordBatch:
    """Return flows of the day that begins at `day_us` as records of type conn@1."""
    n = len(flows)
    columns = {
        "sensor": pa.repeat(sensor, n),
        "flow_id": ids,
        "event_time": pa.array(day_us + flows["end_us"]).cast(TIME),
        "src_ip": _addresses(flows["src"]),
        "dst_ip": _addresses(flows["dst"]),
        "src_port": _nullable(flows["src_port"], pa.uint16()),
        "dst_port": _nullable(flows["dst_port"], pa.uint16()),
        "protocol": _named(PROTOCOLS, flows["protocol"]),
        "label": _named(LABELS, flows["label"]),
        "position": pa.array(np.arange(first, first + n, dtype=np.int64)),
        "duration": pa.array(np.round(flows["duration"], 6)),
        "src_bytes": pa.array(flows["src_bytes"].copy()),
        "dst_bytes": _nullable(flows["dst_bytes"], pa.int64()),
        "src_packets": pa.array(flows["src_packets"].copy()),
        "dst_packets": _nullable(flows["dst_packets"], pa.int64()),
        "service": _named(SERVICES, flows["service"]),
        "state": _named(STATES, flows["state"]),
    }
    return pa.RecordBatch.from_pydict(columns, schema=CONN.schema)


def _nullable(values: npt.NDArray[np.integer], kind: pa.DataType) -> pa.Array:
    return pa.array(values.copy(), mask=values == UNKNOWN).cast(kind)


def _named(names: tuple[str, ...], codes: npt.NDArray[np.int8]) -> pa.Array:
    index = pa.array(codes.copy(), mask=codes == UNKNOWN)
    return pa.array(names, pa.string()).take(index)


def _addresses(numbers: npt.NDArray[np.uint32]) -> pa.Array:
    mapped = np.zeros((len(numbers), 16), dtype=np.uint8)
    mapped[:, 10:12] = 255
    mapped[:, 12:] = np.ascontiguousarray(numbers).astype(">u4").view(np.uint8).reshape(-1, 4)
    return pa.FixedSizeBinaryArray.from_buffers(ADDRESS, len(numbers), [None, pa.py_buffer(mapped.tobytes())])
