"""What the log is said to hold is what the features worker took from it."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conn_flows import conn_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_workers import CONN_SET, TOPICS, LaneWorker
from memory_log import MemoryLog

from connectors.dead_letters import MAX_VALUE_BYTES, REDRIVEN, DeadLetter
from connectors.marks import HEADER, Mark, Tail, decode_marks
from connectors.records import CONN
from connectors.wire import FlowsHeaders, decode, encode
from pipeline.agents.features import FeaturesRole
from pipeline.agents.letters import whole_letter
from pipeline.redrive.contents import NotPossibleError, acceptable, flows_of
from pipeline.redrive.letters import Dead, each_letter
from pipeline.redrive.log import keys_of, left_out, read_log
from pipeline.redrive.packing import flows_messages
from pipeline.settings import load_settings

MAX_ROWS = 8
FEATURES = TOPICS.features("conn")

Sent = tuple[str, int, int, int | None]
"""Source, first position, rows, and the row that is spoilt."""

messages = st.lists(
    st.tuples(
        st.sampled_from(["", "a", "b"]), st.integers(0, 12), st.integers(1, 10), st.none() | st.integers(0, 9)
    ),
    max_size=12,
)


def put(log: MemoryLog, source: str, first: int, n: int, bad: int | None) -> None:
    """Append a flows message whose ids tell source and position, as repeats of each other have them."""
    rows = conn_rows(n, first=first)
    ids = pa.array([f"{source}{position}" for position in range(first, first + n)])
    rows = rows.set_column(rows.schema.get_field_index("flow_id"), rows.schema.field("flow_id"), ids)
    if bad is not None and bad < n:
        at = rows.schema.get_field_index("src_bytes")
        values = rows.column("src_bytes").to_pylist()
        values[bad] = -1
        rows = rows.set_column(at, rows.schema.field("src_bytes"), pa.array(values))
    headers = FlowsHeaders(record=CONN.id, rows=n, source=source, first=first, next=first + n)
    log.append(TOPICS.flows, 0, encode(rows), headers.to_kafka())


def taken_by_the_worker(log: MemoryLog) -> set[tuple[str, str]]:
    role = FeaturesRole(CONN_SET, TOPICS, max_rows=MAX_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        assert LaneWorker(role, log, Path(folder)).run()
    return {key for m in log.messages(FEATURES) for key in keys_of(decode(m.value))}


def dead_of(log: MemoryLog) -> Dead:
    dead = Dead()
    for _, letter in each_letter(log, TOPICS.dead_letters):  # reads as KafkaReader does
        dead.add(letter, TOPICS.flows)
    return dead


@given(sent=messages)
@settings(max_examples=60, deadline=None)
def test_the_log_is_read_as_the_worker_reads_it(sent: list[Sent]) -> None:
    """Repeats below the mark, messages too large, rows cut out: the same flows count as taken."""
    log = MemoryLog()
    for message in sent:
        put(log, *message)
    expected = taken_by_the_worker(log)
    candidates = {("site-1", f"{source}{position}") for source in ("", "a", "b") for position in range(25)}

    assert expected == read_log(log, TOPICS.flows, candidates, dead_of(log)).taken


def test_what_was_redriven_is_known_by_its_header() -> None:
    """By letter, also where the worker rejected it once more; other candidates are not asked for."""
    log = MemoryLog()
    put(log, "", 0, 3, None)
    (message,) = log.messages(TOPICS.flows)
    log.append(TOPICS.flows, 0, message.value or b"", [*message.headers, (REDRIVEN, b"l1")])
    dead = Dead(messages={(0, 1)})

    found = read_log(log, TOPICS.flows, {("site-1", "1")}, dead)

    assert found.sent == {"l1": {("site-1", "0"), ("site-1", "1"), ("site-1", "2")}}
    assert found.taken == {("site-1", "1")}
    assert found.resting == {0: False}


def test_a_lane_rests_behind_a_flush() -> None:
    """Redriven rows behind the flush do not wake it."""
    log = MemoryLog()
    put(log, "s", 0, 3, None)
    log.append(
        TOPICS.flows, 0, b"", FlowsHeaders(record=CONN.id, rows=0, flush=True, source="s", next=3).to_kafka()
    )
    headers = FlowsHeaders(record=CONN.id, rows=1).to_kafka()
    log.append(TOPICS.flows, 0, encode(conn_rows(1)), [*headers, (REDRIVEN, b"l1")])

    found = read_log(log, TOPICS.flows, set(), Dead())

    assert found.resting == {0: True}
    assert found.tails[0].marks["s"].next == 3


def test_each_flow_goes_once() -> None:
    """Rows that are known or repeated in a letter are left out; rows without an id stay, to be told of."""
    rows = pa.RecordBatch.from_pydict({"sensor": ["s"] * 6, "flow_id": ["a", "b", "a", "c", None, None]})

    kept = left_out(rows, ({("s", "c")}, set()))

    assert kept.column("flow_id").to_pylist() == ["a", "b", None, None]


def letter_of(log: MemoryLog, value: bytes) -> DeadLetter:
    message = log.append(TOPICS.flows, 0, value, FlowsHeaders(record=CONN.id, rows=1).to_kafka())
    return whole_letter(message, "features", "too_many_rows", "too many")


def test_a_cut_letter_is_completed_from_the_log() -> None:
    """And refused where the log has lost the message, or holds another one there."""
    log = MemoryLog()
    rows = conn_rows(1500)
    value = encode(pa.concat_batches([rows] * 40))
    assert len(value) > MAX_VALUE_BYTES
    letter = letter_of(log, value)

    assert flows_of(letter, TOPICS.flows, log, CONN_SET).num_rows == 60_000
    log.cut(TOPICS.flows, 0, 1)
    with pytest.raises(NotPossibleError, match=r"its message has left the log: t\.flows\.v1/0/0"):
        flows_of(letter, TOPICS.flows, log, CONN_SET)
    anew = MemoryLog()
    anew.append(TOPICS.flows, 0, b"another", [])
    with pytest.raises(NotPossibleError, match=r"its message has left the log: t\.flows\.v1/0/0"):
        flows_of(letter, TOPICS.flows, anew, CONN_SET)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"topic": "other.flows.v1"}, "comes from other.flows.v1, expected from t.flows.v1"),
        ({"offset": None}, "expected from t.flows.v1"),
        ({"reason": "other_record_type"}, "its record type is not conn@1"),
        ({"value": b"junk"}, "refused again: the message is not a complete Arrow stream"),
        ({"value": encode(conn_rows(2).select(["sensor"]))}, "column flow_id .* is required and missing"),
    ],
)
def test_what_is_no_flow_is_refused(changes: dict[str, Any], why: str) -> None:
    """In one sentence that says what is wrong with the letter."""
    letter = replace(letter_of(MemoryLog(), encode(conn_rows(2))), **changes)

    with pytest.raises(NotPossibleError, match=why):
        flows_of(letter, TOPICS.flows, MemoryLog(), CONN_SET)


def test_rows_that_are_still_bad_stay_where_they_are() -> None:
    """The good ones go; the reason of the others is told."""
    log = MemoryLog()
    put(log, "", 0, 4, 2)
    rows = decode(log.messages(TOPICS.flows)[0].value)

    good, why = acceptable(rows, CONN_SET)

    assert good.column("flow_id").to_pylist() == ["0", "1", "3"]
    assert why.startswith("1 of 4 would be refused again: conn@1: src_bytes is -1")
    assert acceptable(good, CONN_SET)[1] == ""


@given(n=st.integers(0, 60), max_rows=st.integers(1, 20), size_bytes=st.sampled_from([100, 4000, 1_000_000]))
@settings(max_examples=40, deadline=None)
def test_rows_are_packed_as_a_writer_packs_them(n: int, max_rows: int, size_bytes: int) -> None:
    """All rows, once, in order; no message above the limits unless it holds one row; the clock goes on."""
    given_rows = conn_rows(n)
    read = load_settings(overrides={"features.max_message_rows": max_rows}, env={})
    # Less than the setting allows: the rows of the test are few.
    chosen = read.model_copy(update={"writer": read.writer.model_copy(update={"size_bytes": size_bytes})})
    tail = Tail(marks={"s": Mark(next=7, done=5)}, clock_us=1)

    sent = list(flows_messages(given_rows, "l1", chosen, TOPICS.flows, 2, tail))

    rows = [decode(value) for _, _, value, _ in sent]
    assert [key for part in rows for key in keys_of(part)] == keys_of(given_rows)
    assert all(part.num_rows <= max_rows for part in rows)
    assert all(len(s[2]) <= size_bytes or part.num_rows == 1 for s, part in zip(sent, rows, strict=True))
    for topic, lane, value, pairs in sent:
        headers = FlowsHeaders.from_kafka(pairs)
        assert (topic, lane, headers.rows) == (TOPICS.flows, 2, decode(value).num_rows)
        assert (headers.source, headers.first, headers.next, headers.flush) == ("", 0, 0, False)
        assert dict(pairs)[REDRIVEN] == b"l1"
        assert decode_marks(dict(pairs)[HEADER])["s"].next == 7
    if n:
        assert max(given_rows.column("event_time").cast("int64").to_pylist()) == tail.clock_us


def test_a_row_too_large_for_the_topic_is_refused() -> None:
    """Sending it would fail for ever."""
    rows = conn_rows(1)
    at = rows.schema.get_field_index("service")
    huge = rows.set_column(at, rows.schema.field(at), pa.array(["x" * 9_000_000]))

    with pytest.raises(NotPossibleError, match=r"one flow takes .* bytes, expected at most"):
        list(flows_messages(huge, "l1", load_settings(env={}), TOPICS.flows, 0, Tail()))
