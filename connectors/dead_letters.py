"""What could not be read or judged, as it travels: the bytes as value, the reason in headers."""

import hashlib
from dataclasses import dataclass

from connectors.base import Reject
from connectors.errors import RecordError
from connectors.wire import Headers, RawHeaders, header_dict

MAX_VALUE_BYTES = 4 * 1024 * 1024
"""Longer values are cut, which the detail says: a dead letter must always fit its topic."""
MAX_DETAIL = 1000

REDRIVEN = "weir-redriven"
"""Header of a message that holds what was a dead letter: its id."""

_REQUIRED = ("weir-id", "weir-stage", "weir-reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """Rows or a message that could not be read or judged, with reason and origin.

    The origin is a place in a source (`source`, `position`) or in a topic (`topic`, `partition`,
    `offset` and, for one row of a message, `row`). The same origin always gets the same `id`, so a
    repeat is recognised.
    """

    id: str
    stage: str  # ingest, features, detect, alerts
    reason: str  # short snake_case word
    detail: str  # one sentence
    value: bytes
    rows: int = 1  # flows lost with it
    flow_id: str = ""
    panel: str = ""  # whose stage refused it, detect and alerts
    source: str = ""
    position: int | None = None
    topic: str = ""
    partition: int | None = None
    offset: int | None = None
    row: int | None = None

    def to_kafka(self) -> Headers:
        """Return Kafka headers; what does not apply is left out."""
        stated = {
            "weir-id": self.id,
            "weir-stage": self.stage,
            "weir-reason": self.reason,
            "weir-detail": self.detail[:MAX_DETAIL],
            "weir-rows": self.rows,
            "weir-flow-id": self.flow_id[:MAX_DETAIL],
            "weir-panel": self.panel,
            "weir-origin-source": self.source,
            "weir-origin-position": self.position,
            "weir-origin-topic": self.topic,
            "weir-origin-partition": self.partition,
            "weir-origin-offset": self.offset,
            "weir-origin-row": self.row,
        }
        return [(name, str(value).encode()) for name, value in stated.items() if value not in (None, "")]

    @classmethod
    def from_kafka(cls, headers: RawHeaders, value: bytes | None) -> "DeadLetter":
        """Read a dead letter.

        Raises
        ------
        RecordError
            `missing_header` or `bad_header`, naming the header.
        """
        found = {name: text.decode(errors="replace") for name, text in header_dict(headers).items()}
        for name in _REQUIRED:
            if name not in found:
                raise RecordError("missing_header", f"header {name} is missing: this is no dead letter")
        return cls(
            id=found["weir-id"],
            stage=found["weir-stage"],
            reason=found["weir-reason"],
            detail=found.get("weir-detail", ""),
            value=value or b"",
            rows=_number(found, "weir-rows") or 0,
            flow_id=found.get("weir-flow-id", ""),
            panel=found.get("weir-panel", ""),
            source=found.get("weir-origin-source", ""),
            position=_number(found, "weir-origin-position"),
            topic=found.get("weir-origin-topic", ""),
            partition=_number(found, "weir-origin-partition"),
            offset=_number(found, "weir-origin-offset"),
            row=_number(found, "weir-origin-row"),
        )

    @classmethod
    def from_reject(cls, reject: Reject, source_id: str) -> "DeadLetter":
        """Return the dead letter of a piece of a source that is no record."""
        value, detail = fitting(reject.raw, reject.detail)
        return cls(
            id=origin_id("ingest", source_id, reject.position),
            stage="ingest",
            reason=reject.reason,
            detail=detail,
            value=value,
            source=source_id,
            position=reject.position,
        )


def fitting(value: bytes, detail: str) -> tuple[bytes, str]:
    """Return value and detail of a dead letter, the value cut if it is too long for the topic."""
    if len(value) <= MAX_VALUE_BYTES:
        return value, detail
    note = f" (the first {MAX_VALUE_BYTES} of {len(value)} bytes)"
    return value[:MAX_VALUE_BYTES], detail[: MAX_DETAIL - len(note)] + note


def origin_id(stage: str, *origin: object) -> str:
    """Return the id of a dead letter: the same for the same stage and origin, always.

    Examples
    --------
    >>> origin_id("ingest", "abc", 7)
    '1e47e08ade65bb6b729a'
    """
    text = f"{stage}:{'/'.join(map(str, origin))}"
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _number(found: dict[str, str], name: str) -> int | None:
    if name not in found:
        return None
    try:
        return int(found[name])
    except ValueError:
        raise RecordError(
            "bad_header", f"header {name} is {found[name][:40]!r}, expected a whole number"
        ) from None
