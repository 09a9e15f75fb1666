"""`weir replay`: files of flows, datasets or synthetic traffic into the stream."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from connectors.base import Source
from pipeline.cli.bars import position_bar
from pipeline.cli.options import examples, settings_options
from pipeline.cli.signals import PausingClock, stop_event, stop_on_sigterm
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
        "weir replay conn.log --sensor border",
        "weir replay monday.pcap tuesday.pcap --rebase --speed 10x",
        "weir replay synthetic --seed 7 --days 1",
        "weir replay nsl-kdd --data data/nsl_kdd --part test",
        "weir replay unsw-nb15 --limit 20000 --prefix unsw",
        "weir replay synthetic --speed 10x --loop",
    )
)
@click.argument("names", metavar="FILE...|DATASET", nargs=-1, required=True)
@click.option("--kind", help="What the files are; default: told by their content.")
@click.option("--mapping", metavar="FILE|PRESET", help="Of JSON lines: which value is which column.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Of a dataset: the file, or its folder; default: WEIR_DATA.",
)
@click.option("--part", help="Of a dataset: which file: train, test ...")
@click.option("--sensor", help="Where the flows were observed; default: the name of the kind or dataset.")
@click.option(
    "--speed", type=Speed(), default="max", show_default=True, help="max, or 1x, 10x ... of event time."
)
@click.option("--limit", type=click.IntRange(1), help="Only the first N records.")
@click.option("--again", is_flag=True, help="Once more, as new flows that go on from the lanes' clock.")
@click.option("--rebase", is_flag=True, help="Shift event times to go on from the lanes' clock.")
@click.option(
    "--loop", is_flag=True, help="Again and again, as with --again, until stopped: for endurance tests."
)
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
    names: tuple[str, ...],
    kind: str | None,
    mapping: str | None,
    data: Path | None,
    part: str | None,
    sensor: str | None,
    speed: float | None,
    limit: int | None,
    again: bool,
    rebase: bool,
    loop: bool,
    as_json: bool,
    **generated: Any,
) -> None:
    """Send files of flows, or a dataset (nsl-kdd, kdd99, unsw-nb15, unsw-conn, synthetic), into the stream.

    The kind of a file is told by its content; weir inspect shows what is in it. Run again after
    whatever stopped it, it goes on behind what the lanes hold: nothing is lost, and nothing is there
    twice. What is no record goes to the dead letters. Ctrl-Z pauses a paced replay, and its clock.
    """
    from pipeline.errors import SettingsError
    from pipeline.topic_plan import conflicts

    stop_on_sigterm()
    if settings.writer.lane_by != "sensor" and (problems := conflicts(settings)):
        raise SettingsError(problems[0])
    opened = Opened(
        names=names, kind=kind, mapping=mapping, data=data, part=part, sensor=sensor, generated=generated
    )
    clock = PausingClock()
    # From here on a stop ends it behind a whole message, with a summary.
    stop = stop_event()
    for source, once_more in opened.sources(loop=loop):
        with position_bar(source, limit) as progress:
            sent = feed(
                settings,
                source,
                speed=speed,
                limit=limit,
                again=again or once_more,
                rebase=rebase,
                stop=stop,
                clock=clock,
                begun=_notes,
                progress=progress,
            )
        click.echo(_json(sent) if as_json else _text(sent))
        if stop.is_set():
            click.echo("stopped; run the same command again, and it goes on from there", err=True)
            raise KeyboardInterrupt


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What the command line asks for."""

    names: tuple[str, ...]
    kind: str | None
    mapping: str | None
    data: Path | None
    part: str | None
    sensor: str | None
    generated: Mapping[str, Any]

    def sources(self, *, loop: bool) -> Iterator[tuple[Source, bool]]:
        """Yield each source, and whether it was sent before by this command."""
        from connectors.sources import SOURCES

        is_dataset = len(self.names) == 1 and self.names[0] in SOURCES
        opened = [self._dataset()] if is_dataset else self._files()
        yield from ((source, False) for source in opened)
        while loop:
            yield from ((source, True) for source in opened)

    def _dataset(self) -> Source:
        from connectors.sources import Generated, open_source

        if self.kind is not None or self.mapping is not None:
            raise click.UsageError("--kind and --mapping are for files; a dataset is known by its name")
        given = {name: value for name, value in self.generated.items() if value is not None}
        if "start" in given:
            given["start"] = given["start"].date()
        wanted = Generated(**given) if given else None
        return open_source(self.names[0], self.data, sensor=self.sensor, part=self.part, generated=wanted)

    def _files(self) -> list[Source]:
        from connectors.errors import SourceError
        from connectors.kinds import open_files
        from connectors.sources import SOURCES

        if any(value is not None for value in (self.data, self.part, *self.generated.values())):
            raise click.UsageError("--data, --part, --seed and their like are for datasets, not for files")
        paths = [Path(name) for name in self.names]
        if missing := [path for path in paths if not path.exists()]:
            raise SourceError(
                f"{missing[0]}: no such file, and no dataset; expected a path, or one of {', '.join(SOURCES)}"
            )
        return open_files(paths, kind=self.kind, sensor=self.sensor, mapping=self.mapping)


def _notes(source: Source) -> None:
    for note in source.notes:
        click.echo(f"{source.name}: {note}", err=True)


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
