"""Rows of a features topic kept as Parquet files: what models learn from where nobody labelled anything."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader, Message
from connectors.wire import decode
from pipeline.capture_files import PARTIAL, CaptureFile, OpenFile, capture_files, writing
from pipeline.errors import CaptureError, FeatureSetError, JournalError
from pipeline.features.arrays import times_us
from pipeline.features.base import FeatureSet
from pipeline.messages import FeaturesHeaders

IDLE_S = 1.0
"""Silence after which clocks are looked at."""

Tell = Callable[[int], bool]
"""Told how many rows the folder holds; returns whether to go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a file is complete and the next one begins, and how much is kept."""

    rows: int = 1_000_000
    size_bytes: int = 256_000_000
    seconds: float = 3600.0  # since its first row came
    total_bytes: int | None = None  # of all complete files: the oldest ones go


class Capture:
    """A folder that takes the messages of one features topic, lane by lane.

    Every flow is kept once: messages that answer a flows message again (of a worker that died) are left
    out, and a capture that goes on reads on behind its last complete file.

    Parameters
    ----------
    folder : Path
        Made if it is not there. One capture at a time: see `locked`.
    topic : str
        The features topic.
    feature_set : FeatureSet
        The only one that is taken.
    limits : Limits
        Size of the files.
    now : callable
        Seconds of a clock that never goes back.

    Raises
    ------
    CaptureError
        From every method, if the folder cannot be written.
    FeatureSetError
        If the folder holds, or a message carries, rows of another feature set.
    """

    def __init__(
        self, folder: Path, topic: str, feature_set: FeatureSet, limits: Limits, *, now: Callable[[], float]
    ) -> None:
        self._folder, self._topic, self._feature_set = folder, topic, feature_set
        self._limits, self._now = limits, now
        self._files = capture_files(folder)
        self._open: dict[int, OpenFile] = {}
        self._last = {file.lane: file for file in self._files if file.topic == topic}
        self._next = {lane: file.next for lane, file in self._last.items()}
        self.n_refused = 0
        """Messages that hold no features."""
        self.lost: list[str] = []
        """One sentence for each range of offsets that the log did not have."""
        for file in self._files:
            self._agree(file.feature_set, str(file.path))
        for left in folder.glob(f"{PARTIAL}*"):
            left.unlink()

    def _agree(self, feature_set: str, where: str) -> None:
        if feature_set != self._feature_set.id:
            raise FeatureSetError(
                f"{where} carries feature set {feature_set}, expected {self._feature_set.id}; capture into "
                "another folder, or use the program version of those features"
            )

    @property
    def n_rows(self) -> int:
        """Rows in the folder, those that are being written included."""
        written = sum(file.rows for file in self._files)
        return written + sum(opened.holds.rows for opened in self._open.values())

    @property
    def files(self) -> tuple[CaptureFile, ...]:
        """The complete files of the folder."""
        return tuple(self._files)

    def starts(self, spans: Mapping[int, tuple[int, int]]) -> dict[int, int]:
        """Return from which offset each lane is to be read.

        Parameters
        ----------
        spans : mapping
            Lane -> offset of the first message of its log, and the one after its last.

        Raises
        ------
        CaptureError
            If a log ends before what was captured of it: the topic was made anew.
        """
        for lane, (begin, end) in spans.items():
            expected = self._next.setdefault(lane, begin)
            if expected > end:
                raise CaptureError(
                    f"{self._folder} holds {self._topic}/{lane} up to offset {expected - 1}, but the "
                    f"log ends at {end}: the topic was made anew; capture into another folder"
                )
        return {lane: max(begin, self._next[lane]) for lane, (begin, _) in spans.items()}

    def take(self, message: Message) -> int:
        """Take the next message of a lane and return how many rows it added."""
        lost = self._gap(message)
        try:
            headers = FeaturesHeaders.from_kafka(message.headers)
            self._agree(headers.feature_set, f"{self._topic}/{message.partition}/{message.offset}")
            rows = self._rows(message, headers)
        except (RecordError, JournalError):
            self.n_refused += 1
            return 0
        if rows.num_rows:
            with writing(self._folder):
                self._add(message, headers, rows, lost)
        return int(rows.num_rows)

    def _gap(self, message: Message) -> int:
        """Move on to a message and return how many offsets before it the log did not have."""
        lane, expected = message.partition, self._next.get(message.partition, message.offset)
        self._next[lane] = message.offset + 1
        if expected >= message.offset:
            return 0
        self.lost.append(
            f"{self._topic}/{lane}: offsets {expected} to {message.offset - 1} have left the log"
        )
        with writing(self._folder):
            self._complete(lane)
        return message.offset - expected

    def _rows(self, message: Message, headers: FeaturesHeaders) -> pa.RecordBatch:
        """Return the rows of a message, none where they are in the folder already."""
        opened, lane = self._open.get(message.partition), message.partition
        before = opened.holds if opened else self._last.get(lane)
        if not headers.rows or (before is not None and headers.flows_offset <= before.flows_offset):
            return pa.RecordBatch.from_pylist([], schema=self._feature_set.schema)
        rows = decode(message.value)
        if not rows.schema.equals(self._feature_set.schema):
            raise RecordError("mistyped_column", f"the columns are not those of {self._feature_set.id}")
        return rows

    def _add(self, message: Message, headers: FeaturesHeaders, rows: pa.RecordBatch, lost: int) -> None:
        lane, times = message.partition, times_us(rows)
        opened = self._open.get(lane) or self._begin(message, int(times[0]), lost)
        before = opened.holds
        opened.add(rows)
        opened.holds = replace(
            before,
            next=message.offset + 1,
            flows_offset=headers.flows_offset,
            rows=before.rows + rows.num_rows,
            first_us=min(before.first_us, int(times.min())),
            last_us=max(before.last_us, int(times.max())),
        )
        if opened.holds.rows >= self._limits.rows or opened.size_bytes >= self._limits.size_bytes:
            self._complete(lane)

    def _begin(self, message: Message, time_us: int, lost: int) -> OpenFile:
        begun = CaptureFile(
            topic=self._topic,
            feature_set=self._feature_set.id,
            lane=message.partition,
            first=message.offset,
            next=message.offset + 1,
            flows_offset=-1,
            rows=0,
            first_us=time_us,
            last_us=time_us,
            lost_before=lost,
        )
        opened = OpenFile(self._folder, self._feature_set, begun, self._now())
        self._open[message.partition] = opened
        return opened

    def tick(self) -> None:
        """Complete the files that have been open for long enough."""
        now = self._now()
        with writing(self._folder):
            for lane, opened in list(self._open.items()):
                if now - opened.since >= self._limits.seconds:
                    self._complete(lane)

    def close(self) -> None:
        """Complete every file."""
        with writing(self._folder):
            for lane in list(self._open):
                self._complete(lane)

    def _complete(self, lane: int) -> None:
        if lane in self._open:
            self._last[lane] = self._open[lane].close()
            self._files.append(self._last[lane])
            del self._open[lane]
            self._forget()

    def _forget(self) -> None:
        """Delete the oldest files beyond what may be kept; the last one of each lane says where to go on."""
        most = self._limits.total_bytes
        sizes = {file.path: file.path.stat().st_size for file in self._files}
        for file in sorted(self._files, key=lambda file: file.last_us):
            if most is None or sum(sizes.values()) <= most:
                return
            if file not in self._last.values():
                file.path.unlink()
                self._files.remove(file)
                del sizes[file.path]


def keep_what_is_there(reader: KafkaReader, topic: str, capture: Capture, tell: Tell) -> None:
    """Capture what the log holds now behind what was captured; stops early where `tell` returns False."""
    spans = reader.offsets(topic)
    for lane, start in capture.starts(spans).items():
        for message in reader.read_range(topic, lane, start, spans[lane][1]):
            capture.take(message)
            if not tell(capture.n_rows):
                return


def keep_following(reader: KafkaReader, topic: str, capture: Capture, tell: Tell) -> None:
    """Capture what the log holds and what comes, for as long as `tell` returns True."""
    while tell(capture.n_rows):
        starts = capture.starts(reader.offsets(topic))
        for message in reader.follow(topic, starts, idle_timeout_s=IDLE_S):
            capture.take(message)
            capture.tick()
            if not tell(capture.n_rows):
                return
        capture.tick()
