"""`weir evaluate`: a model on labelled flows, by the code of the live stream."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import examples
from training.cli.options import Wanted, alpha_option, dataset_options, models_option

if TYPE_CHECKING:
    from pipeline.bundle import Bundle
    from training.datasets import Dataset
    from training.evaluate import Chosen
    from training.metrics import Figures


@click.command(
    epilog=examples(
        "weir evaluate nsl-kdd-beaa nsl-kdd --data data/nsl_kdd",
        "weir evaluate nsl-kdd-beaa nsl-kdd --part test --scores scores.parquet",
        "weir evaluate synthetic-beaa synthetic --site 7 --days 1 --part days",
        "weir evaluate unsw-nb15-beaa/2 unsw-nb15 --baselines --json",
    )
)
@click.argument("model")
@dataset_options
@models_option
@click.option("--all", "everything", is_flag=True, help="All rows, also those of the training.")
@click.option("--scores", type=click.Path(path_type=Path), help="Write flow_id, label, score, p_value here.")
@click.option("--baselines", is_flag=True, help="Also fit robust_z and kNN on the model's training rows.")
@click.option("--json", "as_json", is_flag=True, help="The figures as JSON.")
@alpha_option
def evaluate(
    *,
    model: str,
    models_dir: Path,
    everything: bool,
    scores: Path | None,
    baselines: bool,
    as_json: bool,
    alphas: tuple[float, ...],
    wanted: Wanted,
) -> None:
    """Judge MODEL (NAME or NAME/VERSION) on a labelled DATASET.

    On the data of its own training the model is judged by the test part of that split; on any
    other data by all rows. Scores and p-values are those that the live stream gives.
    """
    from pipeline.bundle import load_bundle
    from training import comparison
    from training import evaluate as evaluation
    from training.cli.bars import bars
    from training.metrics import ALPHAS

    bundle = load_bundle(model, models_dir)
    with bars() as progress:
        loaded = wanted.load(progress)
        chosen = evaluation.rows_to_judge(bundle, loaded, everything=everything)
        found = evaluation.evaluate(bundle, loaded, chosen.rows, alphas=alphas or ALPHAS)
        beside = comparison.baselines(bundle, loaded, chosen.rows) if baselines else {}
    if scores is not None:
        evaluation.write_scores(found, scores)
    _show(bundle, loaded, chosen, {bundle.name: found.figures, **beside}, as_json=as_json)


def _show(
    bundle: "Bundle", dataset: "Dataset", chosen: "Chosen", rows: dict[str, "Figures"], *, as_json: bool
) -> None:
    """Print the figures of the model, which come first, and of what stands beside it."""
    figures = rows[bundle.name]
    if as_json:
        said = {"model": f"{bundle.name}/{bundle.version}", "sha256": bundle.sha256, "rows": chosen.why}
        beside = {name: found.to_json() for name, found in rows.items() if name != bundle.name}
        content = {**said, "dataset": dataset.name, "figures": figures.to_json(), "baselines": beside}
        click.echo(json.dumps(content, indent=1))
        return
    from rich.console import Console

    from training.cli.tables import compared, show_figures

    console = Console()
    show_figures(f"{bundle.name}/{bundle.version} on {dataset.name}", figures, console)
    if len(rows) > 1:
        console.print(compared(rows))
    click.echo(f"Judged: {chosen.why}.")
