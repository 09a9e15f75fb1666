"""`weir panels`: whether models can judge together."""

import click

from pipeline.cli.options import examples, settings_options
from pipeline.settings import Settings


@click.group(epilog=examples("weir panels lint --panel panel.yaml"))
def panels() -> None:
    """Check the panels that workers are started with."""


@panels.command(
    epilog=examples(
        "weir panels lint --panel panel.yaml",
        "weir panels lint --set panel.models=beaa,alad --set panel.fusion=mean --json",
    )
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a check.")
@settings_options
def lint(*, settings: Settings, as_json: bool) -> None:
    """Check the models of a panel, and explain every mismatch among them.

    Looks at models and settings alone: no broker. Exit code 1 if the panel cannot judge.
    """
    from pipeline.cli.findings import show
    from pipeline.findings import panel_findings

    show(panel_findings(settings), as_json=as_json)
