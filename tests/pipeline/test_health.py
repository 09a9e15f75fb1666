"""The port of a worker: what a supervisor and Prometheus are told."""

import json
import socket
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import pytest

from pipeline.errors import PipelineError
from pipeline.health import HealthServer
from pipeline.metrics import Metrics


def serve(
    is_live: Callable[[], str | None] = lambda: None, is_ready: Callable[[], list[str]] = list
) -> HealthServer:
    return HealthServer("127.0.0.1", 0, Metrics().registry, is_live, is_ready)


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


def get_json(server: HealthServer, path: str) -> tuple[int, Any]:
    status, body = get(server, path)
    return status, json.loads(body)


def test_a_healthy_worker_says_so() -> None:
    with serve() as server:
        assert get_json(server, "/live") == (200, {"live": True, "reason": None})
        assert get_json(server, "/ready") == (200, {"ready": True, "missing": []})


def test_a_worker_that_is_not_ready_says_what_is_missing() -> None:
    with serve(is_ready=lambda: ["no lanes assigned", "model not loaded"]) as server:
        expected = {"ready": False, "missing": ["no lanes assigned", "model not loaded"]}
        assert get_json(server, "/ready") == (503, expected)
        assert get_json(server, "/live")[0] == 200


def test_a_worker_that_hangs_is_not_live() -> None:
    with serve(is_live=lambda: "no progress for 61 s") as server:
        assert get_json(server, "/live") == (503, {"live": False, "reason": "no progress for 61 s"})


def test_a_check_that_fails_is_not_healthy() -> None:
    def broken() -> list[str]:
        raise RuntimeError("lost")

    with serve(is_ready=broken) as server:
        status, body = get_json(server, "/ready")
        assert status == 503
        assert "lost" in body["missing"][0]


def test_metrics_are_served_as_prometheus_reads_them() -> None:
    metrics = Metrics()
    metrics.stage("detect").consumed.inc(3)
    with HealthServer("127.0.0.1", 0, metrics.registry, lambda: None, list) as server:
        status, body = get(server, "/metrics")

    assert status == 200
    assert b'weir_records_consumed_total{stage="detect"} 3.0' in body


def test_another_path_names_those_there_are() -> None:
    with serve() as server:
        status, body = get_json(server, "/nothing")
        assert (status, body["paths"]) == (404, ["/metrics", "/live", "/ready"])


def test_head_answers_without_a_body() -> None:
    with serve() as server:
        assert get(server, "/live", "HEAD") == (200, b"")


def test_a_used_port_is_named_with_what_to_do() -> None:
    with serve() as server, pytest.raises(PipelineError, match=rf"port {server.port} .*in use.*worker\.port"):
        HealthServer("127.0.0.1", server.port, Metrics().registry, lambda: None, list)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(PipelineError, match=r"worker\.host"):
        HealthServer("192.0.2.1", 0, Metrics().registry, lambda: None, list)


def test_the_port_is_free_after_the_stop() -> None:
    with serve() as server:
        port = server.port
    HealthServer("127.0.0.1", port, Metrics().registry, lambda: None, list).stop()


def test_a_client_that_hangs_up_harms_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with serve() as server:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", server.port)) as client:
                client.sendall(b"GET /metrics HT")
        assert get(server, "/live")[0] == 200

    assert capfd.readouterr().err == ""
