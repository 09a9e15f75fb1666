"""`weir doctor`: whether everything is there that the workers need."""

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
    from pipeline.cli.findings import show
    from pipeline.doctor import examine

    show(examine(settings), as_json=as_json)
