"""`weir doctor`: whether everything is there that the workers need."""

import json
from dataclasses import asdict

import click

from pipeline.cli.options import examples, settings_options
from pipeline.settings import Settings


@click.command(epilog=examples("weir doctor --config weir.yaml", "weir doctor --set panel.models=nsl --json"))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a check.")
@settings_options
def doctor(*, settings: Settings, as_json: bool) -> None:
    """Check settings, broker, topics, models, folders and ports, and say what to do.

    Exit code 1 if anything is bad. Changes nothing, but for making the state folder.
    """
    from pipeline.doctor import examine

    n_bad = 0
    for finding in examine(settings):
        n_bad += not finding.good
        if as_json:
            click.echo(json.dumps(asdict(finding)))
            continue
        click.echo(f"{'good' if finding.good else 'BAD '}  {finding.check:10} {finding.found}")
        if finding.advice:
            click.echo(f"{'':17}-> {finding.advice}")
    if n_bad:
        click.echo(f"{n_bad} to be mended", err=True)
        raise click.exceptions.Exit(1)
