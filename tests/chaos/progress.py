"""Whether a lane with work stood still."""

from collections.abc import Iterator

from ledger import Books


def longest_still_s(books: Books) -> float:
    """Return the longest time for which a lane had flows to be judged and no new verdict."""
    lanes = {partition for partition, _ in books.messages["flows"]}
    return max((still for lane in lanes for still in _still(books, lane)), default=0.0)


def _still(books: Books, lane: int) -> Iterator[float]:
    judged = _judged(books, lane)
    known, since_s = -1, 0.0
    for sample in books.samples:
        end = sample.ends.get(("detections", lane), 0)
        has_work = sample.ends.get(("flows", lane), 0) > judged.get(end, 0)
        if end != known or not has_work:
            known, since_s = end, sample.at_s
        yield sample.at_s - since_s


def _judged(books: Books, lane: int) -> dict[int, int]:
    """Return, by the end of the detections, the flows offset before which all is judged."""
    found, most = {0: 0}, 0
    for (partition, offset), message in books.of("detections"):
        if partition == lane:
            most = max(most, message.number("weir-flows-offset") + 1)
            found[offset + 1] = most
    return found
