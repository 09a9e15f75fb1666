"""The proxy's weather, seen by a client of an echo server."""

import socket
import threading
from collections.abc import Iterator

import pytest
from proxy import HOST, Proxy


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets; yields its port."""
    server = socket.create_server((HOST, 0))
    threading.Thread(target=_serve, args=(server,), daemon=True).start()
    yield server.getsockname()[1]
    server.close()


def _serve(server: socket.socket) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        threading.Thread(target=_echo, args=(connection,), daemon=True).start()


def _echo(connection: socket.socket) -> None:
    with connection:
        try:
            while data := connection.recv(1000):
                connection.sendall(data)
        except OSError:
            return


@pytest.fixture
def proxy(echo: int) -> Iterator[Proxy]:
    with Proxy(echo) as made:
        yield made


def asked(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return client.recv(1000)


def connected(proxy: Proxy, timeout_s: float = 0.5) -> socket.socket:
    return socket.create_connection((HOST, proxy.port), timeout=timeout_s)


def is_cut(proxy: Proxy) -> bool:
    """Whether a new connection ends at once, whether or not it was made."""
    try:
        with connected(proxy) as client:
            return client.recv(1000) == b""
    except ConnectionError:
        return True


def test_fair_weather_passes_everything(proxy: Proxy) -> None:
    """Bytes come back as they went."""
    with connected(proxy) as client:
        assert asked(client, b"a") == b"a"


def test_what_is_held_comes_later(proxy: Proxy) -> None:
    """The network stands still, and goes on where it was."""
    with connected(proxy) as client:
        assert asked(client, b"a") == b"a"
        proxy.set("hold")
        with pytest.raises(TimeoutError):
            asked(client, b"b")
        proxy.set("fair")
        assert client.recv(1000) == b"b"


def test_what_is_dropped_never_comes(proxy: Proxy) -> None:
    """The connection stays silent for ever; a new one works."""
    with connected(proxy) as client:
        assert asked(client, b"a") == b"a"
        proxy.set("drop")
        with pytest.raises(TimeoutError):
            asked(client, b"b")
        proxy.set("fair")
        with pytest.raises(TimeoutError):
            asked(client, b"c")
        with connected(proxy) as other:
            assert asked(other, b"d") == b"d"


def test_delayed_bytes_come_late(proxy: Proxy) -> None:
    """Each way adds its delay."""
    proxy.set("delay")
    with connected(proxy) as client, pytest.raises(TimeoutError):
        asked(client, b"a")
    with connected(proxy, 5.0) as client:
        assert asked(client, b"a") == b"a"


def test_reset_connections_are_errors(proxy: Proxy) -> None:
    """Those that there were, and new ones, until the weather is fair."""
    with connected(proxy) as client:
        assert asked(client, b"a") == b"a"
        proxy.set("reset")
        with pytest.raises(ConnectionResetError):
            client.recv(1000)
    assert is_cut(proxy)
    proxy.set("fair")
    with connected(proxy) as client:
        assert asked(client, b"a") == b"a"


def test_nothing_to_connect_to_ends_the_connection() -> None:
    """As long as the broker is away, clients see their connections end."""
    with Proxy(1) as nowhere:
        assert is_cut(nowhere)
