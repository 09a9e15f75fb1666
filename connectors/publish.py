"""Send a few messages durably, without a group or a stream around them."""

from collections.abc import Iterable

from connectors.kafka_client import broker_errors, producer
from connectors.kafka_settings import KafkaSettings
from connectors.wire import Headers


def publish(settings: KafkaSettings, messages: Iterable[tuple[str, int | None, bytes, Headers]]) -> None:
    """Send messages of (topic, partition, value, headers); returns when all are durable.

    Raises
    ------
    BrokerError
        If one of them could not be made durable.
    """
    client = producer(settings)
    try:
        with broker_errors(settings, "publish"):
            sent = [
                client.send(topic, value=value, headers=headers, partition=partition)
                for topic, partition, value, headers in messages
            ]
            for future in sent:
                future.get(timeout=settings.delivery_timeout_s)
    finally:
        client.close(timeout=5)
