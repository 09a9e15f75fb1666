"""TLS and SASL as settings, against a real Apache Kafka that asks for both."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from brokers import conn_source, flow_ids, flow_specs, fresh_topics, write_all
from pydantic import SecretStr

from connectors.broker_kafka import kafka_broker, missing_tools
from connectors.broker_local import free_port
from connectors.errors import BrokerError
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin

pytestmark = pytest.mark.kafka


def _certificate(folder: Path) -> Path:
    """Make the broker's key store, and return the certificate that clients trust."""
    store, pem = folder / "broker.p12", folder / "ca.pem"
    common = ["keytool", "-keystore", str(store), "-storepass", "store-secret", "-alias", "broker"]
    make = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=127.0.0.1", "-ext", "san=ip:127.0.0.1"]
    subprocess.run([*common, *make, "-validity", "2"], check=True, capture_output=True)
    subprocess.run([*common, "-exportcert", "-rfc", "-file", str(pem)], check=True, capture_output=True)
    return pem


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """Run a Kafka with a second listener, for user alice over TLS."""
    if missing := missing_tools() or ("" if shutil.which("keytool") else "keytool"):
        pytest.skip(f"Apache Kafka with TLS needs {missing}, not installed here")
    folder = tmp_path_factory.mktemp("tls")
    pem, port, guarded_port, controller = _certificate(folder), free_port(), free_port(), free_port()
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded_port},"
        f"CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port},GUARDED://127.0.0.1:{guarded_port}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,GUARDED:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain."
        'PlainLoginModule required user_alice="alice-secret";',
        "listener.name.guarded.ssl.keystore.location": str(folder / "broker.p12"),
        "listener.name.guarded.ssl.keystore.password": "store-secret",
    }
    with kafka_broker(port, properties=properties):
        yield KafkaSettings(
            bootstrap_servers=(f"127.0.0.1:{guarded_port}",),
            security_protocol="SASL_SSL",
            tls_ca_file=pem,
            sasl_mechanism="PLAIN",
            sasl_user="alice",
            sasl_password=SecretStr("alice-secret"),
            connect_timeout_s=3,
        )


def test_a_source_goes_through_tls_and_login(guarded: KafkaSettings) -> None:
    """Admin, writer and reader all use the same settings."""
    topics, source = fresh_topics(), conn_source(500)
    with TopicAdmin(guarded) as admin:
        admin.create(flow_specs(topics))
    write_all(guarded, topics, source)

    assert len(set(flow_ids(guarded, topics.flows))) == 480


def _refusal(settings: KafkaSettings) -> str:
    begun = time.monotonic()
    with pytest.raises(BrokerError) as caught:
        KafkaReader(settings)
    assert time.monotonic() - begun < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_wrong_password_is_said(guarded: KafkaSettings) -> None:
    """Soon, and without the password in the sentence."""
    text = _refusal(guarded.model_copy(update={"sasl_password": SecretStr("guess-work")}))

    assert "check user and password" in text
    assert "guess-work" not in text


def test_a_broker_of_another_authority_is_refused(guarded: KafkaSettings, tmp_path: Path) -> None:
    """A certificate that we do not trust ends in an error that names the setting to look at."""
    text = _refusal(guarded.model_copy(update={"tls_ca_file": _certificate(tmp_path)}))

    assert "CERTIFICATE_VERIFY_FAILED" in text
    assert "kafka.security_protocol" in text


def test_the_wrong_protocol_is_an_error_in_time(guarded: KafkaSettings) -> None:
    """Plain text to a TLS port: nobody waits for ever."""
    assert "no answer from Kafka" in _refusal(
        KafkaSettings(bootstrap_servers=guarded.bootstrap_servers, connect_timeout_s=3)
    )
