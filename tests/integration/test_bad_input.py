"""Whatever arrives, good flows are scored, the rest is in the dead letters, and the workers live on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from accounts import Letter
from aiokafka import AIOKafkaProducer
from brokers import NOON_US, conn_rows
from cases import MakeStream
from stream import STAGES, Stream

from connectors.wire import CONTENT_TYPE, FlowsHeaders, Headers, encode

pytestmark = [pytest.mark.data, pytest.mark.slow]

Change = Callable[[pa.RecordBatch], pa.RecordBatch]


@dataclass(frozen=True, kw_only=True)
class Bad:
    """A flows message, what becomes of it, and how its bytes travel."""

    name: str
    value: bytes | None
    headers: Headers
    n_scored: int = 0
    reasons: tuple[tuple[str, int | None], ...] = ()  # of its dead letters, with the row if one was cut out
    rows: int = 1  # lost with each letter
    kafka_compression: str | None = None


def rows(prefix: str, n: int = 20) -> pa.RecordBatch:
    return conn_rows(n, prefix=prefix)


def headers(n: int, record: str = "conn@1") -> Headers:
    return FlowsHeaders(record=record, rows=n).to_kafka()


def with_column(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    at = batch.schema.get_field_index(name)
    return batch.set_column(at, pa.field(name, column.type), column)


def with_values(batch: pa.RecordBatch, name: str, changes: dict[int, Any]) -> pa.RecordBatch:
    values = batch.column(name).to_pylist()
    for row, value in changes.items():
        values[row] = value
    return with_column(batch, name, pa.array(values, batch.schema.field(name).type))


def without_column(batch: pa.RecordBatch, name: str) -> pa.RecordBatch:
    return batch.select([column for column in batch.schema.names if column != name])


def row_faults(name: str, reason: str, change: Change, bad: tuple[int, ...]) -> Bad:
    batch = change(rows(name))
    return Bad(
        name=name,
        value=encode(batch),
        headers=headers(20),
        n_scored=20 - len(bad),
        reasons=tuple((reason, row) for row in bad),
    )


def whole(name: str, reason: str, value: bytes | None, said: Headers, lost: int = 20) -> Bad:
    return Bad(name=name, value=value, headers=said, reasons=((reason, None),), rows=lost)


def good(name: str, n: int = 20, **changes: Any) -> Bad:
    return replace(Bad(name=name, value=encode(rows(name, n)), headers=headers(n), n_scored=n), **changes)


def two_batches() -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows("x").schema) as writer:
        writer.write_batch(rows("x"))
        writer.write_batch(rows("y"))
    return bytes(sink.getvalue())


def naive(batch: pa.RecordBatch) -> pa.RecordBatch:
    return with_column(batch, "event_time", batch.column("event_time").cast(pa.timestamp("us")))


def absurd(batch: pa.RecordBatch) -> pa.RecordBatch:
    us = np.asarray(batch.column("event_time").cast(pa.int64())).copy()
    us[4], us[5] = -1, NOON_US * 1000
    return with_column(batch, "event_time", pa.array(us).cast(batch.schema.field("event_time").type))


def cases() -> list[Bad]:
    plain = encode(rows("plain"))
    text_bytes = with_column(rows("t"), "src_bytes", pa.array(["many"] * 20))
    nan, inf = float("nan"), float("inf")
    no_record = [pair for pair in headers(20) if pair[0] != "weir-record"]
    bad_number = [(k, b"twenty" if k == "weir-rows" else v) for k, v in headers(20)]
    json_type = [(k, b"application/json" if k == "content-type" else v) for k, v in headers(20)]
    huge = [(k, b"9" * 5000 if k == "weir-rows" else v) for k, v in headers(20)]
    null = [(k, None if k == "weir-record" else v) for k, v in headers(20)]
    assert ("content-type", CONTENT_TYPE.encode()) in headers(20)
    return [
        whole("not arrow", "not_arrow", b'{"src": "10.0.0.1"}', headers(7), 7),
        whole("nothing at all", "not_arrow", None, headers(3), 3),
        whole("truncated", "not_arrow", plain[:-100], headers(20)),
        whole("two batches", "not_one_batch", two_batches(), headers(40), 40),
        whole("no headers", "missing_header", plain, []),
        whole("no record type", "missing_header", plain, no_record),
        whole("null header", "missing_header", plain, null),  # Kafka allows it
        whole("wrong number", "bad_header", plain, bad_number),
        whole("absurd number", "bad_header", b"no arrow", huge, 1),
        whole("wrong content", "bad_header", plain, json_type),
        whole("other record type", "other_record_type", plain, headers(20, "kdd@1")),
        whole("other version", "other_record_type", plain, headers(20, "conn@2")),
        whole("missing column", "missing_column", encode(without_column(rows("m"), "duration")), headers(20)),
        whole("mistyped column", "mistyped_column", encode(text_bytes), headers(20)),
        whole("naive time", "mistyped_column", encode(naive(rows("n"))), headers(20)),
        whole("too many rows", "too_many_rows", None, headers(100_000), 100_000),
        good("no service", value=encode(without_column(rows("ns"), "service"))),
        row_faults("no addresses", "null_value", lambda b: without_column(b, "src_ip"), tuple(range(20))),
        good("arrow lz4", value=encode(rows("al"), compression="lz4")),
        good("arrow zstd", value=encode(rows("az"), compression="zstd")),
        good("kafka lz4", kafka_compression="lz4"),
        good("kafka gzip", kafka_compression="gzip"),
        good("kafka snappy", kafka_compression="snappy"),
        good("kafka zstd", kafka_compression="zstd"),
        good("zero rows", n=0),
        row_faults("null", "null_value", lambda b: with_values(b, "src_bytes", {3: None}), (3,)),
        row_faults("nan", "not_finite", lambda b: with_values(b, "duration", {0: nan, 19: inf}), (0, 19)),
        row_faults("negative", "out_of_range", lambda b: with_values(b, "src_bytes", {7: -1}), (7,)),
        row_faults("absurd time", "absurd_time", absurd, (4, 5)),
        row_faults("state", "unknown_value", lambda b: with_values(b, "state", {2: "asleep"}), (2,)),
        row_faults("empty id", "empty_value", lambda b: with_values(b, "flow_id", {1: ""}), (1,)),
        row_faults(
            "all bad",
            "null_value",
            lambda b: with_column(b, "state", pa.nulls(20, pa.string())),
            tuple(range(20)),
        ),
    ]


async def put(stream: Stream, bad: Bad) -> int:
    """Bring a message into lane 0 and return its offset; this client sends null headers, too."""
    client = AIOKafkaProducer(
        bootstrap_servers=stream.kafka.servers,
        compression_type=bad.kafka_compression,
        max_request_size=8 * 1024 * 1024,
    )
    await client.start()
    try:
        sent = await client.send_and_wait(
            stream.topics.flows, key=b"k", value=bad.value, headers=bad.headers, partition=0
        )
        return int(sent.offset)
    finally:
        await client.stop()


def test_good_flows_are_scored_among_bad_ones(make_stream: MakeStream) -> None:
    """Each kind of bad input between good flows: scored as far as it can be, the rest told with origin."""
    stream = make_stream("unsw-conn", panel={"alpha": 1e-4})
    workers = stream.start(*STAGES)
    given: dict[int, Bad] = {}
    for index, bad in enumerate(cases()):
        if bad.name == "too many rows":
            many = encode(rows("many", 100_000), compression="zstd")
            bad = replace(bad, value=many)  # noqa: PLW2901 too large to be made at import
        between = good(f"good-{index}-", n=5)
        given[asyncio.run(put(stream, between))] = between
        given[asyncio.run(put(stream, bad))] = bad
    last = good("last-", n=5)
    given[asyncio.run(put(stream, last))] = last

    books = stream.settle()

    assert all(worker.ended() is None for worker in workers)
    letters: dict[int, list[Letter]] = {}
    for letter in books.letters.values():
        assert letter.origin[:2] == (stream.topics.flows, 0)
        assert letter.stage == "features"
        assert letter.detail
        letters.setdefault(letter.origin[2], []).append(letter)
    for offset, bad in given.items():
        found = letters.get(offset, [])
        told = sorted((letter.reason, letter.origin[3]) for letter in found)
        assert (bad.name, bad.n_scored) == (bad.name, books.scored[0, offset])
        assert (bad.name, sorted(bad.reasons)) == (bad.name, told)
        assert all(letter.rows == bad.rows for letter in found), bad.name
        if found and bad.reasons[0][1] is None and len(bad.value or b"") < 1_000_000:
            assert (bad.value or b"") == found[0].value
