"""Dead letters: what they say survives Kafka."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base import Reject
from connectors.dead_letters import MAX_DETAIL, MAX_VALUE_BYTES, DeadLetter, origin_id
from connectors.errors import RecordError

LETTERS = st.builds(
    DeadLetter,
    id=st.text("0123456789abcdef", min_size=1),
    stage=st.sampled_from(["ingest", "features"]),
    reason=st.text("abc_", min_size=1),
    detail=st.text(max_size=50),
    value=st.binary(max_size=50),
    rows=st.integers(0, 10**6),
    flow_id=st.text(max_size=20),
    source=st.text(max_size=20),
    position=st.none() | st.integers(0, 10**12),
    topic=st.text(max_size=20),
    partition=st.none() | st.integers(0, 100),
    offset=st.none() | st.integers(0, 10**12),
    row=st.none() | st.integers(0, 10**6),
)


@settings(max_examples=50)
@given(LETTERS)
def test_a_letter_survives_its_headers(letter: DeadLetter) -> None:
    """What is sent is read: zero and nothing stay apart."""
    assert letter == DeadLetter.from_kafka(letter.to_kafka(), letter.value)


def test_a_reject_keeps_its_place_and_its_bytes() -> None:
    """The same reject of the same source always has the same id."""
    reject = Reject(position=7, raw=b"1,2,\xff", reason="bad_line", detail="3 columns, expected 42")

    letter = DeadLetter.from_reject(reject, "src")

    assert (
        letter.value,
        letter.stage,
        letter.reason,
        letter.source,
        letter.position,
        letter.rows,
    ) == (b"1,2,\xff", "ingest", "bad_line", "src", 7, 1)
    assert letter.id == DeadLetter.from_reject(reject, "src").id == origin_id("ingest", "src", 7)
    assert letter.id != DeadLetter.from_reject(reject, "other").id


def test_a_giant_is_cut_and_says_so() -> None:
    """A dead letter always fits its topic."""
    raw = bytes(MAX_VALUE_BYTES + 5)
    letter = DeadLetter.from_reject(Reject(position=0, raw=raw, reason="r", detail="d" * 5000), source_id="s")

    assert len(letter.value) == MAX_VALUE_BYTES
    assert f"first {MAX_VALUE_BYTES} of {len(raw)} bytes" in letter.detail
    assert len(letter.detail) <= MAX_DETAIL


@pytest.mark.parametrize("missing", ["weir-id", "weir-stage", "weir-reason"])
def test_what_is_no_letter_is_refused(missing: str) -> None:
    """A message without the headers of a dead letter is named as such."""
    letter = DeadLetter(id="1", stage="s", reason="r", detail="", value=b"")
    headers = [pair for pair in letter.to_kafka() if pair[0] != missing]

    with pytest.raises(RecordError, match=f"header {missing} is missing"):
        DeadLetter.from_kafka(headers, b"")


def test_a_number_must_be_one() -> None:
    """A header that should be a number and is not is named."""
    letter = DeadLetter(id="1", stage="s", reason="r", detail="", value=b"")

    with pytest.raises(RecordError, match="header weir-origin-row is 'x'"):
        DeadLetter.from_kafka([*letter.to_kafka(), ("weir-origin-row", b"x")], b"")
