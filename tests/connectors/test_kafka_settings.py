"""Kafka settings: what is accepted, and what clients are given."""

import time
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from connectors.errors import BrokerError
from connectors.kafka_reader import KafkaReader
from connectors.kafka_settings import KafkaSettings
from connectors.topics import TopicAdmin

SASL = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN", "sasl_user": "u"}


def test_servers_are_a_list_or_a_text() -> None:
    """A comma-separated text gives the same servers as a list."""
    expected = ("a:1", "b:2")

    assert expected == KafkaSettings.model_validate({"bootstrap_servers": "a:1, b:2"}).bootstrap_servers
    assert expected == KafkaSettings.model_validate({"bootstrap_servers": ["a:1", "b:2"]}).bootstrap_servers


@pytest.mark.parametrize("server", ["kafka", "kafka:", ":9092", "kafka:99999", "kafka:x", ""])
def test_a_server_needs_host_and_port(server: str) -> None:
    """An address that cannot be one is refused before anything waits for it."""
    with pytest.raises(ValidationError, match="bootstrap_servers"):
        KafkaSettings.model_validate({"bootstrap_servers": server})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"security_protocol": "SASL_SSL"}, "needs sasl_mechanism, sasl_user and sasl_password"),
        (SASL, "needs sasl_mechanism, sasl_user and sasl_password"),
        (
            {**SASL, "sasl_password": "p", "sasl_password_file": "f"},
            "sasl_password and sasl_password_file are both set",
        ),
        ({"tls_cert_file": "c"}, "tls_cert_file and tls_key_file go together"),
        ({"delivery_timeout_s": 2, "request_timeout_s": 3}, "delivery_timeout_s 2 is less than"),
        ({"bootstrap": "a:1"}, "Extra inputs are not permitted"),
    ],
)
def test_half_settings_are_refused(given: dict[str, object], expected: str) -> None:
    """What cannot work together is said, by name."""
    with pytest.raises(ValidationError, match=expected):
        KafkaSettings.model_validate(given)


def test_the_password_comes_from_its_file(tmp_path: Path) -> None:
    """A password file gives the same client options as the password; its line end does not count."""
    file = tmp_path / "password"
    file.write_text("secret\n")
    direct = KafkaSettings.model_validate({**SASL, "sasl_password": "secret"})
    from_file = KafkaSettings.model_validate({**SASL, "sasl_password_file": file})

    assert direct.client_options() == from_file.client_options()
    assert from_file.client_options()["sasl_plain_password"] == "secret"


def test_secrets_are_not_shown() -> None:
    """Printing the settings shows no password."""
    settings = KafkaSettings.model_validate({**SASL, "sasl_password": SecretStr("hunter2")})

    assert "hunter2" not in f"{settings!r} {settings.model_dump_json()}"


def test_a_missing_certificate_is_named() -> None:
    """A TLS file that cannot be read is an error with its setting and path."""
    settings = KafkaSettings(security_protocol="SSL", tls_ca_file=Path("no/ca.pem"))

    with pytest.raises(BrokerError, match=r"kafka.tls_ca_file: no/ca.pem cannot be read"):
        settings.client_options()


@pytest.mark.parametrize("client", [TopicAdmin, KafkaReader])
def test_an_unreachable_broker_is_one_sentence(
    client: type[TopicAdmin | KafkaReader], capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody listens: an error within seconds that says where and what to do, and nothing else."""
    begun = time.monotonic()
    with pytest.raises(
        BrokerError, match=r"no answer from Kafka at 127.0.0.1:1 .*start the broker"
    ) as caught:
        client(KafkaSettings(bootstrap_servers=("127.0.0.1:1",), connect_timeout_s=1))

    assert time.monotonic() - begun < 5
    assert "\n" not in str(caught.value)
    assert tuple(capfd.readouterr()) == ("", "")
