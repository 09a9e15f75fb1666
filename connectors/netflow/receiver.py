"""A UDP socket that many datagrams come through, and what the kernel had to drop of them."""

import os
import select
import socket
import sys
from pathlib import Path

from connectors.errors import SourceError

LONGEST_DATAGRAM = 65_535

_SO_RCVBUFFORCE = 33  # Linux: beyond net.core.rmem_max, for the superuser
_TABLES = (Path("/proc/net/udp"), Path("/proc/net/udp6"))


class Receiver:
    """A bound UDP socket.

    Parameters
    ----------
    host : str
        Address or name to listen on; `0.0.0.0` or `::` for all.
    port : int
        0 takes a free one; `address` says which.
    buffer_bytes : int
        Wanted size of the kernel's receive buffer; `buffer_bytes` says what the kernel gave.

    Raises
    ------
    SourceError
        If the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, *, buffer_bytes: int) -> None:
        self._socket = _bound(host, port)
        self.address: tuple[str, int] = self._socket.getsockname()[:2]
        self.buffer_bytes = _enlarge(self._socket, buffer_bytes)
        self._inode = os.fstat(self._socket.fileno()).st_ino
        self._dropped = 0
        # Not select(): it takes no descriptor beyond 1,023.
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self.closed = False

    def receive(self, timeout_s: float) -> tuple[bytes, str] | None:
        """Return a datagram and its sender's address, or None if none came within `timeout_s`."""
        try:
            try:
                payload, sender = self._socket.recvfrom(LONGEST_DATAGRAM)
            except BlockingIOError:
                self._poll.poll(1000 * timeout_s)
                payload, sender = self._socket.recvfrom(LONGEST_DATAGRAM)
        except BlockingIOError:
            return None
        except OSError as error:
            if self.closed:  # by another thread
                return None
            raise SourceError(f"netflow: receiving on UDP {self.address} failed ({error})") from error
        return payload, _plain(sender[0])

    def dropped(self) -> int:
        """Return how many datagrams the kernel dropped because the buffer was full (Linux only)."""
        if not self.closed:
            self._dropped = max(self._dropped, *(_drops(table, self._inode) for table in _TABLES))
        return self._dropped

    def close(self) -> None:
        """Stop listening."""
        self.dropped()
        self.closed = True
        self._socket.close()


def _bound(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65_535:
        # getaddrinfo() would take its lower 16 bits.
        raise SourceError(_refused(host, port, "no port from 0 to 65535"))
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        bound = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise SourceError(_refused(host, port, error)) from error
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise SourceError(_refused(host, port, error)) from error
    bound.setblocking(False)
    return bound


def _refused(host: str, port: int, error: object) -> str:
    return (
        f"netflow: cannot listen on UDP {host} port {port} ({error}); expected an address of this machine "
        "and a port that is free and may be used: choose another, or stop what listens there"
    )


def _enlarge(bound: socket.socket, wanted: int) -> int:
    forced = (_SO_RCVBUFFORCE,) if sys.platform == "linux" else ()
    for option in (socket.SO_RCVBUF, *forced):
        try:
            bound.setsockopt(socket.SOL_SOCKET, option, wanted)
        except OSError:
            continue  # the kernel's default, or its limit, has to do; `buffer_bytes` says which
    return bound.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def _drops(table: Path, inode: int) -> int:
    """Return the last column of the socket's line in the kernel's table."""
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return 0
    fields = (line.split() for line in lines)
    return next((int(f[12]) for f in fields if len(f) > 12 and f[9] == str(inode)), 0)


def _plain(address: str) -> str:
    """Return an address without its interface; an IPv4 one as such, whatever the socket."""
    return address.partition("%")[0].removeprefix("::ffff:")
