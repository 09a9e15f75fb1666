"""Whether a group had committed what was not durable yet: a kill at that moment would have lost it."""

from collections.abc import Iterator

from ledger import Books, Place, Sample

Answers = dict[str, dict[Place, int]]
"""Kind of output -> partition and flows offset answered -> offset of the first answer."""


def ahead(books: Books, lost: set[Place]) -> Iterator[str]:
    """Yield the commits, as they were sampled, that were ahead of their results; one a group and lane.

    Each sample holds what was committed and, read after it, how far the outputs went: an output that
    stands behind that end was not there when its input was already committed.
    """
    answers = {kind: _answers(books, kind) for kind in ("features", "detections")}
    told: set[tuple[str, int]] = set()
    for sample in books.samples:
        for group, offsets in sample.committed.items():
            for (kind, partition), committed in offsets.items():
                if (group, partition) in told:
                    continue
                late = next(_late(books, answers, sample, kind, partition, committed, lost), None)
                if late:
                    told.add((group, partition))
                    yield f"{group} had committed {committed} of {kind}/{partition}, but {late}"


def _answers(books: Books, kind: str) -> dict[Place, int]:
    found: dict[Place, int] = {}
    for (partition, offset), message in books.of(kind):
        if message.headers.get("weir-begins") != b"1":
            found.setdefault((partition, message.number("weir-flows-offset")), offset)
    return found


def _late(
    books: Books,
    answers: Answers,
    sample: Sample,
    kind: str,
    partition: int,
    committed: int,
    lost: set[Place],
) -> Iterator[str]:
    if kind == "detections":
        yield from _late_alerts(books, sample, partition, committed)
        return
    output = "features" if kind == "flows" and books.messages["features"] else "detections"
    end = sample.ends.get((output, partition), 0)
    for place in _flows_before(books, kind, partition, committed) - lost:
        answer = answers[output].get(place)
        if answer is None or answer >= end:
            yield f"{output}/{partition} had {end} messages and no answer to flows message {place}"


def _flows_before(books: Books, kind: str, partition: int, committed: int) -> set[Place]:
    """Return the flows messages that a stage has read when it commits an offset of its input."""
    if kind == "flows":
        return {place for place in books.messages["flows"] if place[0] == partition and place[1] < committed}
    return {
        (partition, message.number("weir-flows-offset"))
        for (lane, offset), message in books.messages[kind].items()
        if lane == partition and offset < committed
    }


def _late_alerts(books: Books, sample: Sample, partition: int, committed: int) -> Iterator[str]:
    """Yield the alerts of committed detections that were not in the log."""
    origins: dict[bytes, int] = {}
    first: dict[bytes, Place] = {}
    for place, alert in books.of("alerts"):
        name = alert.headers["weir-id"]
        _, lane, origin_text, _ = alert.headers["weir-origin"].decode().split("/")
        if int(lane) == partition:
            origin = int(origin_text)
            origins[name] = min(origin, origins.get(name, origin))
            first.setdefault(name, place)
    for name, origin in origins.items():
        home, offset = first[name]
        if origin < committed and offset >= sample.ends.get(("alerts", home), 0):
            yield f"alert {name.decode()} of detections {origin} came later"
