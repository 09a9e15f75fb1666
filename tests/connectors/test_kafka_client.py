"""What kafka-python does not do by itself, without a broker."""

import socket
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from connectors import kafka_client


@pytest.mark.parametrize("kind", [KafkaTCPTransport, KafkaSSLTransport])
def test_the_last_answer_before_a_closed_connection_is_read(kind: Any) -> None:
    """A broker that refuses a login says so and hangs up: a slow client finds both at once."""
    assert kind._sock_recv.__module__ == kafka_client.__name__
    here, there = socket.socketpair()
    here.setblocking(False)
    there.sendall(b"refused")
    there.close()
    transport = kind.__new__(kind)
    transport._sock, transport._closed, transport.host = here, False, "broker"

    assert transport._sock_recv() == (b"refused", None)
    data, error = transport._sock_recv()
    assert data == b""
    assert isinstance(error, KafkaConnectionError)
    here.close()
