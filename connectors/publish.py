"""Send a few messages durably, without a group or a stream around them."""

from collections.abc import Iterable
from typing import Any, Self

from connectors.kafka_client import broker_errors, producer
from connectors.kafka_settings import KafkaSettings
from connectors.topics import MAX_MESSAGE_BYTES
from connectors.wire import Headers

Sending = tuple[str, int | None, bytes, Headers]
"""Topic, partition, value and headers of a message."""


class Publisher:
    """Sends messages over one connection; close it after use."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: Any = producer(settings, max_request_size=MAX_MESSAGE_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close(timeout=5)

    def send(self, messages: Iterable[Sending]) -> None:
        """Return when all of `messages` are durable.

        Raises
        ------
        BrokerError
            If one of them could not be made durable.
        """
        with broker_errors(self._settings, "publish"):
            sent = [
                self._client.send(topic, value=value, headers=headers, partition=partition)
                for topic, partition, value, headers in messages
            ]
            for future in sent:
                future.get(timeout=self._settings.delivery_timeout_s)


def publish(settings: KafkaSettings, messages: Iterable[Sending]) -> None:
    """Send messages of (topic, partition, value, headers); returns when all are durable.

    Raises
    ------
    BrokerError
        If one of them could not be made durable.
    """
    with Publisher(settings) as publisher:
        publisher.send(messages)
