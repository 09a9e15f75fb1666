"""Marks of sources in a lane: where a writer resumes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import BrokerError
from connectors.kafka_reader import Message
from connectors.marks import HEADER, MAX_SOURCES, Mark, Tail, decode_marks, encode_marks, resume
from connectors.wire import FlowsHeaders


def _message(source: str, following: int, *, marks: dict[str, Mark] | None = None, **more: object) -> Message:
    headers = FlowsHeaders.from_kafka(FlowsHeaders(record="conn@1", rows=1).to_kafka())
    pairs = [pair for pair in headers.to_kafka() if pair[0] != "weir-clock"]
    pairs += [
        ("weir-source", source.encode()),
        ("weir-positions", f"0,{following}".encode()),
        ("weir-clock", str(more.get("clock_us", 0)).encode()),
    ]
    if more.get("flush"):
        pairs.append(("weir-flush", b"1"))
    if marks is not None:
        pairs.append((HEADER, encode_marks(marks)))
    return Message("t", 0, 0, 0, None, b"", tuple(pairs))


def _tail(*messages: Message) -> Tail:
    tail = Tail()
    for message in messages:
        tail.add(message)
    return tail


MARKS = st.builds(
    Mark,
    next=st.integers(0, 10**12),
    done=st.integers(0, 10**12),
    lane_map=st.text(max_size=8),
    shift_us=st.integers(-(10**15), 10**15),
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(max_size=20), MARKS, max_size=5))
def test_marks_survive_their_header(marks: dict[str, Mark]) -> None:
    """What is written is read, whatever the source is called."""
    assert marks == decode_marks(encode_marks(marks))


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"3", b'{"a": 1}', b'{"a": [1, 2]}', b"\xff", b'{"a":["x",0,"",0]}']
)
def test_a_header_of_somebody_else_holds_no_marks(text: bytes) -> None:
    """Anything else under our header's name is no reason to fail."""
    assert decode_marks(text) == {}


def test_the_header_is_bounded() -> None:
    """Only the sources written last are carried on."""
    marks = {f"s{i}": Mark(next=i, done=i) for i in range(1000)}

    kept = decode_marks(encode_marks(marks))

    assert len(kept) == MAX_SOURCES
    assert "s999" in kept
    assert "s0" not in kept


def test_an_unknown_source_begins_at_the_beginning() -> None:
    """Marks of others say nothing about a source."""
    tails = {0: _tail(_message("other", 500)), 1: Tail()}

    found = resume(tails, "mine", "m")

    assert (found.start, found.resumed) == (0, False)


def test_a_lane_without_rows_is_no_reason_to_begin_again() -> None:
    """The source had no row for lane 1: `done` in lane 0 says how far it is read."""
    tails = {0: _tail(_message("mine", 900, marks={"mine": Mark(next=900, done=700)})), 1: Tail()}

    found = resume(tails, "mine", "")

    assert found.start == 700
    assert found.below == {0: 900}


def test_the_slowest_lane_counts() -> None:
    """A lane that is behind gets its rows; lanes ahead skip theirs."""
    tails = {
        0: _tail(_message("mine", 900, marks={"mine": Mark(next=900, done=300)})),
        1: _tail(_message("mine", 400, marks={"mine": Mark(next=400, done=200)})),
    }

    found = resume(tails, "mine", "")

    assert (found.start, found.below) == (400, {0: 900, 1: 400})


def test_marks_of_others_are_carried() -> None:
    """Run A, run B: A's end is found in B's messages alone."""
    tail = _tail(_message("b", 50, marks={"a": Mark(next=900, done=900), "b": Mark(next=50, done=0)}))

    assert resume({0: tail}, "a", "").start == 900


def test_an_old_mark_does_not_win() -> None:
    """A writer beside us carries our mark as of its own start; our own message is further on."""
    stale = {"a": Mark(next=10, done=10), "b": Mark(next=5, done=5)}
    tail = _tail(_message("a", 800, marks={"a": Mark(next=800, done=700)}), _message("b", 5, marks=stale))

    assert (tail.marks["a"].next, tail.marks["a"].done) == (800, 700)


def test_messages_of_other_writers_count_too() -> None:
    """Positions without marks are enough to skip what is there."""
    found = resume({0: _tail(_message("a", 120))}, "a", "m")

    assert (found.start, found.below) == (120, {0: 120})


def test_a_missing_flush_is_known() -> None:
    """Lanes whose last message was rows are flushed at the next end."""
    tails = {0: _tail(_message("a", 10)), 1: _tail(_message("a", 8), _message("a", 10, flush=True))}

    assert frozenset({0}) == resume(tails, "a", "").unflushed


def test_rows_in_doubt_do_not_change_lanes() -> None:
    """Interrupted under one map and resumed under another, rows could be lost: refused."""
    doubtful = {"a": Mark(next=900, done=300, lane_map="old")}
    settled = {"a": Mark(next=900, done=900, lane_map="old")}

    with pytest.raises(BrokerError, match=r"between positions 300 and 900.*set lane_by and sensor_lanes as"):
        resume({0: _tail(_message("a", 900, marks=doubtful))}, "a", "new")
    assert resume({0: _tail(_message("a", 900, marks=settled))}, "a", "new").start == 900


def test_the_clock_is_the_latest() -> None:
    """A lane's clock never goes back."""
    assert _tail(_message("a", 1, clock_us=50), _message("b", 1, clock_us=20)).clock_us == 50


def test_a_message_that_is_no_flows_message_is_passed_over() -> None:
    """Rubbish in the topic is the features workers' business."""
    assert Tail() == _tail(Message("t", 0, 0, 0, None, b"rubbish", ()))
