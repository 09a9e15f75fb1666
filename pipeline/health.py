"""One HTTP port a process: /metrics for Prometheus, /live and /ready for a supervisor."""

import errno
import json
import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pipeline.errors import BusyError, PipelineError

CLIENT_TIMEOUT_S = 5.0
STOP_S = 0.1
"""How soon a stop is noticed."""
PATHS = ("/metrics", "/live", "/ready")


class HealthServer:
    """Answers on a thread of its own, so that a busy event loop still reports.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one, see `port`.
    registry
        The metrics to show.
    is_live
        Returns None, or one sentence that says why the process should be restarted.
    is_ready
        Returns what is still missing; nothing when ready.
    """

    def __init__(
        self,
        host: str,
        port: int,
        registry: CollectorRegistry,
        is_live: Callable[[], str | None],
        is_ready: Callable[[], list[str]],
    ) -> None:
        self.registry = registry
        self.is_live = is_live
        self.is_ready = is_ready
        self._server = _bound(host, port, self)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(STOP_S,), name="health", daemon=True
        )

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self._server.server_address[1])

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Answer no more and free the port."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], health: HealthServer) -> None:
        self.health = health
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer would look up the host's name, which hangs where DNS does not answer.
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a scraper that hangs up is no event of ours."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = CLIENT_TIMEOUT_S

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            self._answer(200, encode(self.server.health.registry), content_type)
        elif path == "/live":
            reason = _asked(self.server.health.is_live)
            self._json(reason is None, {"live": reason is None, "reason": reason})
        elif path == "/ready":
            missing = _asked(self.server.health.is_ready)
            self._json(not missing, {"ready": not missing, "missing": missing})
        else:
            body = {"error": f"nothing at {path}", "paths": PATHS}
            self._answer(404, json.dumps(body).encode(), "application/json")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _json(self, good: bool, body: dict[str, Any]) -> None:  # noqa: FBT001 private
        self._answer(200 if good else 503, json.dumps(body).encode(), "application/json")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the base class's name
        """Log no requests."""


def _asked(question: Callable[[], Any]) -> Any:
    """Return the answer; a question that fails is itself a reason."""
    try:
        return question()
    except Exception as error:  # noqa: BLE001 whatever it is, the answer is "not healthy"
        return [f"health check failed: {error!r}"]


def _bound(host: str, port: int, health: HealthServer) -> _Server:
    try:
        return _Server((host, port), health)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            advice = "stop what listens there, or set worker.port to another (0 takes a free one)"
            raise BusyError(f"health: port {port} on {host} is in use; {advice}") from error
        if error.errno == errno.EACCES:
            why = "is not allowed for this user; set worker.port to 1024 or above"
        else:
            why = f"cannot be listened on ({error.strerror or error}); check worker.host and worker.port"
        raise PipelineError(f"health: port {port} on {host} {why}") from error
