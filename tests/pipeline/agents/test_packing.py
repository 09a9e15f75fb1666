"""What a stage publishes always fits its topic, or is in the dead letters."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conn_flows import conn_rows, flows_message
from memory_log import MemoryLog

from connectors.dead_letters import MAX_VALUE_BYTES, DeadLetter
from connectors.errors import RecordError
from connectors.topics import MAX_MESSAGE_BYTES, Topics
from connectors.wire import decode, encode
from pipeline.agents.features import FeaturesLane, FeaturesRole
from pipeline.agents.packing import MAX_BYTES, packed
from pipeline.features.feature_sets import feature_set
from pipeline.messages import FeaturesHeaders

ROLE = FeaturesRole(feature_set("conn"), Topics("t"), max_rows=1000)


def with_ids(make: Callable[[int], str], n: int = 20) -> pa.RecordBatch:
    rows = conn_rows(n)
    at = rows.schema.get_field_index("flow_id")
    return rows.set_column(at, rows.schema.field(at), pa.array([make(i) for i in range(n)]))


def test_small_messages_are_plain() -> None:
    """What fits easily is written as ever."""
    assert encode(conn_rows(50)) == packed(conn_rows(50))


def test_large_messages_are_compressed() -> None:
    """Reasons of thousands of flagged rows would not fit; compressed they do, and read the same."""
    rows = with_ids(lambda i: f"{i}-" * 200_000)

    value = packed(rows)

    assert len(value) < MAX_BYTES < rows.nbytes
    assert rows.equals(decode(value))


def test_what_never_fits_is_refused() -> None:
    """Sending it would fail for ever, so it is an error that says what to do."""
    rows = with_ids(lambda i: np.random.default_rng(i).bytes(500_000).hex(), n=30)

    with pytest.raises(RecordError, match=r"30 rows make a message of .*writer\.rows") as caught:
        packed(rows)

    assert caught.value.reason == "too_large"


def test_features_that_do_not_fit_leave_the_windows_alone() -> None:
    """The whole message is dead, the journal answers it, and the lane is rebuilt without it."""
    log = MemoryLog()
    value, headers = flows_message(with_ids(lambda i: np.random.default_rng(i).bytes(500_000).hex(), n=30))
    lane = FeaturesLane(ROLE, 0)

    step = lane.process(log.append("t.flows.v1", 0, value, headers))

    letter, answer = step.outs
    assert step.broken
    assert step.tally.dead == {"too_large": 30}
    told = DeadLetter.from_kafka(letter.headers, letter.value)
    assert (told.reason, told.rows, len(told.value)) == ("too_large", 30, MAX_VALUE_BYTES)
    assert f"(the first {MAX_VALUE_BYTES} of {len(value)} bytes)" in told.detail
    journal = FeaturesHeaders.from_kafka(answer.headers)
    assert (journal.rows, journal.dead, journal.skipped, journal.clock_end_us) == (0, 30, (0,), 0)


@pytest.mark.parametrize("stated", [b"9" * 5000, None, b"-1", "\u00b2".encode(), b""])
def test_any_stated_number_of_rows_is_survived(stated: Any) -> None:
    """A header that is no number, or one that Python refuses to read, does not kill the worker."""
    log = MemoryLog()
    headers = [("weir-rows", stated), ("weir-record", b"conn@1")]

    step = FeaturesLane(ROLE, 0).process(log.append("t.flows.v1", 0, b"no arrow", headers))

    assert sum(step.tally.dead.values()) == 1
    assert not step.broken


def test_every_dead_letter_fits() -> None:
    """A row or a message of many megabytes is cut, id and headers too."""
    huge = with_ids(lambda i: "x" * 9_000_000 if i == 3 else f"f{i}")
    at = huge.schema.get_field_index("duration")
    spoilt = huge.set_column(at, huge.schema.field(at), pa.array([float("nan")] * 20))
    value, headers = flows_message(spoilt)

    step = FeaturesLane(ROLE, 0).process(MemoryLog().append("t.flows.v1", 0, value, headers))

    sizes = [len(out.value) + sum(len(text) for _, text in out.headers) for out in step.outs]
    assert len(step.outs) == 21
    assert max(sizes) < MAX_MESSAGE_BYTES
