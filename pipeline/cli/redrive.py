"""`weir dead-letters redrive`: what was rejected wrongly comes back into the stream."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from connectors.base import Source
from pipeline.cli.options import examples, settings_options
from pipeline.errors import PipelineError
from pipeline.hexdump import printable
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.redrive.redrive import Outcome, Redrive

STAGES = ("ingest", "features", "detect", "alerts")


class Moment(click.ParamType):
    """A time as `weir dead-letters list` shows it, or a day; UTC where it does not say."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time that a text says."""
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; expected one as 2026-03-09 or 2026-03-09T14:30", param, ctx)
        return found if found.tzinfo else found.replace(tzinfo=UTC)


@click.command(
    epilog=examples(
        "weir dead-letters redrive --stage features --reason too_many_rows",
        "weir dead-letters redrive --stage features --since 2026-03-09 --until 2026-03-10 --go",
        "weir dead-letters redrive --id a9b47b1b2d --go",
        "weir dead-letters redrive --stage ingest --source nsl-kdd --data KDDTest+.txt --go",
    )
)
@click.option("--stage", type=click.Choice(STAGES), help="Letters of this stage.")
@click.option("--reason", help="Letters with this reason.")
@click.option("--id", "ids", multiple=True, help="The letter whose ID begins so; repeatable.")
@click.option("--since", type=Moment(), help="Letters written at or after this time.")
@click.option("--until", type=Moment(), help="Letters written before this time.")
@click.option("--source", "dataset", help="Source of letters of the ingest stage, as weir replay names it.")
@click.option("--data", type=click.Path(path_type=Path), help="Its file or folder.")
@click.option("--part", help="Its part.")
@click.option("--sensor", help="Its sensor, where weir replay was given one.")
@click.option("--go", is_flag=True, help="Do it; without, only say what would be done.")
@settings_options
def redrive(
    *,
    settings: Settings,
    stage: str | None,
    reason: str | None,
    ids: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    dataset: str | None,
    data: Path | None,
    part: str | None,
    sensor: str | None,
    go: bool,
) -> None:
    """Bring dead letters back into the stream, once what rejected them is mended.

    Says what would be done; --go does it. A flow keeps its id, so its alert does, too. What is in
    the stream already is left out, so it may be interrupted and run again.

    Exit code 1 if some of the chosen letters cannot be brought back; each line says why.
    """
    from pipeline.redrive.letters import Selection
    from pipeline.redrive.redrive import Redrive

    if not (stage or reason or ids or since or until):
        raise click.UsageError("choose letters with --stage, --reason, --id, --since or --until")
    if "" in ids:
        raise click.UsageError("--id is empty, expected the beginning of a letter's ID")
    if since and until and since >= until:
        raise click.UsageError(f"--since {since.isoformat()} is not before --until {until.isoformat()}")
    if dataset is None and (data or part or sensor):
        raise click.UsageError("--data, --part and --sensor describe a source: name it with --source")
    selection = Selection(stage=stage, reason=reason, ids=ids, since_ms=_ms(since), until_ms=_ms(until))
    source = _source(dataset, data, part, sensor)
    redriven = Redrive(settings, selection, source)
    click.get_current_context().exit(_tell(redriven, reason, go=go))


def _source(dataset: str | None, data: Path | None, part: str | None, sensor: str | None) -> Source | None:
    if dataset is None:
        return None
    from connectors.sources import open_source

    return open_source(dataset, data, part=part, sensor=sensor)


def _ms(time: datetime | None) -> float | None:
    return None if time is None else time.timestamp() * 1000


def _tell(redriven: "Redrive", reason: str | None, *, go: bool) -> int:
    """Print a line for each letter as it is done, then the sum; return the exit code."""
    counts: Counter[str] = Counter()
    for outcome in redriven.run(go=go):
        counts["letters"] += 1
        counts["back"] += outcome.n_flows > 0
        counts["flows"] += outcome.n_flows
        counts["known"] += not outcome.n_flows and not outcome.why_not
        counts["not"] += bool(outcome.why_not)
        click.echo(printable(_line(outcome, go=go)).replace("\n", " "))
    if not counts["letters"]:
        raise PipelineError(_none(reason, redriven.reasons))
    flows = f"{counts['back']} {'' if go else 'would be '}brought back with {counts['flows']} flows"
    click.echo(
        f"{counts['letters']} dead letters: {flows}, {counts['known']} in the stream already, "
        f"{counts['not']} not possible{'' if go else '; add --go to do it'}",
        err=True,
    )
    return 1 if counts["not"] else 0


def _none(reason: str | None, reasons: set[str]) -> str:
    if reason is not None and reason not in reasons:
        known = ", ".join(sorted(reasons)) or "none: there are no dead letters"
        return printable(f"no dead letter has the reason {reason!r}; there are: {known}")
    return "no dead letter is chosen by these options; see: weir dead-letters list"


def _line(outcome: "Outcome", *, go: bool) -> str:
    letter = outcome.letter
    said = []
    if outcome.n_judged:
        done = f"judged, {outcome.n_alerts} alerts {'sent' if go else 'would be sent'}"
        said.append(f"{outcome.n_judged} flows {done}")
    if outcome.lanes:
        lanes = ", ".join(f"{n} to lane {lane}" for lane, n in sorted(outcome.lanes.items()))
        said.append(f"{'sent' if go else 'would send'} {lanes}")
    if outcome.n_known:
        what = "alerts" if outcome.n_judged else "flows"
        said.append(f"{outcome.n_known} {what} in the stream already")
    if outcome.why_not:
        said.append(f"not possible: {outcome.why_not}")
    return f"{letter.id}  {letter.stage:8} {letter.reason:18} {'; '.join(said) or 'holds no flows'}"
