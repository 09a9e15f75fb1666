"""`weir figures`: compare the detectors on the public datasets and write the table."""

import os
from pathlib import Path

import click

from pipeline.cli.options import examples


def cache_file() -> Path:
    """Return where finished runs are kept: the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "weir" / "figures.jsonl"


@click.command(
    epilog=examples(
        "weir figures --data DATA --out docs",
        "weir figures --data DATA --seeds 2 --out /tmp/quick --plot",
    )
)
@click.option("--seeds", type=click.IntRange(min=1), default=10, show_default=True, help="Seeds of each run.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("docs"), show_default=True,
    help="Folder of figures.md.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of the datasets; default: the environment variable WEIR_DATA.",
)  # fmt: skip
@click.option("--plot", is_flag=True, help="Also write figures.png, shown on the page.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where finished runs are kept.")
def figures(*, seeds: int, out: Path, data: Path | None, plot: bool, cache: Path | None) -> None:
    """Compare all detectors on NSL-KDD, UNSW-NB15 and five outlier sets, and write docs/figures.md.

    Finished runs are kept, so an interrupted comparison goes on where it stopped; a run is made
    again when data, parameters or code have changed.
    """
    from training import comparison, report
    from training.cli.bars import bars
    from training.datasets import load_dataset
    from training.odds import load_outlier_set

    kept = cache or cache_file()
    with bars() as progress:
        datasets = [load_dataset(name, data, progress=progress) for name in comparison.DATASETS]
        outliers = [load_outlier_set(name, data) for name in comparison.OUTLIER_SETS]
        targets: list[comparison.Target] = [
            *map(comparison.Flows, datasets),
            *map(comparison.Outliers, outliers),
        ]
        runs = comparison.compare(targets, seeds=seeds, cache=comparison.Cache(kept), progress=progress)
    out.mkdir(parents=True, exist_ok=True)
    picture = "figures.png" if plot else ""
    page = report.markdown(runs, datasets, outliers, seeds=seeds, plotted=picture)
    (out / "figures.md").write_text(page, encoding="utf-8")
    if plot:
        report.picture(runs, out / picture)
    click.echo(f"{len(runs)} runs in {out / 'figures.md'}; kept in {kept}")
