"""`weir config`: the settings as they will be used."""

import json
from dataclasses import asdict

import click

from pipeline.cli.options import Given, examples, given_options


@click.group(epilog=examples("weir config show --config weir.yaml"))
def config() -> None:
    """Show the settings and where each came from."""


@config.command(
    epilog=examples(
        "weir config show",
        "weir config show --config weir.yaml --set topics.lanes=8",
        "weir config show --json",
    )
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a setting.")
@given_options
def show(*, given: Given, as_json: bool) -> None:
    """Show every setting: its value, where it came from, what it means.

    Sources in rising priority: default, file (--config or WEIR_CONFIG), environment variable
    (WEIR__TOPICS__LANES=8), command line (--set topics.lanes=8). Secrets are masked.
    """
    for item in given.load().resolved():
        if as_json:
            click.echo(json.dumps(asdict(item)))
        else:
            click.echo(f"{item.path} = {item.value}  ({item.origin})\n    {item.description}")
