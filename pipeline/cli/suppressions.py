"""`weir suppressions`: which flagged flows make no alert, and how to add more."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import examples, settings_options
from pipeline.settings import Settings

if TYPE_CHECKING:
    from pipeline.suppressions import Suppression


@click.group(
    epilog=examples(
        "weir suppressions list -c weir.yaml",
        "weir suppressions add -c weir.yaml --entity 10.0.0.5 --reason 'scanner of the security team' "
        "--until 2026-12-31T00:00:00Z",
    )
)
def suppressions() -> None:
    """List or add what keeps flagged flows from being alerts."""


@suppressions.command("list", epilog=examples("weir suppressions list -c weir.yaml"))
@settings_options
def list_suppressions(*, settings: Settings) -> None:
    """List the suppressions of the file that alerts.suppressions names, in their order: the first counts."""
    from pipeline.suppressions import load_suppressions

    entries = load_suppressions(_path(settings)).entries
    if not entries:
        click.echo(f"{_path(settings)} suppresses nothing")
        return
    _print_table(entries)


def _print_table(entries: "tuple[Suppression, ...]") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    table = Table(Column("id", no_wrap=True), "reason", "flows", "from", "until")
    for entry in entries:
        given = {name: str(value) for name, value in entry.to_yaml().items()}
        reason, begins, until = (given.pop(name, "") for name in ("reason", "from", "until"))
        flows = ", ".join(f"{name} {value}" for name, value in given.items())
        table.add_row(entry.id, escape(reason), escape(flows), begins, until)
    Console().print(table)


@suppressions.command(
    epilog=examples(
        "weir suppressions add -c weir.yaml --destination 10.2.0.0/16 --port 9100 --reason monitoring",
        "weir suppressions add -c weir.yaml --leading noise_direction:n3 --sensor dc --reason 'new backup' "
        "--until 2026-12-01T00:00:00Z",
    )
)
@click.option("--reason", required=True, help="Why; it stands in the metric and in every report.")
@click.option("--entity", metavar="ADDRESS", help="Whom the anomaly concerns: an address or a network.")
@click.option("--source", metavar="ADDRESS", help="An address or a network.")
@click.option("--destination", metavar="ADDRESS", help="An address or a network.")
@click.option("--sensor", help="Where the flow was observed.")
@click.option("--leading", metavar="TERM", help="weir.leading of an alert, such as noise_direction:n3.")
@click.option("--feature", help="Feature that a leading residual, node or feature is named after.")
@click.option("--port", type=int, help="Port of the destination.")
@click.option("--protocol", help="Transport protocol, lower case.")
@click.option("--from", metavar="TIME", help="First time on the lane clock, as 2026-03-01T00:00:00Z.")
@click.option("--until", metavar="TIME", help="Time on the lane clock at which it ends.")
@settings_options
def add(*, settings: Settings, **conditions: Any) -> None:
    """Append a suppression to the file that alerts.suppressions names.

    All conditions that are given must hold. Detect workers read the file at their start.
    """
    from pipeline.suppressions import append_suppression

    path = _path(settings)
    given = {name: value for name, value in conditions.items() if value is not None}
    entry = append_suppression(path, given)
    click.echo(f"{path}: added {entry.id}; restart the detect workers to have it read")


def _path(settings: Settings) -> Path:
    path = settings.alerts.suppressions
    if path is None:
        raise click.UsageError(
            "alerts.suppressions is not set; name a YAML file there, "
            "or give --set alerts.suppressions=known.yaml"
        )
    return path
