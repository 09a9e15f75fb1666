"""Progress bars of the training commands."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from detectors.base import Progress as Report


@contextmanager
def bars() -> Iterator[Report]:
    """Yield a callback that shows one bar for each thing being done, on standard error.

    Nothing is drawn where standard error is no terminal; the bars vanish when all is done.
    """
    columns = (TextColumn("{task.description:<28}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    console = Console(stderr=True)
    shown: dict[str, TaskID] = {}
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:

        def report(what: str, done: float) -> None:
            if what not in shown:
                shown[what] = progress.add_task(what, total=1.0)
            progress.update(shown[what], completed=done)

        yield report
