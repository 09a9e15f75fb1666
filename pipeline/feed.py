"""A source fed into the flows topic of an installation: opened, resumed, sent once more."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from connectors.base import Source
from connectors.kafka_writer import FlowsWriter, WriterOptions
from connectors.replay import again as once_more
from connectors.run_replay import ReplaySummary, replay
from connectors.topics import Topics
from pipeline.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What a replay brought into the log."""

    source: str
    topic: str
    run: int  # 0 for the first replay, 1 and more for deliberate further ones
    summary: ReplaySummary

    @property
    def flows_per_s(self) -> float:
        """Flows brought into the log in a second, the wait for the last acknowledgement included."""
        return self.summary.n_sent / self.summary.seconds if self.summary.seconds else 0.0


def feed(
    settings: Settings,
    source: Source,
    *,
    speed: float | None = None,
    limit: int | None = None,
    again: bool = False,
    rebase: bool = False,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
    begun: Callable[[Source], None] = lambda _source: None,
    progress: Callable[[int], None] = lambda _position: None,
) -> Sent:
    """Bring a source into the flows topic and return what was sent, all of it durable.

    Parameters
    ----------
    settings : Settings
        Where to, and how records are packed.
    source : Source
        Its records, under their own ids and times.
    speed : float, optional
        Seconds of event time a second; as fast as it goes where left out.
    limit : int, optional
        Only the first so many records, those of earlier runs included.
    again, rebase : bool
        Under new ids, and with times shifted to go on from the lanes' clock.
    stop : Event, optional
        Ends it soon after it is set.
    clock : callable
        Monotonic seconds, for `speed`.
    begun, progress : callable
        Told the source that is sent, just before, and then the position reached.

    Raises
    ------
    ConnectorError
        If the source cannot be read or the broker is gone; run again, and it goes on.
    """
    chosen, writer, run = (
        _next_run(settings, source, limit) if again else (source, flows_writer(settings, source), 0)
    )
    with writer:
        begun(chosen)
        summary = replay(
            chosen,
            writer,
            speed=speed,
            limit=limit,
            rebase=rebase or again,
            stop=stop,
            clock=clock,
            progress=progress,
        )
    return Sent(source=source.name, topic=Topics(settings.topics.prefix).flows, run=run, summary=summary)


def _next_run(settings: Settings, source: Source, limit: int | None) -> tuple[Source, FlowsWriter, int]:
    """Return the first run from 1 on that is not in the log as a whole: an interrupted one is resumed."""
    run = 1
    while True:
        chosen = once_more(source, run)
        writer = flows_writer(settings, chosen)
        if not _complete(chosen, writer.start, limit):
            return chosen, writer, run
        writer.close()
        run += 1


def _complete(source: Source, start: int, limit: int | None) -> bool:
    if limit is not None and start >= limit:
        return True
    return start > 0 and next(iter(source.chunks(start)), None) is None


def flows_writer(settings: Settings, source: Source, *, late_ok: bool = False) -> FlowsWriter:
    """Return a writer for a source, packing and spreading its records as the settings say."""
    chosen = settings.writer
    options = WriterOptions(
        rows=chosen.rows,
        size_bytes=chosen.size_bytes,
        linger_s=chosen.linger_s,
        lane_by=chosen.lane_by,
        sensor_lanes=chosen.sensor_lanes,
        late_ok=late_ok,
    )
    topics = Topics(settings.topics.prefix)
    return FlowsWriter(
        settings.kafka, topics, source_id=source.source_id, record_type=source.record_type, options=options
    )
