"""A TCP proxy before the broker, whose network can be made bad."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, Literal, Self

HOST = "127.0.0.1"
CHUNK = 65_536
DELAY_S = 0.3

Weather = Literal["fair", "hold", "drop", "delay", "reset"]
"""fair: all bytes pass. hold: nothing passes, and comes later. drop: what is sent is gone, and the
connections of that time stay silent for ever. delay: every piece comes late. reset: connections are
reset, and new ones too."""


class Proxy:
    """Forwards connections to a port of this machine; runs in a thread of its own.

    Parameters
    ----------
    target : int
        Where to forward to; nothing needs to listen there yet.
    port : int
        Where to listen; 0 takes a free one.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self._target = target
        self._weather: Weather = "fair"
        self._links: set[_Link] = set()
        self._refusal = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._call(asyncio.start_server(self._accept, HOST, port))
        self.port: int = self._server.sockets[0].getsockname()[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Cut everything and end the thread."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def set(self, weather: Weather) -> None:
        """Change the network, for the connections there are and for new ones."""
        self._call(self._change(weather))

    @property
    def told(self) -> str:
        """How it is, for somebody who must find out why nobody comes through."""
        state = f"{self._weather}, {len(self._links)} connections"
        return f"{state}, last refusal of the broker: {self._refusal or 'none'}"

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._links)

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _change(self, weather: Weather) -> None:
        self._weather = weather
        for link in list(self._links):
            if weather == "reset":
                link.reset()
            else:
                link.change(weather)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(reader, writer)
        if self._weather == "reset":
            link.reset()
            return
        link.change(self._weather)
        self._links.add(link)
        try:
            await link.run(self._target)
        except OSError as error:
            self._refusal = repr(error)
        finally:
            self._links.discard(link)
            link.reset()

    async def _end(self) -> None:
        self._server.close()
        for link in list(self._links):
            link.reset()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Link:
    """One connection of a client, and ours to the broker for it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._near = reader, writer
        self._far: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._passing = asyncio.Event()
        self._is_dead = False  # it swallows all, in fair weather too
        self._delay_s = 0.0

    def change(self, weather: Weather) -> None:
        self._is_dead |= weather == "drop"
        self._delay_s = DELAY_S if weather == "delay" else 0.0
        if weather == "hold":
            self._passing.clear()
        else:
            self._passing.set()

    def reset(self) -> None:
        """Close both ends so that the peers see a reset."""
        for pair in (self._near, self._far):
            if pair is not None:
                _reset(pair[1])

    async def run(self, target: int) -> None:
        await self._passing.wait()
        self._far = await asyncio.open_connection(HOST, target)
        pumps = [self._pump(self._near[0], self._far[1]), self._pump(self._far[0], self._near[1])]
        tasks = [asyncio.ensure_future(pump) for pump in pumps]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                await asyncio.sleep(self._delay_s)
                await self._passing.wait()
                if not self._is_dead:
                    writer.write(data)
                    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without the usual goodbye: what is under way is lost."""
    found: socket.socket | None = writer.get_extra_info("socket")
    linger: Callable[..., None] | None = getattr(found, "setsockopt", None)
    if linger is not None and not writer.is_closing():
        with contextlib.suppress(OSError):
            linger(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    writer.transport.abort()
