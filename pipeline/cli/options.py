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


class RateType(click.ParamType):
    """A rate such as 5/h, in 1/h."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the rate in 1/h."""
        from pipeline.budget import per_hour

        try:
            return value if isinstance(value, float) else per_hour(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def budget_options(command: Command) -> Command:
    """Add `--budget` and `--flow-rate`, handed over as `budget`; None where neither is given."""

    @wraps(command)
    def with_budget(*, budget: float | None, flow_rate: float | None, **others: Any) -> Any:
        from pipeline.budget import Asked

        if budget is None and flow_rate is not None:
            raise click.UsageError(
                "--flow-rate is the rate of flows that a budget is for; give --budget, too"
            )
        asked = None if budget is None else Asked(alarms_per_hour=budget, flows_per_hour=flow_rate)
        return command(budget=asked, **others)

    rate = click.option(
        "--flow-rate", type=RateType(), metavar="N/s",
        help="Flows that the budget is for, as 300/s or 5000/h. Default: the rate of the training data.",
    )(with_budget)  # fmt: skip
    decorated: Command = click.option(
        "--budget", type=RateType(), metavar="N/h",
        help="False alarms (flagged flows) that are acceptable, as 5/h or 2/d: prints the alpha.",
    )(rate)  # fmt: skip
    return decorated
