"""Logs: one event a line, JSON for machines, coloured text on a terminal.

Normal running is silent at info, apart from starting and stopping. Bind what identifies a batch
once: ``with bound_contextvars(topic=..., partition=..., offset=...)``.
"""

import io
import logging
import os
from contextlib import suppress
from typing import Any, Literal, TextIO

import structlog

LIBRARIES = ("faust", "mode", "aiokafka", "kafka", "asyncio")
"""Loggers that chatter at info; their warnings and errors are kept."""

STDERR = 2

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]


def configure_logging(*, level: Level = "info", format: Format = "auto", role: str = "") -> None:  # noqa: A002 the setting's name
    """Send all logs to file descriptor 2, our own and those of the libraries.

    Not to `sys.stderr`: Faust captures that and turns every line into a warning of its own.

    Parameters
    ----------
    level : str
        Least level of our own events; libraries stay at warning.
    format : str
        `json`, `console`, or `auto`: console on a terminal.
    role : str
        What this process is, on every line: features, detect, alerts ...
    """
    console = format == "console" or (format == "auto" and os.isatty(STDERR))
    renderer = _console() if console else _json()
    structlog.configure(
        processors=[*_shared(), *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=_stderr()),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    if role:
        structlog.contextvars.bind_contextvars(role=role)
    _route_libraries(renderer)


def _shared() -> list[Any]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _json() -> list[Any]:
    # Without the values of local variables: a password may be among them.
    traces = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(traces), structlog.processors.JSONRenderer()]


def _console() -> list[Any]:
    return [structlog.dev.ConsoleRenderer(colors=os.isatty(STDERR))]


def _route_libraries(renderer: list[Any]) -> None:
    """Give records of the standard library's logging the same form and place."""
    handler = logging.StreamHandler(_stderr())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_shared(), structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
        library.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)


class _Stderr(io.RawIOBase):
    """File descriptor 2, on which every write succeeds.

    A line that cannot be written, because the disk is full or the reader of a pipe has gone, is
    dropped. An error here would escape wherever something is logged, also where a worker ends itself
    and must not go on.
    """

    def writable(self) -> bool:
        """Say yes."""
        return True

    def write(self, data: Any) -> int:
        """Write what can be written."""
        with suppress(OSError):
            os.write(STDERR, data)
        return memoryview(data).nbytes


def _stderr() -> TextIO:
    """Return file descriptor 2 as a stream that writes a line at once, so that processes do not mix lines."""
    raw = io.BufferedWriter(_Stderr())
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)
