"""`weir lint`: every mistake of a settings file at once."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import examples

if TYPE_CHECKING:
    from pipeline.settings import Settings


@click.command(epilog=examples("weir lint weir.yaml"))
@click.argument("config", type=click.Path(path_type=Path))
def lint(*, config: Path) -> None:
    """Check a settings file and show every mistake, each with its dotted path.

    Looks at the file and the suppressions that it names: no environment, no broker, no models (weir doctor
    does). Exit code 1 if there is a mistake.
    """
    from pipeline import settings

    problems = settings.lint(config) or _across(settings.load_settings(config, env={}))
    for problem in problems:
        click.echo(problem)
    if problems:
        click.echo(f"{config}: {len(problems)} mistake{'s' * (len(problems) > 1)}", err=True)
        raise click.exceptions.Exit(1)
    click.echo(f"{config}: good")


def _across(found: "Settings") -> list[str]:
    """Return mistakes that no single setting shows."""
    from pipeline.suppressions import lint_suppressions
    from pipeline.topic_plan import conflicts

    path = found.alerts.suppressions
    return [*conflicts(found), *(lint_suppressions(path) if path else ())]
