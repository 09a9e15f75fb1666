"""`weir dead-letters`: what could not be read or judged, why, and how it comes back."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import click

from connectors.dead_letters import DeadLetter
from connectors.errors import RecordError
from connectors.kafka_reader import KafkaReader
from connectors.topics import Topics
from pipeline.cli.options import examples, settings_options
from pipeline.cli.redrive import STAGES, redrive
from pipeline.errors import PipelineError
from pipeline.hexdump import printable, readable
from pipeline.settings import Settings


@click.group(
    "dead-letters",
    epilog=examples(
        "weir dead-letters list --stage ingest",
        "weir dead-letters show a9b47b1b2d",
        "weir dead-letters redrive --stage features --reason too_many_rows",
    ),
)
def dead_letters() -> None:
    """List or show what could not be read or judged, or bring it back."""


dead_letters.add_command(redrive)


@dead_letters.command(
    "list",
    epilog=examples(
        "weir dead-letters list",
        "weir dead-letters list --stage features --reason not_arrow --limit 5",
        "weir dead-letters list --limit 0 --json",
    ),
)
@click.option("--stage", type=click.Choice(STAGES), help="Of this stage only.")
@click.option("--reason", help="With this reason only.")
@click.option(
    "--limit", type=click.IntRange(0), default=50, show_default=True, help="The newest N; 0 shows all."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, without the value.")
@settings_options
def list_(*, settings: Settings, stage: str | None, reason: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, oldest first, each once however often it was repeated."""
    found = {
        letter.id: (time_ms, letter)
        for time_ms, letter in _letters(settings)
        if stage in (None, letter.stage) and reason in (None, letter.reason)
    }
    shown = list(found.values())[-limit:] if limit else list(found.values())
    for time_ms, letter in shown:
        click.echo(_as_json(time_ms, letter) if as_json else _one_line(_line(time_ms, letter)))
    rows = sum(letter.rows for _, letter in found.values())
    click.echo(f"{len(shown)} of {len(found)} dead letters shown; {rows} records in all", err=True)


@dead_letters.command(epilog=examples("weir dead-letters show a9b47b1b2d1d5b1cf5c4"))
@click.argument("letter_id", metavar="ID")
@settings_options
def show(*, settings: Settings, letter_id: str) -> None:
    """Show one dead letter: reason, origin, and what it holds. The beginning of its ID is enough."""
    letters = _letters(settings)
    found = {letter.id: (time_ms, letter) for time_ms, letter in letters if letter.id.startswith(letter_id)}
    if len(found) != 1:
        which = f"{len(found)} begin with" if found else "none has"
        raise PipelineError(f"{which} the ID {letter_id!r}; see: weir dead-letters list")
    time_ms, letter = next(iter(found.values()))
    for name, value in asdict(letter).items():
        if name != "value" and value not in (None, ""):
            click.echo(_one_line(f"{name:10} {value}"))
    click.echo(f"{'written':10} {_time(time_ms)}")
    click.echo(f"{'value':10} {len(letter.value)} bytes\n{readable(letter.value)}")


def _letters(settings: Settings) -> Iterator[tuple[int, DeadLetter]]:
    """Yield when each dead letter was written, and the letter, oldest first within a partition."""
    topic = Topics(settings.topics.prefix).dead_letters
    with KafkaReader(settings.kafka) as reader:
        for partition, (begin, end) in reader.offsets(topic).items():
            for message in reader.read_range(topic, partition, begin, end):
                try:
                    yield message.timestamp_ms, DeadLetter.from_kafka(message.headers, message.value)
                except RecordError as error:
                    click.echo(f"{topic}/{partition}/{message.offset}: {error}", err=True)


def _one_line(text: str) -> str:
    """Return text that stays on its line: whoever may write to the topic chooses its headers."""
    return printable(text).replace("\n", " ")


def _line(time_ms: int, letter: DeadLetter) -> str:
    kind = f"{letter.stage:8} {letter.reason:18}"
    return f"{letter.id}  {_time(time_ms)}  {kind} {_origin(letter)}  {letter.detail}"


def _origin(letter: DeadLetter) -> str:
    if letter.topic:
        row = "" if letter.row is None else f" row {letter.row}"
        return f"{letter.topic}/{letter.partition}/{letter.offset}{row}"
    return f"source {letter.source} position {letter.position}"


def _as_json(time_ms: int, letter: DeadLetter) -> str:
    fields = {
        name: value for name, value in asdict(letter).items() if name != "value" and value not in (None, "")
    }
    return json.dumps({**fields, "written": _time(time_ms), "size_bytes": len(letter.value)})


def _time(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
