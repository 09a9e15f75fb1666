"""`weir detectors`: which detectors there are, and what each one is and needs."""

import json

import click

from pipeline.cli.options import examples


@click.group(epilog=examples("weir detectors list", "weir detectors show alad"))
def detectors() -> None:
    """List or show the detectors, built in and installed."""


@detectors.command("list", epilog=examples("weir detectors list", "weir detectors list --json"))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a detector.")
def list_detectors(*, as_json: bool) -> None:
    """List all detectors: live ones judge streams, offline ones only datasets."""
    from rich.console import Console
    from rich.table import Column, Table

    from detectors.about import about
    from detectors.registry import names

    found = [about(name) for name in names()]
    if as_json:
        for each in found:
            click.echo(json.dumps({"name": each.name, "mode": each.mode, "summary": each.summary}))
        return
    table = Table(Column("detector", no_wrap=True), "mode", "uses", "what it does")
    for each in found:
        table.add_row(each.name, each.mode, ", ".join(each.uses), each.summary)
    Console().print(table)


@detectors.command(epilog=examples("weir detectors show alad", "weir detectors show beaa --json"))
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
def show(*, name: str, as_json: bool) -> None:
    """Show a detector: what it scores, its parameters with their defaults, its source."""
    from detectors.about import about

    found = about(name)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    click.echo(f"{found.name} ({found.mode})\n\n{found.text}\n")
    click.echo(f"Takes {', '.join(found.columns)} columns, {found.scaling} scaling.")
    if found.uses:
        click.echo(f"Uses {', '.join(found.uses)} where given.")
    click.echo("\nParameters (weir train --param NAME=VALUE):")
    for key, value in found.defaults.items():
        others = [f"{variant}: {json.dumps(c[key])}" for variant, c in found.variants.items() if key in c]
        click.echo(f"  {key}={json.dumps(value)}{'  (' + ', '.join(others) + ')' if others else ''}")
    for title, text in (("Meaning", found.parameters), ("References", found.references)):
        if text:
            click.echo(f"\n{title}:\n{text}")
