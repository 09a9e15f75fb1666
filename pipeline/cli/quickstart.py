"""`weir quickstart`: from a source of flows to explained alerts, by itself."""

import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.capture import DURATION
from pipeline.cli.options import Given, examples, given_options
from pipeline.cli.signals import stop_event

if TYPE_CHECKING:
    from pipeline.quickstart import Wanted
    from pipeline.settings import Loaded

BUDGET = "5/h"


@click.command(
    epilog=examples(
        "weir quickstart /opt/zeek/logs/current/conn.log",
        "weir quickstart udp://0.0.0.0:2055 --flows 50000 --for 6h",
        "weir quickstart kafka://netflow --mapping goflow2 --bootstrap-servers kafka:9092",
    )
)
@click.argument("source")
@click.option("--kind", help="Of a log file: zeek, suricata; default: told by its content.")
@click.option("--sensor", help="Where the flows were observed.")
@click.option("--mapping", metavar="FILE|PRESET", help="Of a topic: which JSON value is which column.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("weir-quickstart"),
    show_default=True, help="Folder of model, captured flows, state and logs.",
)  # fmt: skip
@click.option(
    "--flows", type=click.IntRange(1000), default=10_000, show_default=True,
    help="Train when so many flows have been seen ...",
)  # fmt: skip
@click.option(
    "--for", "seconds", type=DURATION, default="1h", show_default=True,
    help="... or after so long, with 1,000 flows or more.",
)  # fmt: skip
@click.option("--detector", default="beaa", show_default=True, help="Name of the detector.")
@click.option(
    "--contamination", type=click.FloatRange(0, 0.5), default=0.0, show_default=True,
    help="Share of the flows that a first fit finds oddest, left out of the fit.",
)  # fmt: skip
@click.option("--budget", default=BUDGET, show_default=True, help="False alarms that are acceptable.")
@given_options
def quickstart(
    *,
    given: Given,
    source: str,
    kind: str | None,
    sensor: str | None,
    mapping: str | None,
    out: Path,
    flows: int,
    seconds: float,
    detector: str,
    contamination: float,
    budget: str,
) -> None:
    """Read flows, learn what is normal from the first ones, and print explained alerts of the later ones.

    SOURCE is a log file that is followed, udp://HOST:PORT or kafka://TOPIC, as for weir ingest. Runs
    ingest, workers, capture and training as the commands of these names do. Without a broker in the
    settings it starts a local one, in memory: nothing else is needed, and what the log held is gone when
    this ends. Ctrl-C ends everything; the same command goes on: where the model exists, it watches at once.
    """
    from detectors.registry import create
    from pipeline.budget import per_hour
    from pipeline.quickstart import Wanted

    create(detector)  # a mistake is told before an hour of collecting
    try:
        per_hour(budget)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--budget") from error
    if "://" not in source and not Path(source).is_file():
        raise click.BadParameter(
            f"{source}: no such file; expected a log that is written, udp://HOST:PORT or kafka://TOPIC",
            param_hint="SOURCE",
        )
    ingest = {"--kind": kind, "--sensor": sensor, "--mapping": mapping}
    wanted = Wanted(
        source=source,
        ingest=tuple(part for name, value in ingest.items() if value for part in (name, value)),
        folder=out,
        flows=flows,
        seconds=seconds,
        train=("--detector", detector, "--contamination", str(contamination), "--budget", budget),
        options=tuple(given.options()),
    )
    stop = stop_event()
    _run(given, wanted, budget, stop)
    if stop.is_set():
        click.echo(f"stopped; the same command goes on from {out}", err=True)


def _run(given: Given, wanted: "Wanted", budget: str, stop: threading.Event) -> None:
    from pipeline.capture_files import writing
    from pipeline.quickstart import Quickstart, as_options, forgetful_broker, overrides

    loaded = given.load()
    with writing(wanted.folder):
        wanted.capture.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        kafka = prefix = None
        if _is_default(loaded, "kafka.bootstrap_servers"):
            kafka = stack.enter_context(forgetful_broker(wanted))
            # Offsets of an earlier local broker mean nothing to this one: another topic.
            prefix = f"{loaded.settings.topics.prefix}-{int(time.time())}"
        decided = overrides(wanted.folder, wanted.flows, kafka, prefix)
        if _is_default(loaded, "panel.alpha") and _is_default(loaded, "panel.budget"):
            decided["panel.budget"] = budget
        wanted = replace(wanted, options=(*wanted.options, *as_options(decided)))
        settings = replace(given, overrides=(*given.overrides, *as_options(decided)[1::2])).load().settings
        Quickstart(wanted, settings, stop).run()


def _is_default(loaded: "Loaded", path: str) -> bool:
    return any(found.path == path and found.origin == "default" for found in loaded.resolved())
