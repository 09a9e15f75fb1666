"""The headers of features and detections messages: the journal that makes a lane recoverable.

Every flows message has exactly one features message and one detections message, on the same
partition number, even when it held nothing that could be judged.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Self

from connectors.wire import CONTENT_TYPE, Headers, RawHeaders, header_dict
from pipeline.errors import JournalError


@dataclass(frozen=True, slots=True, kw_only=True)
class Low:
    """Where windows are rebuilt from: state as of before row 0 of the flows message at `offset`."""

    offset: int
    clock_us: int
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesHeaders:
    """What a features message says of itself and of its lane.

    All counts are of the one flows message that it comes from.
    """

    feature_set: str  # FeatureSet.id
    rows: int
    flows_offset: int
    clock_us: int  # lane clock before row 0
    clock_end_us: int  # lane clock after the last row
    low: Low
    marks: dict[str, int] = field(default_factory=dict)  # source id -> position after the last row seen
    dead: int = 0  # rows that went to the dead letters
    repeated: int = 0  # rows dropped because their source position had been seen
    skipped: tuple[int, ...] = ()  # flows offsets from `low` on that warm-up must skip
    flush: bool = False

    def to_kafka(self) -> Headers:
        """Return Kafka headers."""
        return _headers(
            {
                "weir-feature-set": self.feature_set,
                "weir-rows": self.rows,
                "weir-flows-offset": self.flows_offset,
                "weir-clock": f"{self.clock_us},{self.clock_end_us}",
                "weir-low": f"{self.low.offset},{self.low.clock_us},{self.low.seq}",
                "weir-marks": json.dumps(self.marks, separators=(",", ":")),
                "weir-dead": self.dead,
                "weir-repeated": self.repeated,
                "weir-skipped": ",".join(map(str, self.skipped)),
                "weir-flush": int(self.flush),
            }
        )

    @classmethod
    def from_kafka(cls, headers: RawHeaders) -> Self:
        """Read Kafka headers.

        Raises
        ------
        JournalError
            If a header is missing or no number: the topic holds messages that are not ours.
        """
        read = _Reader(headers)
        clock, clock_end = read.integers("weir-clock", 2)
        offset, low_clock, seq = read.integers("weir-low", 3)
        skipped = read.text("weir-skipped")
        return cls(
            feature_set=read.text("weir-feature-set"),
            rows=read.integer("weir-rows"),
            flows_offset=read.integer("weir-flows-offset"),
            clock_us=clock,
            clock_end_us=clock_end,
            low=Low(offset=offset, clock_us=low_clock, seq=seq),
            marks=read.json("weir-marks"),
            dead=read.integer("weir-dead"),
            repeated=read.integer("weir-repeated"),
            skipped=tuple(map(int, skipped.split(","))) if skipped else (),
            flush=bool(read.integer("weir-flush")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionsHeaders:
    """What a detections message says of itself; its body holds the flagged rows alone."""

    panel: dict[str, Any]  # Panel.card(): name, alpha, fusion, feature set, models
    rows: int  # n_scored
    flagged: int
    input_offset: int  # of the features message that this one answers
    flows_offset: int
    clock_us: int
    clock_end_us: int
    histogram: tuple[int, ...] = ()  # of -log10(p), bins of 1: [0, 1), [1, 2) ... last one open
    dead: int = 0  # rows dead-lettered by the features worker and this one
    flush: bool = False
    begins: bool = False  # no answer but the mark from which a new panel reads
    watch: str = ""  # what the lane has seen up to here, see `pipeline.watch`
    drift: str = ""  # windows that ended in this message and had moved, see `pipeline.drift`

    def to_kafka(self) -> Headers:
        """Return Kafka headers."""
        return _headers(
            {
                "weir-panel": json.dumps(self.panel, separators=(",", ":"), sort_keys=True),
                "weir-rows": self.rows,
                "weir-flagged": self.flagged,
                "weir-input-offset": self.input_offset,
                "weir-flows-offset": self.flows_offset,
                "weir-clock": f"{self.clock_us},{self.clock_end_us}",
                "weir-histogram": ",".join(map(str, self.histogram)),
                "weir-dead": self.dead,
                "weir-flush": int(self.flush),
                "weir-begins": int(self.begins),
                **({"weir-watch": self.watch} if self.watch else {}),
                **({"weir-drift": self.drift} if self.drift else {}),
            }
        )

    @classmethod
    def from_kafka(cls, headers: RawHeaders) -> Self:
        """Read Kafka headers.

        Raises
        ------
        JournalError
            If a header is missing or no number: the topic holds messages that are not ours.
        """
        read = _Reader(headers)
        clock, clock_end = read.integers("weir-clock", 2)
        histogram = read.text("weir-histogram")
        return cls(
            panel=read.json("weir-panel"),
            rows=read.integer("weir-rows"),
            flagged=read.integer("weir-flagged"),
            input_offset=read.integer("weir-input-offset"),
            flows_offset=read.integer("weir-flows-offset"),
            clock_us=clock,
            clock_end_us=clock_end,
            histogram=tuple(map(int, histogram.split(","))) if histogram else (),
            dead=read.integer("weir-dead"),
            flush=bool(read.integer("weir-flush")),
            begins=bool(read.integer("weir-begins")),
            watch=read.text("weir-watch", missing=""),
            drift=read.text("weir-drift", missing=""),
        )


def _headers(values: dict[str, Any]) -> Headers:
    pairs = [(name, str(value).encode()) for name, value in values.items()]
    return [("content-type", CONTENT_TYPE.encode()), *pairs]


class _Reader:
    """Headers by name, each with an error that says which one is wrong."""

    def __init__(self, headers: RawHeaders) -> None:
        self._found = header_dict(headers)

    def text(self, name: str, missing: str | None = None) -> str:
        if name not in self._found:
            if missing is not None:
                return missing
            raise JournalError(f"header {name} is missing: the message was not written by a weir worker")
        return self._found[name].decode(errors="replace")

    def integers(self, name: str, count: int) -> tuple[int, ...]:
        text = self.text(name)
        try:
            numbers = tuple(int(part) for part in text.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != count:
            raise JournalError(f"header {name} is {text[:60]!r}, expected {count} whole numbers")
        return numbers

    def integer(self, name: str) -> int:
        return self.integers(name, 1)[0]

    def json(self, name: str) -> Any:
        text = self.text(name)
        try:
            return json.loads(text)
        except ValueError:
            raise JournalError(f"header {name} is {text[:60]!r}, expected JSON") from None
