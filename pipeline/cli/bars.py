"""Progress bars of commands that read a source."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from connectors.base import Source


@contextmanager
def position_bar(source: Source, limit: int | None) -> Iterator[Callable[[int], None]]:
    """Yield what to call with the position reached; draws on a terminal only, on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        ends = [end for end in (limit, source.n_records) if end is not None]
        task = bar.add_task(source.name, total=min(ends, default=None))
        yield lambda position: bar.update(task, completed=position)
