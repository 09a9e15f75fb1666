"""Workers that log in over TLS, as the command-line tools do."""

from pathlib import Path

import pytest
from brokers import conn_source
from stream import Stream

from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def test_a_worker_goes_through_tls_and_login(guarded_kafka: KafkaSettings, tmp_path: Path) -> None:
    """Faust's clients take the same settings as ours, and the features come out."""
    with Stream(guarded_kafka, tmp_path) as stream:
        stream.start("features")
        stream.send(conn_source(400))
        topic = stream.topics.features("conn")

        def answered() -> bool:
            with KafkaReader(guarded_kafka) as reader:
                return any(end for _, end in reader.offsets(topic).values())

        stream.wait(answered, "features of a flow")
