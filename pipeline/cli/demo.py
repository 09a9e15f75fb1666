"""`weir demo`: everything at work in two minutes, on this machine alone."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

import click

from pipeline.cli.options import examples


@click.command(epilog=examples("weir demo", "weir demo --seed 7 --scale 2", "weir demo --keep demo/"))
@click.option("--seed", type=click.IntRange(0), default=3, show_default=True, help="Which site, which days.")
@click.option(
    "--scale", type=click.FloatRange(0.05, 20), default=1.0, show_default=True,
    help="Factor on the normal traffic: 1 is about 100,000 flows a day.",
)  # fmt: skip
@click.option(
    "--alpha", type=click.FloatRange(1e-6, 0.1), default=3e-4, show_default=True,
    help="False-alarm rate per flow.",
)  # fmt: skip
@click.option(
    "--alerts", "n_alerts", type=click.IntRange(0), default=40, show_default=True,
    help="Alerts shown as they come; later ones are counted.",
)  # fmt: skip
@click.option(
    "--keep", type=click.Path(path_type=Path, file_okay=False), help="Keep models and logs in this folder."
)
def demo(*, seed: int, scale: float, alpha: float, n_alerts: int, keep: Path | None) -> None:
    """Train on synthetic normal traffic, run the stream, replay a day with attacks, and sum up.

    Starts a local broker in memory and one worker process a stage; nothing leaves this machine, and
    nothing is left running. Exit code 1 if a flow is unaccounted for.
    """
    from pipeline.demo import Demo

    with ExitStack() as stack:
        if keep is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-demo-")))
        else:
            folder = keep
            folder.mkdir(parents=True, exist_ok=True)
        complete = Demo(folder, seed=seed, scale=scale, alpha=alpha, n_alerts=n_alerts).run()
    raise SystemExit(0 if complete else 1)
