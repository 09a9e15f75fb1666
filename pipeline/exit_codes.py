"""What the exit codes of a worker tell the supervisor that started it, and when each is used."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click

from connectors.errors import BrokerError, ConnectorError, RefusedError
from detectors.errors import DetectorError
from pipeline.errors import BusyError, PipelineError

DONE = 0
"""Told to stop: what was in hand is finished and committed."""
FAILED = 1
"""Something that nobody foresaw; a restart may help."""
WRONG_USE = 2
"""A command line that no restart mends."""
AGAIN = 75
"""EX_TEMPFAIL: input or output failed, the broker is away, the port is taken; nothing is lost."""
CONFIG = 78
"""EX_CONFIG: starting again will not help; a person has to read the message."""

NO_RESTART = frozenset({DONE, WRONG_USE, CONFIG})
"""Every other code, and every signal, is worth a restart."""

_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENFILE, errno.EMFILE, errno.EAGAIN})
"""Errors of the system that may be gone a little later: a full disk, too many open files."""


def start_code(error: Exception) -> int:
    """Return the exit code of a worker that could not start because of `error`.

    Examples
    --------
    >>> start_code(BrokerError("no answer from Kafka")), start_code(PipelineError("missing topics"))
    (75, 78)
    """
    if isinstance(error, OSError):
        return AGAIN if error.errno in _PASSING else CONFIG
    if isinstance(error, BrokerError | BusyError):
        return CONFIG if isinstance(error, RefusedError) else AGAIN
    return CONFIG


@contextmanager
def exit_codes() -> Iterator[None]:
    """End the command with one sentence and the code that fits, where a worker cannot start."""
    try:
        yield
    except (ConnectorError, PipelineError, DetectorError) as error:
        click.echo(f"weir: {error}", err=True)
        click.get_current_context().exit(start_code(error))
    except OSError as error:
        click.echo(f"weir: {_sentence(error)}", err=True)
        click.get_current_context().exit(start_code(error))


def _sentence(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; give this user the right and the room to write there"
