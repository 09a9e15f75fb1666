"""Rows packed into a message that fits its topic."""

import pyarrow as pa

from connectors.errors import RecordError
from connectors.topics import MAX_MESSAGE_BYTES
from connectors.wire import encode

HEADERS_BYTES = 512 * 1024
"""Room for the headers: a journal may name many sources and skipped offsets."""
MAX_BYTES = MAX_MESSAGE_BYTES - HEADERS_BYTES
PLAIN_BYTES = MAX_MESSAGE_BYTES // 2
"""Above this a message is compressed. Only reasons of very many flagged rows come so far: 4,000 rows
that are all flagged take 9 to 16 MB, 1 to 3 MB compressed."""


def packed(rows: pa.RecordBatch) -> bytes:
    """Return `rows` as one Arrow IPC stream that its topic takes.

    Raises
    ------
    RecordError
        `too_large` if it does not fit, even compressed: sending it would fail for ever.
    """
    if rows.nbytes <= PLAIN_BYTES:
        return encode(rows)
    value = encode(rows, compression="zstd")
    if len(value) > MAX_BYTES:
        raise RecordError(
            "too_large",
            f"{rows.num_rows} rows make a message of {len(value)} bytes, at most {MAX_BYTES} are taken; "
            "write smaller messages (writer.rows), or have fewer flows flagged (panel.alpha)",
        )
    return value
