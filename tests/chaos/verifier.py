"""Judges a round from its topics alone: nothing lost, nothing twice, nothing changed.

It shares no code with weir: Kafka's messages, Arrow and JSON are all it knows.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import commits
from ledger import Books, Message, Place

MOST_TOLD = 5
"""Examples of one kind of problem that are told."""


@dataclass(frozen=True, kw_only=True)
class Lost:
    """Offsets of a partition of the flows that a worker reported as gone before it read them."""

    partition: int
    first: int
    last: int


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stream made of a log: the part that must not depend on what happened to its processes."""

    alerts: Mapping[str, str]  # id -> digest of the body
    drifts: Mapping[str, str]  # the same of alerts about drift, which tell of all traffic since a lane began
    verdicts: Mapping[str, str]  # flow id of each flagged flow -> its p-value and scores


@dataclass(kw_only=True)
class Expected:
    """What a round was meant to bring about."""

    sources: Mapping[str, int]  # source id -> records that were sent of it
    deleted: Mapping[int, int] = field(default_factory=dict)  # partition -> first offset that was kept
    lost: tuple[Lost, ...] = ()
    reasons: frozenset[str] = frozenset()  # of dead letters, that the faults bring about

    @property
    def lost_places(self) -> set[Place]:
        """All places that a worker reported as lost."""
        return {(span.partition, at) for span in self.lost for at in range(span.first, span.last + 1)}


def problems(books: Books, expected: Expected) -> list[str]:
    """Return everything that is wrong with a round, compared with nothing but itself."""
    return [
        *_few("record", _sources(books, expected)),
        *_few("answer", _answers(books, expected)),
        *_few("balance", _balance(books, expected)),
        *_few("features", _features(books)),
        *_few("alert", _bodies(books)),
        *_few("letter", _letters(books, expected)),
        *_few("commit", commits.ahead(books, expected.lost_places)),
    ]


def differences(seen: Outcome, reference: Outcome) -> list[str]:
    """Return how a round differs from an undisturbed run of the same log."""
    return [
        *_few("alert", _differing("alert", seen.alerts, reference.alerts)),
        *_few("drift", _differing("drift alert", seen.drifts, reference.drifts)),
        *_few("verdict", _differing("flagged flow", seen.verdicts, reference.verdicts)),
    ]


def _differing(what: str, seen: Mapping[str, str], reference: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{what} {key} is missing" for key in sorted(set(reference) - set(seen)))
    yield from (f"{what} {key} is too many" for key in sorted(set(seen) - set(reference)))
    both = sorted(set(seen) & set(reference))
    yield from (f"{what} {key} differs" for key in both if seen[key] != reference[key])


def _few(kind: str, found: Iterator[str]) -> list[str]:
    everything = list(found)
    told = [f"{kind}: {text}" for text in everything[:MOST_TOLD]]
    more = len(everything) - len(told)
    return [*told, f"{kind}: {more} more"] if more > 0 else told


def outcome(books: Books) -> Outcome:
    """Return what the stream made of the log."""
    alerts: dict[str, str] = {}
    drifts: dict[str, str] = {}
    for _, message in books.of("alerts"):
        is_drift = json.loads(message.value)["event"].get("dataset") == "weir.drift"
        (drifts if is_drift else alerts)[_alert_id(message)] = message.digest
    verdicts: dict[str, str] = {}
    for message in _first_answers(books).values():
        rows = message.rows()
        columns = [rows.column(name).to_pylist() for name in ("flow_id", "p_value", "scores", "p_values")]
        verdicts |= {flow: repr((p, scores, ps)) for flow, p, scores, ps in zip(*columns, strict=True)}
    return Outcome(alerts=alerts, drifts=drifts, verdicts=verdicts)


def log_keys(books: Books) -> tuple[str, str]:
    """Return what stands for the records of the log by lane, and for records and flushes.

    Logs of the same second key must give the same alerts, however they are cut into messages.
    """
    records: dict[int, list[str]] = defaultdict(list)
    events: dict[int, list[str]] = defaultdict(list)
    for (partition, _), message, fresh in _fresh_flows(books):
        if message.headers.get("weir-source"):
            records[partition] += fresh
        events[partition] += fresh
        if "weir-flush" in message.headers and events[partition][-1:] != ["flush"]:
            events[partition].append("flush")
    return _digest(records), _digest(events)


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _fresh_flows(books: Books) -> Iterator[tuple[Place, Message, list[str]]]:
    """Yield each flows message with the ids of its rows, without source positions seen before."""
    marks: dict[tuple[int, bytes], int] = {}
    for place, message in books.of("flows"):
        rows = message.rows()
        ids = rows.column("flow_id").to_pylist()
        source = message.headers.get("weir-source", b"")
        if source and ids:
            mark = marks.get((place[0], source), 0)
            positions = rows.column("position").to_pylist()
            ids = [flow for flow, at in zip(ids, positions, strict=True) if at >= mark]
            marks[place[0], source] = max(mark, positions[-1] + 1)
        yield place, message, ids


def _sources(books: Books, expected: Expected) -> Iterator[str]:
    """Every record is in the flows once under one id, or a dead letter of the ingest."""
    known: dict[tuple[str, int], str] = {}
    lanes: dict[tuple[str, int], int] = {}
    for (partition, offset), message in books.of("flows"):
        source = message.headers.get("weir-source", b"").decode()
        if not source:
            continue
        rows = message.rows()
        ids, positions = rows.column("flow_id").to_pylist(), rows.column("position").to_pylist()
        for flow, at in zip(ids, positions, strict=True):
            if known.setdefault((source, at), flow) != flow:
                yield f"record {at} of {source} was sent as {known[source, at]} and as {flow}"
            if lanes.setdefault((source, at), partition) != partition:
                yield f"record {at} of {source} is in two lanes (again at {partition}/{offset})"
    for _, letter in books.of("dead-letters"):
        if letter.headers.get("weir-stage") == b"ingest":
            source = letter.headers["weir-origin-source"].decode()
            known[source, letter.number("weir-origin-position")] = ""
    yield from _missing_records(known, expected)
    ids_seen = [flow for flow in known.values() if flow]
    if len(set(ids_seen)) != len(ids_seen):
        yield f"{len(ids_seen) - len(set(ids_seen))} flow ids stand for two records"


def _missing_records(known: Mapping[tuple[str, int], str], expected: Expected) -> Iterator[str]:
    found: dict[str, set[int]] = defaultdict(set)
    for source, at in known:
        found[source].add(at)
    for source, n_records in expected.sources.items():
        missing = sorted(set(range(n_records)) - found[source])
        if missing:
            yield f"{len(missing)} of {n_records} records of {source} were never sent, first {missing[:3]}"


def _first_answers(books: Books) -> dict[Place, Message]:
    answers: dict[Place, Message] = {}
    for (partition, _), message in books.of("detections"):
        if message.headers.get("weir-begins") != b"1":
            answers.setdefault((partition, message.number("weir-flows-offset")), message)
    return answers


_VERDICT = ("weir-rows", "weir-flagged", "weir-clock", "weir-histogram", "weir-dead", "weir-flush")


def _answers(books: Books, expected: Expected) -> Iterator[str]:
    """Every flows message has a verdict, always the same one, or was lost where the log was cut."""
    first = _first_answers(books)
    for (partition, offset), message in books.of("detections"):
        if message.headers.get("weir-begins") == b"1":
            continue
        known = first[partition, message.number("weir-flows-offset")]
        same = all(message.headers.get(name) == known.headers.get(name) for name in _VERDICT)
        if not same or message.value != known.value:
            yield f"detections {partition}/{offset} judges flows {message.number('weir-flows-offset')} anew"
    lost = expected.lost_places
    flows = set(books.messages["flows"])
    yield from (f"flows message {place} has no verdict" for place in sorted(flows - set(first) - lost))
    yield from (
        f"flows message {place} is said to be lost, but judged" for place in sorted(lost & set(first))
    )
    yield from (
        f"flows message {place} is said to be lost, but was in the log"
        for place in sorted(lost)
        if place[1] >= expected.deleted.get(place[0], 0)
    )
    yield from (f"a verdict for flows {place}, which is no message" for place in sorted(set(first) - flows))


def _balance(books: Books, expected: Expected) -> Iterator[str]:
    """Rows of a message = rows scored + rows dead, and the dead ones are in the dead letters."""
    first, letters = _first_answers(books), _letters_by_flows(books)
    for place, _, fresh in _fresh_flows(books):
        if place not in first:
            continue
        scored, dead = first[place].number("weir-rows"), first[place].number("weir-dead")
        if len(fresh) != scored + dead:
            yield f"flows message {place} has {len(fresh)} records, {scored} scored, {dead} dead"
        if dead != letters.get(place, 0):
            yield f"flows message {place} has {dead} dead, and {letters.get(place, 0)} in dead letters"


def _letters_by_flows(books: Books) -> dict[Place, int]:
    """Return the rows of all dead letters by the flows message that they come from."""
    origin = {
        (message.topic, *place): message.number("weir-flows-offset")
        for place, message in books.messages["features"].items()
    }
    rows: dict[Place, int] = defaultdict(int)
    seen: set[bytes] = set()
    for _, letter in books.of("dead-letters"):
        if letter.headers["weir-id"] in seen or letter.headers["weir-stage"] not in (b"features", b"detect"):
            continue
        seen.add(letter.headers["weir-id"])
        topic = letter.headers["weir-origin-topic"].decode()
        partition, offset = letter.number("weir-origin-partition"), letter.number("weir-origin-offset")
        rows[partition, origin.get((topic, partition, offset), offset)] += letter.number("weir-rows")
    return rows


def _features(books: Books) -> Iterator[str]:
    """Repeats of a features message are equal."""
    known: dict[Place, bytes] = {}
    for (partition, offset), message in books.of("features"):
        place, digest = (partition, message.number("weir-flows-offset")), message.headers["digest"]
        if known.setdefault(place, digest) != digest:
            yield f"features {partition}/{offset} answer flows {place} anew, with other numbers"


def _alert_id(message: Message) -> str:
    return message.headers["weir-id"].decode()


def _bodies(books: Books) -> Iterator[str]:
    """An alert has one body, which carries its id."""
    known: dict[str, bytes] = {}
    for (partition, offset), message in books.of("alerts"):
        alert = _alert_id(message)
        if known.setdefault(alert, message.value) != message.value:
            yield f"{alert} has another body at {partition}/{offset}"
        if json.loads(message.value)["event"]["id"] != alert:
            yield f"{alert} carries another id in its body"


def _letters(books: Books, expected: Expected) -> Iterator[str]:
    """Only the faults themselves bring dead letters about; a repeated one is equal."""
    known: dict[bytes, bytes] = {}
    for (partition, offset), letter in books.of("dead-letters"):
        reason = letter.headers["weir-reason"].decode()
        if letter.headers["weir-stage"] != b"ingest" and reason not in expected.reasons:
            detail = letter.headers.get("weir-detail", b"").decode()
            yield f"{reason} at {partition}/{offset}: {detail}"
        if known.setdefault(letter.headers["weir-id"], letter.value) != letter.value:
            yield f"{letter.headers['weir-id']!r} has another value at {partition}/{offset}"
