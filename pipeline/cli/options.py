"""Options that several commands share, and the form of their examples."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pipeline.settings import Loaded

Command = Callable[..., Any]


def examples(*lines: str) -> str:
    r"""Return the examples of a command as its epilog.

    Examples
    --------
    >>> examples("weir demo")
    '\x08\nExamples:\n  weir demo'
    """
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def raw_options(command: Command) -> Command:
    """Add `--config`, `--set`, `--bootstrap-servers` and `--prefix`; `load_from` reads their values."""
    for option in reversed(
        (
            click.option("-c", "--config", type=click.Path(path_type=Path), help="Settings file, YAML."),
            click.option(
                "--set", "overrides", metavar="PATH=VALUE", multiple=True, help="One setting; repeatable."
            ),
            click.option(
                "--bootstrap-servers", metavar="HOST:PORT", help="Short for kafka.bootstrap_servers."
            ),
            click.option("--prefix", help="Short for topics.prefix."),
        )
    ):
        command = option(command)
    return command


def load_from(
    config: Path | None, overrides: tuple[str, ...], bootstrap_servers: str | None, prefix: str | None
) -> "Loaded":
    """Return the settings that the shared options ask for, with their origins."""
    from pipeline.settings import load

    short = {"kafka.bootstrap_servers": bootstrap_servers, "topics.prefix": prefix}
    return load(config, [*overrides, *(f"{path}={value}" for path, value in short.items() if value)])


def settings_options(command: Command) -> Command:
    """Add the shared options and hand the settings over as the argument `settings`."""

    @wraps(command)
    def with_settings(
        *,
        config: Path | None,
        overrides: tuple[str, ...],
        bootstrap_servers: str | None,
        prefix: str | None,
        **others: Any,
    ) -> Any:
        loaded = load_from(config, overrides, bootstrap_servers, prefix)
        return command(settings=loaded.settings, **others)

    return raw_options(with_settings)
