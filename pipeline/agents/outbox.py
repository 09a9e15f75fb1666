"""Messages on their way to the broker: a few at a time, in order, none forgotten.

While the broker writes one message the next one is being made. What keeps this as safe as waiting
for each: offsets are committed after `settled` alone, and a message that cannot be made durable ends
the process in the turn of the event loop in which that is known, before the client hands a later
message of the same lane to the broker. So a lane's journal never has a hole.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from pipeline.agents.lane import Out

Send = Callable[[Out], Awaitable[Awaitable[object]]]
"""Takes a message in order; what it returns can be awaited until the message is durable, or raises."""

IN_FLIGHT = 16
"""Messages handed over and not yet durable: enough to hide the broker's answer."""


class Outbox:
    """Hand messages over and know when they are durable.

    Parameters
    ----------
    send : Send
        Publishes one message.
    failed : callable
        Called at once with what went wrong with a message; expected to end the process.
    """

    def __init__(self, send: Send, failed: Callable[[BaseException], object]) -> None:
        self._send = send
        self._failed = failed
        self._pending: deque[asyncio.Future[list[object]]] = deque()

    async def put(self, outs: Sequence[Out], done: Callable[[], object]) -> None:
        """Hand over all messages of a step; `done` is called when they are durable."""
        sent = [asyncio.ensure_future(await self._send(out)) for out in outs]
        for future in sent:
            future.add_done_callback(self._check)
        whole = asyncio.gather(*sent)
        whole.add_done_callback(lambda each: None if each.cancelled() or each.exception() else done())
        self._pending.append(whole)
        while len(self._pending) > IN_FLIGHT:
            await asyncio.shield(self._pending[0])
            self._forget_durable()

    async def settled(self) -> None:
        """Return when everything handed over so far is durable."""
        for whole in tuple(self._pending):
            await asyncio.shield(whole)
        self._forget_durable()

    def _forget_durable(self) -> None:
        while self._pending and self._pending[0].done():
            self._pending.popleft()

    def _check(self, sent: asyncio.Future[object]) -> None:
        if sent.cancelled():
            self._failed(ConnectionError("the producer stopped before a message was durable"))
        elif error := sent.exception():
            self._failed(error)
