"""`weir config`: the settings as they will be used."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from pipeline.cli.options import examples, load_from, raw_options


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
@raw_options
def show(
    *,
    config: Path | None,
    overrides: tuple[str, ...],
    bootstrap_servers: str | None,
    prefix: str | None,
    as_json: bool,
) -> None:
    """Show every setting: its value, where it came from, what it means.

    Sources in rising priority: default, file (--config or WEIR_CONFIG), environment variable
    (WEIR__TOPICS__LANES=8), command line (--set topics.lanes=8). Secrets are masked.
    """
    for item in load_from(config, overrides, bootstrap_servers, prefix).resolved():
        if as_json:
            click.echo(json.dumps(asdict(item)))
        else:
            click.echo(f"{item.path} = {item.value}  ({item.origin})\n    {item.description}")
