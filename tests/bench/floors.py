"""The least that a consumer can do: every message into a matrix of float64, and nothing else.

`python tests/bench/floors.py CLIENT FILE TOPIC COLUMNS SKIP MESSAGES` prints, as JSON, the wall and CPU
seconds (of the process, all threads) from the end of message SKIP to the end of message MESSAGES. CLIENT is
`faust`, with the settings of a worker; `faust-tuned`, in the worker's app, with all that it changes in Faust;
or `kafka-python`.
"""

import json
import os
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.kafka_client import consumer
from connectors.topics import MAX_MESSAGE_BYTES
from pipeline.settings import Settings, load_settings


def matrix(value: bytes, columns: list[str]) -> npt.NDArray[np.float64]:
    """Return columns of an Arrow message as a matrix; null becomes NaN."""
    with pa.ipc.open_stream(value) as reader:
        batch = reader.read_next_batch()
    out = np.empty((batch.num_rows, len(columns)))
    for index, name in enumerate(columns):
        out[:, index] = batch.column(name).to_numpy(zero_copy_only=False)
    return out


class Meter:
    """Decodes messages, and ends the process with the figures after the last one."""

    def __init__(self, columns: list[str], skip: int, messages: int) -> None:
        self._columns = columns
        self._skip, self._messages = skip, messages
        self._seen = self._rows = 0
        self._began = self._began_cpu = 0.0

    def take(self, value: bytes) -> None:
        """Decode one message."""
        self._rows += len(matrix(value, self._columns))
        self._seen += 1
        if self._seen == self._skip:
            self._began, self._began_cpu = time.monotonic(), time.process_time()
            self._rows = 0
        elif self._seen == self._messages:
            wall_s, cpu_s = time.monotonic() - self._began, time.process_time() - self._began_cpu
            os.write(1, json.dumps({"rows": self._rows, "wall_s": wall_s, "cpu_s": cpu_s}).encode())
            os._exit(0)  # nothing that winds up belongs to the figures


async def _nothing_sent() -> None:
    """Be what a worker waits for before it commits: nothing is on its way."""


def faust_floor(settings: Settings, topic: str, meter: Meter) -> None:
    """Run a bare agent in a stock app with the settings of a worker."""
    import faust

    from pipeline.agents import app as worker

    def stock(name: str, *, settled: object, **options: Any) -> faust.App:
        del settled
        return faust.App(name, **options)

    worker._App = stock
    _run_agent(settings, topic, meter)


def tuned_floor(settings: Settings, topic: str, meter: Meter) -> None:
    """Run a bare agent in the worker's own app, with its queue and its use of memory."""
    from pipeline.agents.memory import keep_freed_memory

    keep_freed_memory()
    _run_agent(settings, topic, meter)


def _run_agent(settings: Settings, topic: str, meter: Meter) -> None:
    import faust

    from pipeline.agents.app import _faust_app

    group = f"floor-{uuid.uuid4().hex}"
    (settings.worker.state_dir / group).mkdir(parents=True)  # Faust's own folder lies in it
    app = _faust_app(SimpleNamespace(group=group), settings, _nothing_sent)
    raw = {"key_serializer": "raw", "value_serializer": "raw"}
    source = app.topic(topic, key_type=bytes, value_type=bytes, **raw)

    @app.agent(source, concurrency=1)
    async def decode(stream: Any) -> None:
        async for event in stream.events():
            meter.take(event.value)

    runner = faust.Worker(app, quiet=True, override_logging=False, redirect_stdouts=False, loglevel="WARN")
    runner.spinner = None
    runner.execute_from_commandline()


def kafka_floor(settings: Settings, topic: str, meter: Meter) -> None:
    """Run a bare consumer."""
    from kafka import TopicPartition

    bare = consumer(settings.kafka, max_partition_fetch_bytes=MAX_MESSAGE_BYTES)
    bare.assign([TopicPartition(topic, 0)])
    bare.seek_to_beginning()
    while True:
        for messages in bare.poll(1000).values():
            for message in messages:
                meter.take(message.value)


def main() -> None:
    """Run one floor."""
    client, config, topic, columns, skip, messages = sys.argv[1:]
    run = {"faust": faust_floor, "faust-tuned": tuned_floor, "kafka-python": kafka_floor}[client]
    run(load_settings(Path(config), env={}), topic, Meter(columns.split(","), int(skip), int(messages)))


if __name__ == "__main__":
    main()
