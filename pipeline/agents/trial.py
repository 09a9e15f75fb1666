"""Try a message in a child process: a message that kills it is poison.

The child starts afresh from the settings, so nothing of the parent (threads, sockets, locks) is
in its way, and nothing it does reaches Kafka.
"""

import subprocess
import sys

import msgspec
import structlog

from connectors.kafka_reader import Message
from pipeline.agents.roles import build_role
from pipeline.errors import PipelineError
from pipeline.settings import Settings, dump_settings, parse_settings

log = structlog.get_logger()

TRIAL_S = 60.0
"""A child that takes longer hangs: as good as dead."""

READY = b"ready\n"


class _Task(msgspec.Struct, array_like=True):
    stage: str
    settings: str  # JSON
    message: tuple[str, int, int, bytes, list[tuple[str, bytes]]]


def survives(stage: str, settings: Settings, message: Message, *, timeout_s: float = TRIAL_S) -> bool:
    """Return whether a child process lives through `message`.

    Raises
    ------
    PipelineError
        If the child could not even begin: that says nothing of the message.
    """
    carried = (message.topic, message.partition, message.offset, message.value or b"", list(message.headers))
    task = _Task(stage, dump_settings(settings), carried)
    command = [sys.executable, "-m", "pipeline.agents.trial"]
    try:
        given = msgspec.msgpack.encode(task)
        child = subprocess.run(command, input=given, stdout=subprocess.PIPE, timeout=timeout_s, check=False)
        output, code = child.stdout, child.returncode
    except subprocess.TimeoutExpired as error:
        output, code = error.stdout or b"", -1
    if not output.startswith(READY):
        raise PipelineError(f"the child process for trying a message could not start (exit code {code})")
    log.warning("message_tried", stage=stage, offset=message.offset, exit_code=code)
    return code == 0


def main() -> None:
    """Try the message on standard input."""
    task = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=_Task)
    role = build_role(task.stage, parse_settings(task.settings))
    topic, partition, offset, value, headers = task.message
    sys.stdout.buffer.write(READY)
    sys.stdout.flush()
    try:
        role.try_out(Message(topic, partition, offset, 0, None, value, tuple(headers)))
    except (PipelineError, OSError) as error:
        log.warning("trial_refused", error=str(error))  # a clear error is no death, nor is a full disk


if __name__ == "__main__":
    main()
