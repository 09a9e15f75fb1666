"""Messages on their way: in order, a few at a time, and nobody goes on when one of them failed."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pipeline.agents.lane import Out
from pipeline.agents.outbox import IN_FLIGHT, Outbox


class Broker:
    """Takes messages at once and says later, when a test wants it, what became of them."""

    def __init__(self) -> None:
        self.taken: list[tuple[Out, asyncio.Future[None]]] = []

    async def send(self, out: Out) -> Awaitable[object]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.taken.append((out, answer))
        return answer


def out(n: int) -> Out:
    return Out(topic="t", value=b"%d" % n, headers=[], partition=0)


def run(story: Callable[[Outbox, Broker, list[Any]], Any]) -> list[Any]:
    """Run a story and return what was reported: n for a step that is durable, an error for a failure."""
    told: list[Any] = []

    async def whole() -> None:
        broker = Broker()
        await story(Outbox(broker.send, told.append), broker, told)

    asyncio.run(whole())
    return told


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_step_is_done_when_all_its_messages_are_durable() -> None:
    """Not before, and steps without messages are done at once."""

    async def story(outbox: Outbox, broker: Broker, told: list[Any]) -> None:
        await outbox.put([out(1), out(2)], lambda: told.append("first"))
        await outbox.put([], lambda: told.append("empty"))
        await turns()
        assert told == ["empty"]
        for _, answer in broker.taken:
            answer.set_result(None)
        await outbox.settled()

    assert run(story) == ["empty", "first"]


def test_a_full_outbox_waits_for_the_oldest() -> None:
    """A broker that does not answer is given no more than so many messages."""

    async def story(outbox: Outbox, broker: Broker, told: list[Any]) -> None:
        async def fill() -> None:
            for n in range(IN_FLIGHT + 5):
                await outbox.put([out(n)], lambda: None)
            told.append("all taken")

        filling = asyncio.create_task(fill())
        await turns()
        assert len(broker.taken) == IN_FLIGHT + 1
        for _ in range(IN_FLIGHT + 5):
            for _, answer in broker.taken:
                if not answer.done():
                    answer.set_result(None)
            await turns()
        await filling
        assert [sent.value for sent, _ in broker.taken] == [b"%d" % n for n in range(IN_FLIGHT + 5)]

    assert run(story) == ["all taken"]


def test_nobody_is_told_that_a_failed_message_is_durable() -> None:
    """The failure is reported as soon as it is known, and `settled` raises: no offset may move."""

    async def story(outbox: Outbox, broker: Broker, told: list[Any]) -> None:
        for n in range(3):
            await outbox.put([out(n)], lambda n=n: told.append(n))
        waiting = asyncio.create_task(outbox.settled())
        await turns()
        broker.taken[0][1].set_result(None)
        broker.taken[1][1].set_exception(ConnectionError("gone"))
        await turns()
        assert sorted(map(str, told)) == ["0", "gone"]
        with pytest.raises(ConnectionError, match="gone"):
            await waiting

    run(story)


def test_a_producer_that_stops_is_a_failure() -> None:
    """A message that nobody will send any more is not durable either."""

    async def story(outbox: Outbox, broker: Broker, told: list[Any]) -> None:
        await outbox.put([out(1)], lambda: told.append("durable"))
        broker.taken[0][1].cancel()
        await turns()

    (error,) = run(story)
    assert "before a message was durable" in str(error)
