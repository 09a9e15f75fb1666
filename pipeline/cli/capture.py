"""`weir capture`: the features topic kept as files, for training."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pipeline.capture import Capture, Limits, keep_following, keep_what_is_there
from pipeline.cli.options import examples, settings_options
from pipeline.cli.signals import stop_event
from pipeline.settings import Settings


class Amount(click.ParamType):
    """A number with a unit, in the least of them.

    Examples
    --------
    >>> Amount("duration", {"s": 1, "m": 60, "h": 3600}).convert("1.5h", None, None)
    5400.0
    """

    def __init__(self, name: str, units: dict[str, int]) -> None:
        self.name = name
        self._units = units

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the amount in the unit that counts 1."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", str(value).strip())
        if found is None or found[2] not in self._units or not float(found[1]):
            units = ", ".join(self._units)
            self.fail(
                f"{value!r} is no {self.name}; expected a number above 0 and one of {units}", param, ctx
            )
        return float(found[1]) * self._units[found[2]]


DURATION = Amount("duration", {"s": 1, "m": 60, "h": 3600, "d": 86_400})
SIZE = Amount("size", {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12})


@click.command(
    epilog=examples(
        "weir capture",
        "weir capture --out capture/ --for 2h",
        "weir capture --rows 100000",
        "weir capture --follow --max-size 20GB",
    )
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), default=Path("capture"), show_default=True,
    help="Folder of the files.",
)  # fmt: skip
@click.option("--for", "seconds", type=DURATION, help="Follow the stream for so long: 90s, 30m, 2h, 1d.")
@click.option("--rows", type=click.IntRange(1), help="Follow until the folder holds N rows.")
@click.option("--follow", is_flag=True, help="Follow until told to stop.")
@click.option("--max-size", type=SIZE, help="Keep the newest files up to this size in all: 500MB, 20GB.")
@click.option(
    "--file-rows", type=click.IntRange(1), default=1_000_000, show_default=True, help="Rows of one file."
)
@click.option("--file-size", type=SIZE, default="256MB", show_default=True, help="Size of one file.")
@click.option(
    "--file-time", type=DURATION, default="1h", show_default=True, help="Longest time until it is complete."
)
@settings_options
def capture(
    *,
    settings: Settings,
    out: Path,
    seconds: float | None,
    rows: int | None,
    follow: bool,
    max_size: float | None,
    file_rows: int,
    file_size: float,
    file_time: float,
) -> None:
    """Keep the features of the stream as Parquet files, to train on them without labels (weir train --from).

    Without --for, --rows or --follow it keeps what the log holds now, and ends. Run again, it goes on
    behind the last file: nothing is there twice, and what the log has lost meanwhile is told.
    Ctrl-C and SIGTERM end it with complete files. One file a lane is written at a time.
    """
    from pipeline.capture_files import locked
    from pipeline.exit_codes import exit_codes
    from pipeline.features.feature_sets import feature_set

    if rows is not None and max_size is not None:
        raise click.UsageError("--rows counts what --max-size deletes; give one of them")
    total = None if max_size is None else round(max_size)
    limits = Limits(rows=file_rows, size_bytes=round(file_size), seconds=file_time, total_bytes=total)
    with exit_codes(), locked(out):
        topic = _topic(settings)
        kept = Capture(out, topic, feature_set(settings.features.feature_set), limits, now=time.monotonic)
        before = kept.n_rows
        keep = keep_following if follow or seconds or rows else keep_what_is_there
        with _bar(rows) as shown:
            _run(settings, topic, kept, keep, _until(rows, seconds, shown))
        click.echo(_summary(out, kept, before))


def _topic(settings: Settings) -> str:
    from connectors.topics import Topics
    from pipeline.errors import SettingsError

    if settings.features.inline:
        raise SettingsError(
            "features.inline is on, so there is no features topic to keep; set it to false while you capture"
        )
    return Topics(settings.topics.prefix).features(settings.features.feature_set)


def _until(rows: int | None, seconds: float | None, shown: Callable[[int], None]) -> Callable[[int], bool]:
    """Return what says whether to go on, told how many rows there are."""
    stop = stop_event()
    deadline = None if seconds is None else time.monotonic() + seconds

    def tell(n_rows: int) -> bool:
        shown(n_rows)
        enough = rows is not None and n_rows >= rows
        late = deadline is not None and time.monotonic() >= deadline
        return not (stop.is_set() or enough or late)

    return tell


def _run(
    settings: Settings, topic: str, kept: Capture, keep: Callable[..., None], tell: Callable[[int], bool]
) -> None:
    """Keep what comes; whatever ends it, the files are complete."""
    from connectors.kafka_reader import KafkaReader

    with KafkaReader(settings.kafka) as reader:
        try:
            keep(reader, topic, kept, tell)
        finally:
            kept.close()


@contextmanager
def _bar(rows: int | None) -> Iterator[Callable[[int], None]]:
    """Yield what to call with the rows kept; draws on a terminal only, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("rows kept", total=rows)
        yield lambda n_rows: bar.update(task, completed=n_rows)


def _summary(out: Path, kept: Capture, before: int) -> str:
    new = max(0, kept.n_rows - before)
    lines = [f"{out}: {kept.n_rows:,} rows in {len(kept.files)} files, {new:,} of them new"]
    lines += [f"lost: {sentence}" for sentence in kept.lost]
    if kept.n_refused:
        lines.append(f"left out: {kept.n_refused:,} messages that hold no features")
    return "\n".join([*lines, "the same command goes on from there"])
