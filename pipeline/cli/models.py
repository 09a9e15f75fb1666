"""`weir models`: which model bundles there are, and what each one is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Command, budget_options, examples

if TYPE_CHECKING:
    from pipeline.budget import Asked
    from pipeline.bundle import Listed


def _folder(command: Command) -> Command:
    return click.option(
        "--models", "models_dir", type=click.Path(path_type=Path, file_okay=False), default=Path("models"),
        show_default=True, help="Folder of the models.",
    )(command)  # fmt: skip


@click.group(epilog=examples("weir models list", "weir models show nsl-kdd-beaa"))
def models() -> None:
    """List, show or budget model bundles."""


@models.command("list", epilog=examples("weir models list --models models/ --json"))
@_folder
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def list_models(*, models_dir: Path, as_json: bool) -> None:
    """List the models in a folder, every version.

    A model whose manifest cannot be read is listed with what is wrong.
    """
    from pipeline.bundle import list_bundles

    found = list_bundles(models_dir)
    if as_json:
        click.echo(json.dumps([_described(listed) for listed in found], indent=1))
    elif not found:
        click.echo(f"no models in {models_dir}; train one with: weir train synthetic --out {models_dir}")
    else:
        _print_table(found)


def _described(listed: "Listed") -> dict[str, Any]:
    from pipeline.bundle import detector_words

    known = {"name": listed.name, "version": listed.version, "path": str(listed.path)}
    if listed.problem:
        return {**known, "problem": listed.problem}
    manifest = listed.manifest
    return {
        **known,
        "sha256": listed.sha256,
        "detector": detector_words(manifest),
        "feature_set": manifest.get("feature_set"),
        "dataset": manifest.get("data", {}).get("dataset"),
        "roc_auc": manifest.get("figures", {}).get("roc_auc"),
        "average_precision": manifest.get("figures", {}).get("average_precision"),
    }


def _print_table(found: "list[Listed]") -> None:
    from rich.console import Console
    from rich.table import Column, Table

    table = Table(
        Column("model", no_wrap=True), "detector", "trained on", "ROC-AUC", "average precision", "sha256"
    )
    for listed in found:
        row = _described(listed)
        name = f"{listed.name}/{listed.version}"
        if listed.problem:
            table.add_row(name, f"[red]unreadable[/red]: {listed.problem}")
            continue
        figures = (_figure(row["roc_auc"]), _figure(row["average_precision"]))
        table.add_row(name, row["detector"], row["dataset"], *figures, listed.sha256[:12])
    Console().print(table)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


@models.command(
    "show", epilog=examples("weir models show nsl-kdd-beaa", "weir models show nsl-kdd-beaa/1 --json")
)
@click.argument("model")
@_folder
@click.option("--json", "as_json", is_flag=True, help="The manifest as it stands.")
def show(*, model: str, models_dir: Path, as_json: bool) -> None:
    """Check every byte of MODEL (NAME or NAME/VERSION) and show its card.

    Fails if a file is missing or has changed, or if this program cannot run the model.
    """
    from pipeline.bundle import CARD, load_bundle

    bundle = load_bundle(model, models_dir)
    if as_json:
        click.echo(json.dumps(dict(bundle.manifest), indent=1))
        return
    files = bundle.manifest["files"]
    click.echo((bundle.path / CARD).read_text(encoding="utf-8"))
    click.echo(f"{bundle.name}/{bundle.version} in {bundle.path}")
    click.echo(
        f"{len(files)} files and the manifest have the SHA-256 that they should; model {bundle.sha256}"
    )


@models.command(
    "budget",
    epilog=examples(
        "weir models budget office --budget 5/h --flow-rate 300/s",
        "weir models budget office/2 --budget 2/d --write",
    ),
)
@click.argument("model")
@_folder
@budget_options
@click.option("--write", is_flag=True, help="Keep it in the manifest, as the next version of the model.")
def budget(*, model: str, models_dir: Path, budget: "Asked | None", write: bool) -> None:
    """Turn a budget of false alarms into the alpha of MODEL, and say what carries it.

    A panel resolves panel.budget by itself; this is to know beforehand, or to keep it with the model.
    """
    from pipeline.budget import trained_rate
    from pipeline.bundle import load_bundle, with_budget

    if budget is None:
        raise click.UsageError("give --budget, as 5/h or 2/d")
    bundle = load_bundle(model, models_dir)
    spent = budget.at(trained_rate(bundle.manifest))
    click.echo(f"Budget: {spent.spent([bundle], 'min')}")
    if write:
        written = with_budget(bundle, models_dir, spent.to_json(bundle.calibration))
        click.echo(f"Model {written.name}/{written.version} in {written.path}")
