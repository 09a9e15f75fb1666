"""The loop that all three agents share: restore, skip, try, process, publish.

At least once: an offset is committed after everything that its message gave is durable (`settled`).
Whatever cannot be made durable ends the process before the offset moves; the restart repeats the
message, and the journal makes the repeat cost nothing.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator

import structlog

from connectors.errors import ConnectorError
from connectors.kafka_reader import KafkaReader, Message
from pipeline.agents.attempts import Attempts
from pipeline.agents.lane import Lane, Role
from pipeline.agents.meter import Meter
from pipeline.agents.outbox import Outbox, Send
from pipeline.errors import PipelineError
from pipeline.exit_codes import AGAIN, CONFIG

log = structlog.get_logger()


class Carrier:
    """Carry the messages of one stage from its input topic to its lanes, and their output on.

    Parameters
    ----------
    role : Role
        The stage.
    reader : KafkaReader
        Group-less reader, used by one thread at a time, for the journal and for re-reading.
    send : Send
        Publishes one message.
    attempts : Attempts
        Counts of the processes that died over a message.
    meter : Meter
        Metrics.
    trial : callable
        Tries a message in a child process; False if that died.
    exit_process : callable
        Ends the process with an exit code, at once.
    """

    def __init__(
        self,
        role: Role,
        reader: KafkaReader,
        send: Send,
        attempts: Attempts,
        meter: Meter,
        trial: Callable[[Message], bool],
        exit_process: Callable[[int], object] = os._exit,
    ) -> None:
        self._role = role
        self._reader = reader
        self._outbox = Outbox(send, self._failed)
        self._attempts = attempts
        self._meter = meter
        self._trial = trial
        self._exit = exit_process
        self._lanes: dict[int, Lane] = {}
        self._next: dict[int, int] = {}
        self.beats = 0
        """Grows with every message carried or re-read: what the watchdog watches."""

    def forget(self) -> None:
        """Drop the state of all lanes: after a rebalance each comes back from its journal."""
        self._lanes.clear()
        self._next.clear()
        self._attempts.close()
        self._meter.forget()

    async def settled(self) -> None:
        """Return when all that was carried so far is durable: an offset may move only after this."""
        await self._outbox.settled()

    async def carry(self, message: Message) -> None:
        """Take one message and hand over what it gives. Ends the process where it cannot."""
        try:
            await self._carry(message)
        except (PipelineError, ConnectorError) as error:
            again = isinstance(error, ConnectorError)
            self._end(AGAIN if again else CONFIG, "worker_stopped", message, error)
        except BaseException as error:  # noqa: BLE001 - what escapes an agent, cancelled too, is committed
            self._end(AGAIN, "worker_failed", message, error)

    def _failed(self, error: BaseException) -> None:
        log.error("worker_failed", stage=self._role.name, error=str(error), kind=type(error).__name__)
        self._exit(AGAIN)

    def _end(self, code: int, event: str, message: Message, error: BaseException) -> None:
        where = f"{message.topic}/{message.partition}/{message.offset}"
        log.error(event, stage=self._role.name, at=where, error=str(error), kind=type(error).__name__)
        self._exit(code)

    async def _carry(self, message: Message) -> None:
        partition = message.partition
        while True:
            if partition not in self._lanes:
                await self._restore(partition, message.offset)
            expected = self._next[partition]
            if message.offset < expected:
                return
            if message.offset == expected:
                await self._take(self._lanes[partition], message)
                return
            # After that look again: a rebalance may have dropped the lane meanwhile.
            await self._catch_up(partition, expected, message.offset)

    async def _restore(self, partition: int, upto: int) -> None:
        await self.settled()  # what is on its way belongs to the journal
        restored = await asyncio.to_thread(self._role.restore, self._reader, partition, upto)
        for incident in restored.incidents:
            log.error("incident", kind=incident.kind, detail=incident.detail)
        self._meter.rebuilt(restored.incidents)
        self._lanes[partition] = restored.lane
        self._next[partition] = restored.start
        log.info(
            "lane_restored",
            stage=self._role.name,
            partition=partition,
            from_offset=restored.start,
            done=restored.lane.done,
            at=upto,
        )

    async def _catch_up(self, partition: int, start: int, stop: int) -> None:
        """Read and take the messages of a gap; there may be none (markers, compaction)."""
        lane = self._lanes[partition]
        messages = self._reader.read_range(self._role.input_topic, partition, start, stop)
        while (message := await asyncio.to_thread(_advance, messages)) is not None:
            await self._take(lane, message)
            if self._lanes.get(partition) is not lane:
                return  # dropped by a rebalance, or broken: what comes next is for another
        if self._lanes.get(partition) is lane:
            self._next[partition] = stop

    async def _take(self, lane: Lane, message: Message) -> None:
        """Warm the lane with a message that is done, answer any other; neither with a poisonous one."""
        partition = message.partition
        deaths = self._attempts.begin(message.topic, partition, message.offset)
        poison = deaths >= self._attempts.limit and not await asyncio.to_thread(self._trial, message)
        if message.offset > lane.done:
            why = f"{deaths} worker processes died over this message"
            await self._answer(lane, message, why if poison else "")
        elif not poison:
            lane.warm(message)
        self._attempts.end(message.topic, partition)
        if self._lanes.get(partition) is lane:
            self._next[partition] = message.offset + 1
        self.beats += 1

    async def _answer(self, lane: Lane, message: Message, poison: str) -> None:
        """Process a message, or set it aside, and hand over what that gives."""
        started = time.monotonic()
        if poison:
            log.error("poison_message", stage=self._role.name, partition=message.partition, why=poison)
        step = lane.refuse(message, "poison", poison) if poison else lane.process(message)

        def durable() -> None:
            self._meter.step(step.tally, time.monotonic() - started, message.timestamp_ms)

        await self._outbox.put(step.outs, durable)
        lane.done = message.offset
        if step.broken:
            self._lanes.pop(message.partition, None)


def _advance(messages: Iterator[Message]) -> Message | None:
    return next(messages, None)
