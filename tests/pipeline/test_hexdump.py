"""What a dead letter holds, as a person can read it."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.records import ADDRESS, TIME
from connectors.wire import encode
from pipeline.hexdump import MOST_BYTES, hexdump, readable


def test_arrow_rows_are_shown_in_their_own_units() -> None:
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array([bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 1]), bytes(15) + b"\1"], ADDRESS),
            pa.array([0, None], pa.int64()).cast(TIME),
            pa.array([1.5, float("nan")]),
        ],
        names=["src_ip", "event_time", "duration"],
    )

    assert readable(encode(batch)).splitlines() == [
        "src_ip      10.0.0.1",
        "event_time  1970-01-01T00:00:00+00:00",
        "duration    1.5",
        "",
        "src_ip      ::1",
        "event_time  null",
        "duration    nan",
    ]


@pytest.mark.parametrize("us", [-(2**62), 2**62])
def test_an_absurd_time_is_shown_as_its_number(us: int) -> None:
    batch = pa.RecordBatch.from_arrays([pa.array([us], pa.int64()).cast(TIME)], names=["event_time"])

    assert f"{us} us since 1970" in readable(encode(batch))


def test_many_rows_are_cut_and_counted() -> None:
    batch = pa.RecordBatch.from_arrays([pa.array(range(1000))], names=["n"])

    assert readable(encode(batch)).endswith("... 980 more rows")


def test_text_stays_text_and_long_text_is_cut() -> None:
    assert readable(b"0,tcp,http\n") == "0,tcp,http\n"
    assert readable(b"x" * (MOST_BYTES + 7)).endswith("... 7 more bytes")


def test_a_truncated_arrow_stream_is_dumped() -> None:
    value = encode(pa.RecordBatch.from_arrays([pa.array(range(100))], names=["n"]))[:-50]

    assert readable(value).startswith("000000  ff ff ff ff ")


def test_control_characters_cannot_reach_the_terminal() -> None:
    """A dead letter is hostile text until shown otherwise."""
    assert "\x1b" not in readable(b"\x1b[2J harmless?")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_every_byte_is_in_the_dump(value: bytes) -> None:
    digits = [line[8:55].replace(" ", "") for line in hexdump(value).splitlines()]

    assert bytes.fromhex("".join(digits)) == value


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_whatever_it_holds_it_can_be_shown(value: bytes) -> None:
    assert isinstance(readable(value), str)
