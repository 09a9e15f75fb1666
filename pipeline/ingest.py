"""Live sources fed into the flows topic of an installation, for as long as they are told to."""

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import pyarrow.compute as pc
import structlog

from connectors.base import Chunk, Counting, Source
from connectors.errors import BrokerError, RefusedError
from connectors.kafka_reader import KafkaReader
from connectors.live import Stream
from connectors.marks import known_sources
from connectors.run_ingest import ingest
from connectors.topics import Topics
from pipeline.feed import flows_writer
from pipeline.metrics import Metrics
from pipeline.settings import Settings

log = structlog.get_logger()

MOST_PATIENCE_S = 10.0
"""Longest wait between two tries to reach a broker that is away."""


class Ingested:
    """What has been taken over from live sources so far; after the end of a run all of it is in the log."""

    def __init__(self) -> None:
        self.n_flows = 0
        self.rejects: Counter[str] = Counter()  # by reason
        self.latest_us = 0  # greatest event time
        self._reached: dict[str, int] = {}  # source id -> position; what is read again is not counted again
        self._lock = threading.Lock()

    def add(self, source: Source, chunk: Chunk) -> None:
        """Take in a chunk."""
        with self._lock:
            reached = self._reached.get(source.source_id, 0)
            self._reached[source.source_id] = max(reached, chunk.next)
            rows = chunk.rows.filter(pc.greater_equal(chunk.rows.column("position"), reached))
            self.n_flows += rows.num_rows
            self.rejects.update(reject.reason for reject in chunk.rejects if reject.position >= reached)
            if rows.num_rows:
                self.latest_us = max(self.latest_us, pc.max(rows.column("event_time")).value)


class IngestMetrics:
    """What Prometheus is told of live sources."""

    def __init__(self) -> None:
        self._metrics = Metrics()
        self._stage = self._metrics.stage("ingest")
        self.registry = self._metrics.registry

    def begin(self, source: Source) -> None:
        """Tell of a source that is about to be read."""
        if isinstance(source, Counting):
            self._metrics.source_events.watch(source.source_id, source.name, source.counters)

    def observe(self, chunk: Chunk) -> None:
        """Take in a chunk that was taken over."""
        self._stage.consumed.inc(chunk.rows.num_rows + len(chunk.rejects))
        for reject in chunk.rejects:
            self._stage.reject(reject.reason)
            self._stage.dead_letter(reject.reason)


def ingest_all(
    settings: Settings,
    streams: Sequence[Stream],
    *,
    stop: threading.Event,
    begun: Callable[[Source], None] = lambda _source: None,
    seen: Callable[[Source, Chunk], None] = lambda _source, _chunk: None,
) -> None:
    """Bring live sources into the flows topic until `stop` is set, each stream in a thread of its own.

    While the broker is away it tries again; what can be read again is, so that nothing is lost and
    nothing is there twice. At the end everything that was taken over is durable.

    Parameters
    ----------
    settings : Settings
        Where to, and how records are packed.
    streams : sequence of Stream
        See `connectors.live`.
    stop : Event
        Ends it.
    begun, seen : callable
        Told each source before it is read, and each chunk that was taken over; from any thread.

    Raises
    ------
    ConnectorError
        If a source cannot be read, or the broker refuses or was never there.
    """
    topics = Topics(settings.topics.prefix)
    with KafkaReader(settings.kafka) as reader:
        known = known_sources(reader, topics.flows)

    def carry(stream: Stream) -> None:
        try:
            for source in stream(known.__contains__):
                if source is not None:
                    begun(source)
                    _carry(settings, source, stop, seen)
                if stop.is_set():
                    return
        finally:
            stop.set()  # one that ends ends all: a part of the flows is none

    with ThreadPoolExecutor(len(streams), thread_name_prefix="ingest") as pool:
        running = [pool.submit(carry, stream) for stream in streams]
        for future in as_completed(running):
            future.result()


def _carry(
    settings: Settings, source: Source, stop: threading.Event, seen: Callable[[Source, Chunk], None]
) -> None:
    """Write one source to its end, across outages of the broker."""
    patience_s, first = 0.5, True
    while True:
        try:
            with flows_writer(settings, source, late_ok=True) as writer:
                first = False
                ingest(source, writer, stop=stop, progress=lambda chunk: seen(source, chunk))
                return
        except RefusedError:
            raise
        except BrokerError as error:
            if first or stop.is_set():
                raise
            log.warning("broker_lost", source=source.name, error=str(error), again_in_s=patience_s)
            stop.wait(patience_s)
            patience_s = min(2 * patience_s, MOST_PATIENCE_S)
