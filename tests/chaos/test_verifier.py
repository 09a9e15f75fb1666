"""The verifier sees what a broken stream leaves behind."""

import json
from collections.abc import Sequence

import pyarrow as pa
import pytest
from ledger import Books, Message, Sample
from progress import longest_still_s
from verifier import Expected, Lost, Outcome, differences, log_keys, outcome, problems

LANE = 0
SOURCE = "src"
N_MESSAGES, ROWS = 4, 3


def arrow(**columns: Sequence[object]) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    value: bytes = sink.getvalue().to_pybytes()
    return value


def flows_message(first: int, n: int = ROWS, *, prefix: str = "f") -> Message:
    positions = list(range(first, first + n))
    value = arrow(flow_id=[f"{prefix}{at}" for at in positions], position=positions)
    headers = {"weir-source": SOURCE.encode(), "weir-rows": b"%d" % n}
    return Message(headers, value, "p.flows.v1")


def detections_message(flows_offset: int, *, rows: int = ROWS, dead: int = 0, p: float = 0.01) -> Message:
    flagged = f"f{flows_offset * ROWS}"
    value = arrow(flow_id=[flagged], p_value=[p], scores=[[1.0]], p_values=[[p]])
    stated = {"rows": rows, "dead": dead, "flows-offset": flows_offset, "flagged": 1, "begins": 0}
    return Message({f"weir-{name}": b"%d" % number for name, number in stated.items()}, value)


def alert(name: str, at: int, text: str = "", dataset: str = "weir.alert") -> Message:
    body = json.dumps({"event": {"id": name, "reason": text, "dataset": dataset}}).encode()
    return Message(
        {"weir-id": name.encode(), "weir-origin": b"p.detections.main.v1/%d/%d/0" % (LANE, at)}, body
    )


def letter(offset: int, rows: int, reason: str = "poison") -> Message:
    origin = {"topic": "p.flows.v1", "partition": str(LANE), "offset": str(offset)}
    headers = {f"weir-origin-{name}": text.encode() for name, text in origin.items()}
    stated = {"id": "a", "stage": "features", "reason": reason, "rows": str(rows)}
    headers |= {f"weir-{name}": text.encode() for name, text in stated.items()}
    return Message(headers, b"")


@pytest.fixture
def books() -> Books:
    """A sound log: every record judged, one flow of each message flagged and told."""
    made = Books()
    for at in range(N_MESSAGES):
        made.messages["flows"][LANE, at] = flows_message(at * ROWS)
        made.messages["features"][LANE, at] = Message(
            {"weir-flows-offset": b"%d" % at, "digest": b"%d" % at}, b"", "p.features.conn.v1"
        )
        made.messages["detections"][LANE, at] = detections_message(at)
        made.messages["alerts"][LANE, at] = alert(f"id{at}", at)
    return made


EXPECTED = Expected(sources={SOURCE: N_MESSAGES * ROWS})


def sample(at_s: float = 0.0, *, committed: int = N_MESSAGES, ends: int = N_MESSAGES) -> Sample:
    kinds = ("flows", "features", "detections")
    return Sample(
        at_s,
        {f"g-{kind}": {(kind, LANE): committed} for kind in kinds},
        {(kind, LANE): ends for kind in (*kinds, "alerts")} | {("flows", LANE): N_MESSAGES},
    )


def test_a_sound_log_has_no_problems(books: Books) -> None:
    """Repeats that are equal are none either."""
    books.messages["detections"][LANE, N_MESSAGES] = detections_message(1)
    books.messages["alerts"][1, 0] = alert("id1", 1)
    books.samples.append(sample(ends=N_MESSAGES + 1))
    assert problems(books, EXPECTED) == []


def test_a_lost_message_is_found(books: Books) -> None:
    """A flows message without a verdict is named."""
    del books.messages["detections"][LANE, 2]
    assert problems(books, EXPECTED) == ["answer: flows message (0, 2) has no verdict"]


def test_a_record_that_was_never_sent_is_found(books: Books) -> None:
    """The connector skipped one."""
    books.messages["flows"][LANE, 3] = flows_message(9, 2)
    books.messages["detections"][LANE, 3] = detections_message(3, rows=2)
    found = problems(books, EXPECTED)
    assert found == [f"record: 1 of 12 records of {SOURCE} were never sent, first [11]"]


def test_a_record_under_two_ids_is_found(books: Books) -> None:
    """The connector sent one again, and took it for another flow."""
    books.messages["flows"][LANE, 4] = flows_message(0, 1, prefix="other")
    books.messages["detections"][LANE, 4] = detections_message(4, rows=0)
    assert problems(books, EXPECTED) == [f"record: record 0 of {SOURCE} was sent as f0 and as other0"]


def test_repeated_records_are_judged_once(books: Books) -> None:
    """A repeat of source positions must not be scored again."""
    books.messages["flows"][LANE, 4] = flows_message(0)
    books.messages["detections"][LANE, 4] = detections_message(4)
    assert problems(books, EXPECTED) == ["balance: flows message (0, 4) has 0 records, 3 scored, 0 dead"]


def test_a_row_that_vanished_is_found(books: Books) -> None:
    """Fewer rows scored than sent, and no dead letter for the rest."""
    books.messages["detections"][LANE, 0] = detections_message(0, rows=2)
    assert problems(books, EXPECTED) == ["balance: flows message (0, 0) has 3 records, 2 scored, 0 dead"]


def test_dead_rows_need_their_letters(books: Books) -> None:
    """Rows counted as dead must be in the dead letters, for a reason that the faults explain."""
    books.messages["detections"][LANE, 0] = detections_message(0, rows=0, dead=3)
    assert problems(books, EXPECTED) == ["balance: flows message (0, 0) has 3 dead, and 0 in dead letters"]
    books.messages["dead-letters"][0, 0] = letter(0, 3)
    assert problems(books, EXPECTED) == ["letter: poison at 0/0: "]
    assert problems(books, Expected(sources=EXPECTED.sources, reasons=frozenset({"poison"}))) == []


def test_a_second_verdict_that_differs_is_found(books: Books) -> None:
    """A repeat of a detections message must be equal."""
    books.messages["detections"][LANE, 4] = detections_message(1, p=0.02)
    assert problems(books, EXPECTED) == ["answer: detections 0/4 judges flows 1 anew"]


def test_features_that_differ_are_found(books: Books) -> None:
    """So must one of a features message."""
    books.messages["features"][LANE, 4] = Message({"weir-flows-offset": b"1", "digest": b"x"}, b"")
    assert problems(books, EXPECTED) == [
        "features: features 0/4 answer flows (0, 1) anew, with other numbers"
    ]


def test_an_alert_with_another_body_is_found(books: Books) -> None:
    """One id, two bodies."""
    books.messages["alerts"][1, 0] = alert("id1", 1, "another")
    assert problems(books, EXPECTED) == ["alert: id1 has another body at 1/0"]


def test_an_offset_committed_ahead_is_found(books: Books) -> None:
    """Of every stage: its output came after the commit."""
    books.samples.append(sample(ends=3))
    no_answer = "had 3 messages and no answer to flows message (0, 3)"
    assert problems(books, EXPECTED) == [
        f"commit: g-flows had committed 4 of flows/0, but features/0 {no_answer}",
        f"commit: g-features had committed 4 of features/0, but detections/0 {no_answer}",
        "commit: g-detections had committed 4 of detections/0, but alert id3 of detections 3 came later",
    ]


def test_inline_the_detections_answer_the_flows(books: Books) -> None:
    """Without a features topic the commits of the flows are compared with the detections."""
    books.messages["features"].clear()
    books.samples.append(Sample(0.0, {"g": {("flows", LANE): 4}}, {("detections", LANE): 3}))
    (found,) = problems(books, EXPECTED)
    assert found.startswith("commit: g had committed 4 of flows/0, but detections/0 had 3 messages")


def test_offsets_lost_with_the_log_are_no_loss(books: Books) -> None:
    """If a worker reported them and they were deleted; otherwise they are told."""
    del books.messages["detections"][LANE, 1], books.messages["features"][LANE, 1]
    lost = (Lost(partition=LANE, first=1, last=1),)
    assert problems(books, Expected(sources=EXPECTED.sources, lost=lost, deleted={LANE: 2})) == []
    found = problems(books, Expected(sources=EXPECTED.sources, lost=lost))
    assert found == ["answer: flows message (0, 1) is said to be lost, but was in the log"]
    found = problems(books, Expected(sources=EXPECTED.sources, deleted={LANE: 2}))
    assert found == ["answer: flows message (0, 1) has no verdict"]


def test_differences_to_the_undisturbed_run_are_told(books: Books) -> None:
    """Missing, too many, changed: alerts of flows and of drift, and verdicts."""
    books.messages["alerts"][LANE, N_MESSAGES] = alert("id7", 1, dataset="weir.drift")
    seen = outcome(books)
    assert differences(seen, seen) == []
    other = Outcome(
        alerts={**seen.alerts, "id1": "changed", "id9": ""},
        drifts={"id7": "changed"},
        verdicts={k: v for k, v in seen.verdicts.items() if k != "f0"},
    )
    assert differences(seen, other) == [
        "alert: alert id9 is missing",
        "alert: alert id1 differs",
        "drift: drift alert id7 differs",
        "verdict: flagged flow f0 is too many",
    ]


def test_the_key_of_a_log_is_its_records_and_flushes(books: Books) -> None:
    """How it is cut into messages does not matter; a flush in the middle does."""
    records, events = log_keys(books)
    cut = Books()
    for at in range(6):
        cut.messages["flows"][LANE, at] = flows_message(at * 2, 2)
    assert log_keys(cut) == (records, events)
    flush = flows_message(12, 0)
    cut.messages["flows"][LANE, 9] = Message({**flush.headers, "weir-flush": b"1"}, flush.value)
    assert log_keys(cut)[0] == records
    assert log_keys(cut)[1] != events


def test_stillness_is_the_time_without_verdicts_while_there_was_work(books: Books) -> None:
    """A lane with nothing to do does not stand still."""
    books.samples += [
        sample(at, ends=end) for at, end in ((0.0, 1), (5.0, 1), (12.0, 2), (13.0, 4), (99.0, 4))
    ]
    assert longest_still_s(books) == 5.0
