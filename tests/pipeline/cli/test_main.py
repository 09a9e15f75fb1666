"""The command itself: fast help, exit codes, and no traceback for a user's mistake."""

import importlib
import re
import shlex
import subprocess
import sys
import time
from itertools import takewhile
from pathlib import Path
from typing import Any

import click
import pytest

from connectors.errors import BrokerError
from detectors.errors import FitError
from pipeline.cli import main
from pipeline.errors import BundleError

ROOT = Path(__file__).parents[3]
HEAVY = (
    "numpy",
    "pyarrow",
    "numba",
    "kafka",
    "faust",
    "pydantic",
    "sklearn",
    "torch",
    "pybnesian",
    "training",
)

SHELL = (">", "|", "&", "#")

EXPECTED = [BrokerError("no broker at a:1; start one"), FitError("too few rows"), BundleError("x is damaged")]


def raising(error: BaseException) -> click.Command:
    @click.command()
    def command() -> None:
        raise error

    return command


def replaced(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `weir doctor` raise `error`."""
    monkeypatch.setattr(main.LazyGroup, "get_command", lambda *_: raising(error))


def test_help_lists_every_command_with_its_line(weir: Any) -> None:
    result = weir("--help")

    assert result.code == 0
    for name, (_, line) in main.COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(line)}$", result.out, re.MULTILINE)


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.cli.main import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert set(HEAVY) & set(done.stderr.split()) == set()


def test_help_comes_at_once() -> None:
    """Best of five, so that a busy machine does not decide."""
    took_s = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "pipeline.cli.main", "--help"], cwd=ROOT, capture_output=True, check=True
        )
        took_s.append(time.monotonic() - began)

    assert min(took_s) < 0.5


def test_blas_has_one_thread_unless_told_otherwise() -> None:
    code = "import os; import pipeline.cli.main; print(os.environ['OPENBLAS_NUM_THREADS'])"
    for env, expected in (({}, "1"), ({"OPENBLAS_NUM_THREADS": "3"}, "3")):
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def commands(command: click.Command, path: str) -> dict[str, click.Command]:
    found = {path: command}
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            found |= commands(inner, f"{path} {name}")
    return found


def parse(command: click.Command, args: list[str], parent: click.Context | None = None) -> None:
    """Read a command line as far as click does before anything runs; wrong use raises."""
    with command.make_context(command.name, args, parent=parent) as ctx:
        if isinstance(command, click.Group):
            _, inner, rest = command.resolve_command(ctx, [*ctx._protected_args, *ctx.args])
            assert inner is not None
            parse(inner, rest, ctx)


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_command_has_examples_that_it_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The help of each command and subcommand shows command lines, and they can be typed as they stand."""
    monkeypatch.setattr(
        click.Path, "convert", lambda _self, value, _param, _ctx: value
    )  # files of the reader's
    module, _, attribute = main.COMMANDS[name][0].partition(":")
    for path, command in commands(getattr(importlib.import_module(module), attribute), name).items():
        epilog = command.epilog or ""
        examples = [line.strip() for line in epilog.splitlines() if line.strip().startswith("weir ")]
        assert [line for line in examples if line.startswith(f"weir {path}")] == examples != []
        for line in examples:
            parse(main.weir, list(takewhile(lambda word: word not in SHELL, shlex.split(line)))[1:])


def test_help_of_a_subcommand_shows_its_examples(weir: Any) -> None:
    result = weir("config", "show", "--help")

    assert result.code == 0
    assert "Examples:\n    weir config show\n" in result.out


def test_a_mistyped_command_gets_the_nearest(weir: Any) -> None:
    result = weir("alrts")

    assert result.code == 2
    assert "no command 'alrts'; did you mean alerts?" in result.err


def test_wrong_use_is_exit_code_two(weir: Any) -> None:
    assert weir("lint").code == 2
    assert weir("config", "show", "--nonsense").code == 2


@pytest.mark.parametrize("error", EXPECTED, ids=lambda error: type(error).__name__)
def test_a_known_error_is_its_message_alone(
    error: Exception, weir: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    replaced(monkeypatch, error)

    result = weir("doctor")

    assert (result.code, result.out, result.err) == (1, "", f"weir: {error}\n")


def test_ctrl_c_is_quiet(weir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, KeyboardInterrupt())

    result = weir("doctor")

    assert (result.code, result.err.strip()) == (130, "")


def test_an_unexpected_error_says_where_its_trace_is(weir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, ZeroDivisionError("oh"))

    result = weir("doctor")

    assert result.code == 1
    assert "Traceback" not in result.err
    assert result.err.startswith("weir: unexpected ZeroDivisionError: oh")
    trace = Path(re.search(r"the trace is in (\S+)", result.err)[1])
    assert "ZeroDivisionError: oh" in trace.read_text()
    trace.unlink()


def test_debug_shows_the_trace(weir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, ZeroDivisionError("oh"))

    result = weir("--debug", "doctor")

    assert "Traceback (most recent call last)" in result.err


def test_an_exit_code_of_a_command_is_passed_on(weir: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, click.exceptions.Exit(7))

    assert weir("doctor").code == 7


def test_the_version_is_told(weir: Any) -> None:
    result = weir("--version")

    assert result.code == 0
    assert re.fullmatch(r"weir (source|\d+\.\d+\.\d+\S*)\n", result.out)
