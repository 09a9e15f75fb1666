"""`weir replay`: a dataset or synthetic traffic into the stream."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from connectors.base import Source
from pipeline.cli.options import examples, settings_options
from pipeline.cli.signals import stop_event, stop_on_sigterm
from pipeline.feed import Sent, feed
from pipeline.settings import Settings


class Speed(click.ParamType):
    """`max`, or a factor as 1x or 10x."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Return seconds of event time a second, None for max."""
        if value == "max":
            return None
        try:
            factor = float(str(value).removesuffix("x"))
        except ValueError:
            factor = 0.0
        if not 0 < factor < float("inf"):
            self.fail(f"{value!r} is no speed; expected max, or a factor as 1x or 10x", param, ctx)
        return factor


@click.command(
    epilog=examples(
        "weir replay synthetic --seed 7 --days 1",
        "weir replay nsl-kdd --data data/nsl_kdd --part test",
        "weir replay unsw-nb15 --limit 20000 --prefix unsw",
        "weir replay synthetic --speed 10x --again",
    )
)
@click.argument("dataset")
@click.option("--data", type=click.Path(path_type=Path), help="The file, or its folder; default: WEIR_DATA.")
@click.option("--part", help="Which file of the dataset: train, test ...")
@click.option("--sensor", help="Where the flows were observed; default: the dataset's name.")
@click.option(
    "--speed", type=Speed(), default="max", show_default=True, help="max, or 1x, 10x ... of event time."
)
@click.option("--limit", type=click.IntRange(1), help="Only the first N records of the dataset.")
@click.option("--again", is_flag=True, help="Once more, as new flows that go on from the lanes' clock.")
@click.option("--rebase", is_flag=True, help="Shift event times to go on from the lanes' clock.")
@click.option("--seed", type=click.IntRange(0), help="synthetic: which site.")
@click.option("--days", type=click.IntRange(1), help="synthetic: how many days.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), help="synthetic: the first day.")
@click.option("--scale", type=float, help="synthetic: factor on the number of normal flows.")
@click.option(
    "--attacks/--no-attacks", default=None, help="synthetic: with attacks, or normal traffic alone."
)
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON.")
@settings_options
def replay(
    *,
    settings: Settings,
    dataset: str,
    data: Path | None,
    part: str | None,
    sensor: str | None,
    speed: float | None,
    limit: int | None,
    again: bool,
    rebase: bool,
    as_json: bool,
    **generated: Any,
) -> None:
    """Send a dataset into the stream: nsl-kdd, kdd99, unsw-nb15, unsw-conn or synthetic.

    Run again after whatever stopped it, it goes on behind what the lanes hold: nothing is lost, and
    nothing is there twice. What is no record goes to the dead letters.
    """
    from pipeline.errors import SettingsError
    from pipeline.topic_plan import conflicts

    stop_on_sigterm()
    if settings.writer.lane_by != "sensor" and (problems := conflicts(settings)):
        raise SettingsError(problems[0])
    source = _opened(dataset, data, part, sensor, generated)
    with _bar(source, limit) as progress:
        # From here on a stop ends it behind a whole message, with a summary.
        stop = stop_event()
        sent = feed(
            settings,
            source,
            speed=speed,
            limit=limit,
            again=again,
            rebase=rebase,
            stop=stop,
            begun=_notes,
            progress=progress,
        )
    click.echo(_json(sent) if as_json else _text(sent))
    if stop.is_set():
        click.echo("stopped; run the same command again, and it goes on from there", err=True)
        raise KeyboardInterrupt


def _opened(
    dataset: str, data: Path | None, part: str | None, sensor: str | None, generated: dict[str, Any]
) -> Source:
    from connectors.sources import Generated, open_source

    given = {name: value for name, value in generated.items() if value is not None}
    if "start" in given:
        given["start"] = given["start"].date()
    wanted = Generated(**given) if given else None
    return open_source(dataset, data, sensor=sensor, part=part, generated=wanted)


def _notes(source: Source) -> None:
    for note in source.notes:
        click.echo(f"{source.name}: {note}", err=True)


@contextmanager
def _bar(source: Source, limit: int | None) -> Iterator[Callable[[int], None]]:
    """Yield what to call with the position reached; draws on a terminal only, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        ends = [end for end in (limit, source.n_records) if end is not None]
        task = bar.add_task(source.name, total=min(ends, default=None))
        yield lambda position: bar.update(task, completed=position)


def _json(sent: Sent) -> str:
    told = {"source": sent.source, "topic": sent.topic, "run": sent.run, **asdict(sent.summary)}
    return json.dumps({**told, "flows_per_s": round(sent.flows_per_s, 1)})


def _text(sent: Sent) -> str:
    done = sent.summary
    if done.first == done.next and not done.n_sent:
        return (
            f"{sent.source}: all up to position {done.first:,} is in {sent.topic} already; "
            "to send it once more, as new flows: --again"
        )
    run = f", run {sent.run}" if sent.run else ""
    went_on = f", going on at position {done.first:,}" if done.first else ""
    lanes = ", ".join(f"{lane}: {flows:,}" for lane, flows in sorted(done.lanes.items()))
    return (
        f"{sent.source}{run}{went_on}: {done.n_sent:,} flows to {sent.topic} in {done.seconds:.1f} s "
        f"({sent.flows_per_s:,.0f} flows/s), {done.n_rejected:,} rejects to the dead letters\n"
        f"lanes  {lanes or 'none'}"
    )
