"""Options that several commands share, and the form of their examples."""

from collections.abc import Callable
from dataclasses import dataclass, fields
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """The shared options as they stand on the command line."""

    config: Path | None
    panel: Path | None
    overrides: tuple[str, ...]
    bootstrap_servers: str | None
    prefix: str | None

    def load(self) -> "Loaded":
        """Return the settings that they ask for, with their origins."""
        from pipeline.settings import load

        short = {"kafka.bootstrap_servers": self.bootstrap_servers, "topics.prefix": self.prefix}
        overrides = [*self.overrides, *(f"{path}={value}" for path, value in short.items() if value)]
        return load(self.config, overrides, panel=self.panel)

    def options(self) -> list[str]:
        """Return them as they were given, for a child process."""
        given = [item for override in self.overrides for item in ("--set", override)]
        for name, value in (
            ("--config", self.config),
            ("--panel", self.panel),
            ("--bootstrap-servers", self.bootstrap_servers),
            ("--prefix", self.prefix),
        ):
            if value is not None:
                given += [name, str(value)]
        return given


def given_options(command: Command) -> Command:
    """Add `--config`, `--panel`, `--set`, `--bootstrap-servers` and `--prefix`, handed over as `given`."""

    @wraps(command)
    def with_given(**arguments: Any) -> Any:
        shared = {field.name: arguments.pop(field.name) for field in fields(Given)}
        return command(given=Given(**shared), **arguments)

    return _options(with_given)


def _options(command: Command) -> Command:
    for option in reversed(
        (
            click.option("-c", "--config", type=click.Path(path_type=Path), help="Settings file, YAML."),
            click.option(
                "--panel", type=click.Path(path_type=Path), help="Settings file of the panel alone, YAML."
            ),
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


def settings_options(command: Command) -> Command:
    """Add the shared options and hand the settings over as the argument `settings`."""

    @wraps(command)
    def with_settings(*, given: Given, **others: Any) -> Any:
        return command(settings=given.load().settings, **others)

    return given_options(with_settings)
