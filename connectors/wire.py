"""How records travel: one Arrow batch a message, its description in the headers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from connectors.errors import RecordError

CONTENT_TYPE = "application/vnd.apache.arrow.stream"

Headers = list[tuple[str, bytes]]
"""Kafka headers, as every client takes and gives them."""

RawHeaders = Iterable[tuple[str, bytes]] | Mapping[str, bytes] | None
"""Headers as some client hands them over: pairs, a mapping (Faust), or nothing."""


def header_dict(headers: RawHeaders) -> dict[str, bytes]:
    """Return headers as a dict; of a name that occurs twice the last one counts."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return {name: bytes(value) for name, value in pairs if value is not None}


def encode(rows: pa.RecordBatch, *, compression: Literal["lz4", "zstd"] | None = None) -> bytes:
    """Return `rows` as one Arrow IPC stream; every reader of Arrow knows whether it is compressed."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, rows.schema, options=options) as writer:
        writer.write_batch(rows)
    value: bytes = sink.getvalue().to_pybytes()
    return value


def decode(value: bytes | None) -> pa.RecordBatch:
    """Return the one record batch of an Arrow IPC stream, checked to its last offset.

    Raises
    ------
    RecordError
        `not_arrow` if the bytes are not an Arrow stream or break off; `not_one_batch` if it holds
        no batch or several.
    """
    try:
        with pa.ipc.open_stream(value or b"") as reader:
            batches = list(reader)
        for batch in batches:
            # Offsets that point outside their buffer would crash the process when read.
            batch.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        text = str(error).split("\n", maxsplit=1)[0][:200]
        raise RecordError(
            "not_arrow", f"the message is not a complete Arrow stream ({text}); expected one record batch"
        ) from error
    if len(batches) != 1:
        raise RecordError("not_one_batch", f"the Arrow stream holds {len(batches)} batches, expected 1")
    return batches[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowsHeaders:
    """The headers of a flows message.

    A source's positions let a restarted connector resume and the features worker drop repeats;
    producers that are not ours may leave them out. A flush message has no rows: it closes alert
    groups and never moves the clock.
    """

    record: str  # record type, "conn@1"
    rows: int
    source: str = ""  # Source.source_id
    first: int = 0  # position of the first source record that this message covers
    next: int = 0  # position after the last one
    clock_us: int = 0  # greatest event time that the writer has seen in this lane
    flush: bool = False

    def to_kafka(self) -> Headers:
        """Return Kafka headers."""
        headers = [
            ("content-type", CONTENT_TYPE.encode()),
            ("weir-record", self.record.encode()),
            ("weir-rows", str(self.rows).encode()),
        ]
        if self.source:
            headers.append(("weir-source", self.source.encode()))
            headers.append(("weir-positions", f"{self.first},{self.next}".encode()))
        headers.append(("weir-clock", str(self.clock_us).encode()))
        if self.flush:
            headers.append(("weir-flush", b"1"))
        return headers

    @classmethod
    def from_kafka(cls, headers: RawHeaders) -> "FlowsHeaders":
        """Read Kafka headers.

        Raises
        ------
        RecordError
            `missing_header` or `bad_header`, naming the header.
        """
        found = header_dict(headers)
        if found.get("content-type", CONTENT_TYPE.encode()) != CONTENT_TYPE.encode():
            seen = found["content-type"][:60].decode(errors="replace")
            raise RecordError("bad_header", f"content-type is {seen!r}, expected {CONTENT_TYPE}")
        if "weir-record" not in found:
            raise RecordError(
                "missing_header", "header weir-record is missing, expected a record type as conn@1"
            )
        first, following = _positions(found.get("weir-positions", b"0,0"))
        return cls(
            record=found["weir-record"].decode(errors="replace"),
            rows=_integer("weir-rows", found.get("weir-rows", b"0")),
            source=found.get("weir-source", b"").decode(errors="replace"),
            first=first,
            next=following,
            clock_us=_integer("weir-clock", found.get("weir-clock", b"0")),
            flush="weir-flush" in found,
        )


def _integer(name: str, text: bytes) -> int:
    try:
        return int(text)
    except ValueError:
        raise RecordError("bad_header", f"header {name} is {text[:40]!r}, expected a whole number") from None


def _positions(text: bytes) -> tuple[int, int]:
    first, _, following = text.partition(b",")
    return _integer("weir-positions", first), _integer("weir-positions", following)
