"""The `weir` command: finds the command that is called, and turns every error into one message."""

import difflib
import importlib
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence

# Before anything imports numpy, which reads them once: with one BLAS thread a worker needs two and
# a half times less CPU at 4,000-row batches; more cores are used by more workers.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import click

from connectors.errors import ConnectorError
from detectors.errors import DetectorError
from pipeline.cli.options import examples
from pipeline.errors import PipelineError

DONE, FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("pipeline.cli.demo:demo", "Show everything at work: train, stream, alert, in two minutes."),
    "quickstart": ("pipeline.cli.quickstart:quickstart", "From your flows to explained alerts, by itself."),
    "broker": ("pipeline.cli.broker:broker", "Run a local broker, in memory, to try things out."),
    "topics": ("pipeline.cli.topics:topics", "Create, list or delete the topics."),
    "capture": ("pipeline.cli.capture:capture", "Keep the features of the stream as files, for training."),
    "train": ("training.cli.train:train", "Train a detector on a dataset and write a model bundle."),
    "evaluate": ("training.cli.evaluate:evaluate", "Judge a model on a labelled dataset."),
    "figures": ("training.cli.figures:figures", "Compare the detectors and write the table of the docs."),
    "detectors": ("pipeline.cli.detectors:detectors", "List or show the detectors."),
    "models": ("pipeline.cli.models:models", "List or show model bundles."),
    "panels": ("pipeline.cli.panels:panels", "Check the models that judge together."),
    "inspect": ("pipeline.cli.inspect:inspect", "Look at a file of flows: kind, counts, rejects, rows."),
    "replay": ("pipeline.cli.replay:replay", "Send a dataset or synthetic traffic into the stream."),
    "ingest": ("pipeline.cli.ingest:ingest", "Bring live flows into the stream, until stopped."),
    "worker": ("pipeline.cli.worker:worker", "Run a worker: features, detect, alerts or all."),
    "alerts": ("pipeline.cli.alerts:alerts", "Follow the alerts."),
    "suppressions": (
        "pipeline.cli.suppressions:suppressions",
        "List or add what keeps flagged flows from being alerts.",
    ),
    "dead-letters": (
        "pipeline.cli.dead_letters:dead_letters",
        "List, show or redrive what was not judged.",
    ),
    "lint": ("pipeline.cli.lint:lint", "Check a settings file; show every mistake at once."),
    "config": ("pipeline.cli.config:config", "Show the settings and where each came from."),
    "doctor": ("pipeline.cli.doctor:doctor", "Check broker, topics, models and folders."),
}
"""Name -> where the command is, and its line in the help: `weir --help` imports none of them."""


class LazyGroup(click.Group):
    """Imports a command when it is called, so that a worker never imports training."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        """Return the names in the order of a first visit, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command, importing it."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of `args`; a name that is none gets the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands from their lines in `COMMANDS`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def _print_version(ctx: click.Context, _option: click.Parameter, asked: bool) -> None:  # noqa: FBT001 click's signature
    if asked and not ctx.resilient_parsing:
        from pipeline.version import version

        click.echo(f"weir {version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("weir demo", "weir worker all --config weir.yaml", "weir COMMAND --help"),
)
@click.option("--debug", is_flag=True, help="Show the trace of an unexpected error.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version.",
)
def weir(*, debug: bool) -> None:
    """Find anomalous flows in a Kafka stream of network records, and say why."""


def run(args: Sequence[str]) -> int:
    """Run a command line and return its exit code; errors become one message on stderr."""
    try:
        code = weir.main(list(args), prog_name="weir", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except (ConnectorError, PipelineError, DetectorError) as error:
        click.echo(f"weir: {error}", err=True)
        return FAILED
    except Exception as error:  # noqa: BLE001 the last place to say anything at all
        _report_unexpected(error, shown="--debug" in args)
        return FAILED
    return code if isinstance(code, int) else DONE


def _report_unexpected(error: Exception, *, shown: bool) -> None:
    summary = f"weir: unexpected {type(error).__name__}: {error}"
    trace = "".join(traceback.format_exception(error))
    if shown:
        click.echo(f"{trace}\n{summary}", err=True)
        return
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="weir-error-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(trace)
        where = f"the trace is in {file.name}"
    except OSError:
        where = "run it again as 'weir --debug ...' for the trace"
    click.echo(f"{summary}\nThis is a fault of weir; {where}", err=True)


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
