"""Small conn@1 batches and flows messages for the tests of the agents."""

from functools import lru_cache

import numpy as np
import pyarrow as pa

from connectors.records import CONN, TIME
from connectors.wire import FlowsHeaders, Headers, encode


@lru_cache
def _all_rows(n: int = 2000) -> pa.RecordBatch:
    """Return flows among a few hosts, half a second apart and a little out of order."""
    rng = np.random.default_rng(7)
    times = (1000 + np.arange(n) * 0.5) * 1e6 + rng.integers(-2_000_000, 2_000_000, n)
    hosts = [bytes(10) + b"\xff\xff" + bytes([10, 0, 0, host]) for host in range(1, 7)]
    pick = rng.integers(0, len(hosts), (2, n))
    columns = {
        "sensor": ["site-1"] * n,
        "flow_id": [f"f{i}" for i in range(n)],
        "event_time": pa.array(times.astype(np.int64)).cast(TIME),
        "src_ip": [hosts[i] for i in pick[0]],
        "dst_ip": [hosts[i] for i in pick[1]],
        "src_port": rng.integers(1024, 65535, n),
        "dst_port": rng.choice([22, 53, 80, 443], n),
        "protocol": ["tcp"] * n,
        "label": ["normal"] * n,
        "position": np.arange(n),
        "duration": rng.exponential(1.0, n),
        "src_bytes": rng.integers(40, 9000, n),
        "dst_bytes": rng.integers(40, 9000, n),
        "src_packets": rng.integers(1, 20, n),
        "dst_packets": rng.integers(1, 20, n),
        "service": ["http"] * n,
        "state": list(rng.choice(["established", "attempted"], n)),
    }
    arrays = [pa.array(columns[field.name], field.type) for field in CONN.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=CONN.schema)


def conn_rows(n: int, *, first: int = 0) -> pa.RecordBatch:
    """Return `n` flows from position `first` on, always the same ones."""
    return _all_rows().slice(first, n)


def flows_message(rows: pa.RecordBatch, source: str = "s") -> tuple[bytes, Headers]:
    """Return value and headers as the flows writer writes them."""
    positions = rows.column("position").to_pylist()
    headers = FlowsHeaders(
        record=CONN.id,
        rows=rows.num_rows,
        source=source,
        first=positions[0] if positions else 0,
        next=positions[-1] + 1 if positions else 0,
    )
    return encode(rows), headers.to_kafka()


FLUSH = (b"", FlowsHeaders(record=CONN.id, rows=0, flush=True).to_kafka())
