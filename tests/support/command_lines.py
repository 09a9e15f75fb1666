"""`weir` command lines in documents, parsed by the real commands without running them."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click

from pipeline.cli.main import weir

ROOT = Path(__file__).parent.parent.parent
SHELL = {"|", ">", ">>", "<", "&", "&&", ";", "2>&1"}
"""Where a command ends."""

_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def documents() -> list[Path]:
    """Return every Markdown file of the repository."""
    folders = (ROOT, ROOT / "docs", ROOT / "docs" / "reference", ROOT / "docker")
    return sorted(path for folder in folders for path in folder.glob("*.md"))


def shell_lines(text: str) -> Iterator[str]:
    """Yield the lines of the shell blocks of a Markdown text, continued ones joined."""
    for block in _BLOCK.findall(text):
        yield from block.replace("\\\n", " ").splitlines()


def words(line: str) -> list[str]:
    """Return the words of a shell line up to the end of its first command."""
    split = shlex.split(line, comments=True)
    ends = [index for index, word in enumerate(split) if word in SHELL]
    return split[: ends[0]] if ends else split


def parse(arguments: list[str]) -> None:
    """Parse what follows `weir`, as the command itself would, without running it.

    Raises
    ------
    click.UsageError
        If there is no such command or option, or a value does not fit. Files need not be there.
    """
    command: click.Command = weir
    context = click.Context(weir, info_name="weir")
    rest = list(arguments)
    while isinstance(command, click.Group):
        name, found, rest = command.resolve_command(context, rest)
        if found is None:
            raise click.UsageError(f"no command {name!r}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    try:
        command.make_context("weir", rest)
    except click.BadParameter as error:
        if "does not exist" not in error.message:
            raise
