"""`weir models`: which model bundles there are, and what each one is."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import Command, examples

if TYPE_CHECKING:
    from pipeline.bundle import Listed


def _folder(command: Command) -> Command:
    return click.option(
        "--models", "models_dir", type=click.Path(path_type=Path, file_okay=False), default=Path("models"),
        show_default=True, help="Folder of the models.",
    )(command)  # fmt: skip


@click.group(epilog=examples("weir models list", "weir models show nsl-kdd-beaa"))
def models() -> None:
    """List or show model bundles."""


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
    known = {"name": listed.name, "version": listed.version, "path": str(listed.path)}
    if listed.problem:
        return {**known, "problem": listed.problem}
    manifest = listed.manifest
    return {
        **known,
        "sha256": listed.sha256,
        "detector": manifest.get("detector", {}).get("name"),
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
