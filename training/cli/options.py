"""Options that the training commands share."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from detectors.base import Progress

if TYPE_CHECKING:
    from connectors.sources import Generated
    from training.datasets import Dataset

Command = Callable[..., Any]

ALPHA = click.FloatRange(0, 1, min_open=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The dataset that a command is to read."""

    name: str
    data: Path | None
    part: str | None
    limit: int | None
    generated: "Generated | None"

    def load(self, progress: Progress) -> "Dataset":
        """Read it."""
        from training.datasets import load_dataset

        return load_dataset(
            self.name,
            self.data,
            part=self.part,
            limit=self.limit,
            generated=self.generated,
            progress=progress,
        )


def dataset_options(command: Command) -> Command:
    """Add the argument DATASET and the options that say where it comes from, as the argument `wanted`."""

    @wraps(command)
    def with_dataset(
        *,
        dataset: str,
        data: Path | None,
        part: str | None,
        limit: int | None,
        site: int | None,
        days: int | None,
        start: datetime | None,
        scale: float | None,
        **others: Any,
    ) -> Any:
        generated = _generated(site, days, start, scale, part)
        wanted = Wanted(name=dataset, data=data, part=part, limit=limit, generated=generated)
        return command(wanted=wanted, **others)

    path = click.Path(path_type=Path, exists=True)
    decorated: Command = with_dataset
    for option in reversed(
        (
            click.argument("dataset"),
            click.option(
                "--data", type=path, help="The file, or the folder of the files; default: WEIR_DATA."
            ),
            click.option("--part", help="One file of the dataset alone: train, test ...; synthetic: days."),
            click.option("--limit", type=click.IntRange(1), help="Only the first N records of each file."),
            click.option("--site", type=click.IntRange(0), help="synthetic: seed of the site."),
            click.option("--days", type=click.IntRange(1), help="synthetic: days of normal traffic."),
            click.option("--start", type=click.DateTime(["%Y-%m-%d"]), help="synthetic: the first day."),
            click.option("--scale", type=float, help="synthetic: factor on the number of normal flows."),
        )
    ):
        decorated = option(decorated)
    return decorated


def _generated(
    site: int | None, days: int | None, start: datetime | None, scale: float | None, part: str | None
) -> "Generated | None":
    """Return what the `synthetic` options ask for, None where none is given."""
    from connectors.sources import Generated
    from training.datasets import default_days

    values = {"seed": site, "days": days, "start": start.date() if start else None, "scale": scale}
    given: dict[str, Any] = {name: value for name, value in values.items() if value is not None}
    return Generated(**{"days": default_days(part), **given}) if given else None


def models_option(command: Command) -> Command:
    """Add `--models`, the folder of all models."""
    return click.option(
        "--models", "models_dir", type=click.Path(path_type=Path, file_okay=False), default=Path("models"),
        show_default=True, help="Folder of the models.",
    )(command)  # fmt: skip


def alpha_option(command: Command) -> Command:
    """Add `--alpha`, repeatable."""
    return click.option(
        "--alpha", "alphas", type=ALPHA, multiple=True,
        help="False-alarm rate at which to count; repeatable. Default: 0.01, 0.001, 0.0001.",
    )(command)  # fmt: skip


class KeyValue(click.ParamType):
    """NAME=VALUE; the value is JSON where it reads as JSON, text otherwise.

    Examples
    --------
    >>> KeyValue().convert("n_members=3", None, None), KeyValue().convert("structure=pc", None, None)
    (('n_members', 3), ('structure', 'pc'))
    """

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Any]:
        """Return name and value."""
        name, equals, text = str(value).partition("=")
        if not name or not equals:
            self.fail(f"{value!r} is no parameter; expected NAME=VALUE, as n_members=3", param, ctx)
        try:
            return name, json.loads(text)
        except ValueError:
            return name, text
