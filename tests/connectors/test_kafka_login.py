"""TLS and SASL as settings, against a real Apache Kafka that asks for both."""

import time
from pathlib import Path

import pytest
from brokers import certificate, conn_source, flow_ids, flow_specs, fresh_topics, write_all
from pydantic import SecretStr

from connectors.errors import BrokerError
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin

pytestmark = pytest.mark.kafka


def test_a_source_goes_through_tls_and_login(guarded_kafka: KafkaSettings) -> None:
    """Admin, writer and reader all use the same settings."""
    topics, source = fresh_topics(), conn_source(500)
    with TopicAdmin(guarded_kafka) as admin:
        admin.create(flow_specs(topics))
    write_all(guarded_kafka, topics, source)

    assert len(set(flow_ids(guarded_kafka, topics.flows))) == 480


def _refusal(settings: KafkaSettings) -> str:
    begun = time.monotonic()
    with pytest.raises(BrokerError) as caught:
        KafkaReader(settings)
    assert time.monotonic() - begun < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_password_is_said(guarded_kafka: KafkaSettings) -> None:
    """Soon, and without the password in the sentence."""
    text = _refusal(guarded_kafka.model_copy(update={"sasl_password": SecretStr("guess-work")}))

    assert "check user and password" in text
    assert "guess-work" not in text


def test_a_broker_of_another_authority_is_refused(guarded_kafka: KafkaSettings, tmp_path: Path) -> None:
    """A certificate that we do not trust ends in an error that names the setting to look at."""
    text = _refusal(guarded_kafka.model_copy(update={"tls_ca_file": certificate(tmp_path)}))

    assert "CERTIFICATE_VERIFY_FAILED" in text
    assert "kafka.security_protocol" in text


def test_the_wrong_protocol_is_an_error_in_time(guarded_kafka: KafkaSettings) -> None:
    """Plain text to a TLS port: nobody waits for ever."""
    assert "no answer from Kafka" in _refusal(
        KafkaSettings(bootstrap_servers=guarded_kafka.bootstrap_servers, connect_timeout_s=3)
    )
