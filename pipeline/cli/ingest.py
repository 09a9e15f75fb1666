"""`weir ingest`: live flows into the stream, until it is stopped."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from connectors.base import Chunk, Source
from pipeline.cli.options import examples, settings_options
from pipeline.cli.signals import stop_event, stop_on_sigterm
from pipeline.exit_codes import exit_codes
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.ingest import Ingested, IngestMetrics


@click.command(
    epilog=examples(
        "weir ingest /opt/zeek/logs/current/conn.log --rotated '/opt/zeek/logs/20*/conn.*.log.gz'",
        "weir ingest /var/log/suricata/eve.json --sensor border",
        "weir ingest udp://0.0.0.0:2055",
        "weir ingest kafka://netflow --mapping goflow2",
    )
)
@click.argument("address", metavar="SOURCE")
@click.option("--kind", help="Of a log file: zeek, suricata; default: told by its content.")
@click.option(
    "--sensor", help="Where the flows were observed; default: the kind's name, or the exporter's address."
)
@click.option("--rotated", metavar="GLOB", help="Files that a log is rotated to; default: those beside it.")
@click.option("--mapping", metavar="FILE|PRESET", help="Of a topic: which JSON value is which column.")
@click.option(
    "--from", "start", type=click.Choice(["beginning", "end"]), default="beginning", show_default=True,
    help="Of a topic: where the first start begins.",
)  # fmt: skip
@click.option(
    "--port", type=click.IntRange(0, 65_535), help="Answer /metrics, /live and /ready there; 0: a free one."
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
@settings_options
def ingest(
    *,
    settings: Settings,
    address: str,
    kind: str | None,
    sensor: str | None,
    rotated: str | None,
    mapping: str | None,
    start: str,
    port: int | None,
    as_json: bool,
) -> None:
    """Bring live flows into the stream: SOURCE is a log file, udp://HOST:PORT or kafka://TOPIC.

    A log (Zeek, Suricata) is followed across its rotations. After a restart reading goes on where
    the lanes of the flows topic end, so that no flow is lost or there twice; datagrams cannot be read
    again, and what was in hand is lost. While the broker is away it tries again. Runs until SIGTERM
    or Ctrl-C.
    """
    from connectors.live import Live, open_live
    from pipeline.errors import SettingsError
    from pipeline.ingest import Ingested, IngestMetrics, ingest_all
    from pipeline.topic_plan import conflicts

    stop_on_sigterm()
    with exit_codes():
        if settings.writer.lane_by != "sensor" and (problems := conflicts(settings)):
            raise SettingsError(problems[0])
        live = Live(
            address=address,
            kind=kind,
            sensor=sensor,
            mapping=mapping,
            rotated=rotated,
            from_end=start == "end",
        )
        streams = open_live(live, settings.kafka)
        ingested, metrics, notes = Ingested(), IngestMetrics(), _Notes()
        stop = stop_event()
        with _served(settings, port, metrics), _status(ingested) as show:

            def begun(source: Source) -> None:
                notes.tell(source)
                metrics.begin(source)

            def seen(source: Source, chunk: Chunk) -> None:
                ingested.add(source, chunk)
                metrics.observe(chunk)
                show()

            ingest_all(settings, streams, stop=stop, begun=begun, seen=seen)
    click.echo(_json(ingested) if as_json else _text(ingested))


class _Notes:
    """Tells what a reader must know of a source; of a log with many files, once."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, source: Source) -> None:
        """Tell what was not told yet."""
        for note in source.notes:
            if note not in self._told:
                self._told.add(note)
                click.echo(f"{source.name}: {note}", err=True)


@contextmanager
def _served(settings: Settings, port: int | None, metrics: "IngestMetrics") -> Iterator[None]:
    """Answer scrapers until the block ends, if a port is given."""
    from pipeline.health import HealthServer

    if port is None:
        yield
        return
    with HealthServer(settings.worker.host, port, metrics.registry, lambda: None, list) as health:
        click.echo(f"metrics on http://{settings.worker.host}:{health.port}/metrics", err=True)
        yield


@contextmanager
def _status(ingested: "Ingested") -> Iterator[Callable[[], None]]:
    """Yield what to call when something has changed; draws on a terminal only, on standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda: None
        return
    with console.status("waiting for flows") as status:
        yield lambda: status.update(_text(ingested))


def _json(ingested: "Ingested") -> str:
    return json.dumps(
        {"flows": ingested.n_flows, "rejects": dict(ingested.rejects), "latest_us": ingested.latest_us}
    )


def _text(ingested: "Ingested") -> str:
    from pipeline.alert import time_text

    rejects = ", ".join(f"{reason} {n:,}" for reason, n in ingested.rejects.most_common()) or "none"
    until = f", up to {time_text(ingested.latest_us)}" if ingested.latest_us else ""
    return f"{ingested.n_flows:,} flows{until}; rejects: {rejects}"
