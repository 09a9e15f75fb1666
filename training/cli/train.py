"""`weir train`: from a dataset to a model bundle."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import budget_options, examples
from training.cli.captured import FromCapture, capture_options, learn_captured
from training.cli.options import KeyValue, Wanted, alpha_option, dataset_options

if TYPE_CHECKING:
    from pipeline.budget import Asked


@click.command(
    epilog=examples(
        "weir train synthetic --detector beaa --out models/",
        "weir train nsl-kdd --data data/nsl_kdd --detector bn --param structure=hc",
        "weir train unsw-nb15 --data UNSW-NB15_1.csv --name unsw --seed 7",
        "weir train synthetic --budget 5/h --flow-rate 300/s",
        "weir train nsl-kdd --detector advae --kde-share 0.01",
        "weir train synthetic --contexts transport",
        "weir train conn --from capture/",
    )
)
@click.option("--detector", default="beaa", show_default=True, help="Name of the detector.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("models"), show_default=True,
    help="Folder of the models.",
)  # fmt: skip
@click.option("--name", help="Name of the model; default: DATASET-DETECTOR.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of split and training.")
@click.option(
    "--param", "parameters", type=KeyValue(), multiple=True,
    help="A parameter of the detector; repeatable.",
)  # fmt: skip
@click.option(
    "--contexts", metavar="FEATURE",
    help="One model for each value of a categorical feature with enough rows, such as transport.",
)  # fmt: skip
@click.option("--max-rows", type=click.IntRange(1), help="Fit on at most N rows, drawn by seed.")
@click.option(
    "--anomaly-share", type=click.FloatRange(0, 0.9, min_open=True), default=0.1, show_default=True,
    help="Known anomalies for each normal row, and among unlabelled ones, for detectors that use them.",
)  # fmt: skip
@budget_options
@click.option(
    "--kde-share", type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="False alarms of a kernel density threshold over the calibration scores, as articles set it: "
    "prints the alpha to set.",
)  # fmt: skip
@click.option(
    "--no-baselines", is_flag=True, help="Leave the baselines out of the model's card; saves their time."
)
@capture_options
@alpha_option
@dataset_options
def train(
    *,
    detector: str,
    out: Path,
    name: str | None,
    seed: int,
    parameters: tuple[tuple[str, Any], ...],
    contexts: str | None,
    max_rows: int | None,
    anomaly_share: float,
    budget: "Asked | None",
    kde_share: float | None,
    no_baselines: bool,
    alphas: tuple[float, ...],
    wanted: Wanted,
    captured: FromCapture,
) -> None:
    """Train a detector on the normal flows of a dataset and write a model bundle.

    Datasets: nsl-kdd, kdd99, unsw-nb15, unsw-conn, synthetic. Normal flows are split into fit, val
    (early stopping), cal (p-values) and test, in order of time where there is time; the held-out
    figures of the test part are printed and kept in the bundle.

    With --from, DATASET is the feature set of a folder that weir capture filled. Nobody labelled its flows:
    what comes in bursts is left out and told, and the figures are those that need no labels.
    """
    from rich.console import Console

    from pipeline.budget import trained_rate
    from training.cli.bars import bars
    from training.cli.tables import show_figures
    from training.metrics import ALPHAS
    from training.train import Plan, train_model

    plan = Plan(
        detector=detector,
        parameters=dict(parameters),
        seed=seed,
        max_rows=max_rows,
        share=anomaly_share,
        contexts=contexts,
    )
    name = name or f"{wanted.name}-{detector}"
    if captured.capture is not None:
        learn_captured(wanted.name, captured, plan, out=out, name=name, alphas=alphas, budget=budget)
        return
    with bars() as progress:
        loaded = wanted.load(progress)
        trained = train_model(
            loaded,
            plan,
            models_dir=out,
            name=name,
            alphas=alphas or ALPHAS,
            baselines=not no_baselines,
            budget=budget,
            progress=progress,
        )
    console = Console()
    show_figures(f"{wanted.name}, test part", trained.figures, console)
    bundle = trained.bundle
    for note in bundle.manifest["calibration"]["notes"]:
        click.echo(f"Calibration: {note}")
    if budget:
        click.echo(f"Budget: {budget.at(trained_rate(bundle.manifest)).spent([bundle], 'min')}")
    if kde_share is not None:
        click.echo(f"KDE threshold: {bundle.calibration.alpha_by_kde(kde_share)[1]}")
    click.echo(f"Model {bundle.name}/{bundle.version} in {bundle.path}, fitted in {trained.fit_s:.1f} s")
