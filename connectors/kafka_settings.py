"""How to reach Kafka: addresses, TLS, SASL and time limits, declared once."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from connectors.errors import BrokerError

MS = 1000


class KafkaSettings(BaseModel):
    """Connection to Kafka, as every client of it is given.

    Examples
    --------
    >>> KafkaSettings(bootstrap_servers="a:9092, b:9092").bootstrap_servers
    ('a:9092', 'b:9092')
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)

    bootstrap_servers: tuple[str, ...] = Field(
        default=("127.0.0.1:9092",),
        min_length=1,
        description="Brokers to ask first: host:port, comma-separated.",
    )
    client_id: str = Field(
        default="weir", min_length=1, description="Name under which brokers log this client."
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="Protocol of the brokers' listener."
    )
    tls_ca_file: Path | None = Field(default=None, description="PEM file of the authorities to trust.")
    tls_cert_file: Path | None = Field(
        default=None, description="PEM file of our certificate, for mutual TLS."
    )
    tls_key_file: Path | None = Field(default=None, description="PEM file of our private key.")
    tls_key_password: SecretStr | None = Field(default=None, description="Password of the private key.")
    tls_key_password_file: Path | None = Field(default=None, description="File that holds that password.")
    tls_check_hostname: bool = Field(default=True, description="Whether the certificate must name the host.")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        default=None, description="How to log in, with a SASL_* protocol."
    )
    sasl_user: str | None = Field(default=None, description="User to log in as.")
    sasl_password: SecretStr | None = Field(default=None, description="Password of the user.")
    sasl_password_file: Path | None = Field(default=None, description="File that holds that password.")
    connect_timeout_s: float = Field(
        default=5.0,
        gt=0,
        le=600,
        description="Longest wait for a first answer of any broker.",
        json_schema_extra={"unit": "s"},
    )
    request_timeout_s: float = Field(
        default=20.0,
        ge=1,
        le=600,
        description="Longest wait for the answer to one request.",
        json_schema_extra={"unit": "s"},
    )
    delivery_timeout_s: float = Field(
        default=60.0,
        ge=1,
        le=3600,
        description="How long a message is sent again before the broker counts as gone.",
        json_schema_extra={"unit": "s"},
    )

    @field_validator("bootstrap_servers", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Take `a:9092,b:9092` as well as a list."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.strip("[] ").split(",") if part.strip())
        return value

    @field_validator("bootstrap_servers")
    @classmethod
    def _have_ports(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for server in value:
            host, _, port = server.rpartition(":")
            if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
                raise ValueError(f"{server!r} is no broker address, expected host:port")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in ("tls_key_password", "sasl_password"):
            if getattr(self, name) and getattr(self, f"{name}_file"):
                raise ValueError(f"{name} and {name}_file are both set; keep one")
        if bool(self.tls_cert_file) != bool(self.tls_key_file):
            raise ValueError("tls_cert_file and tls_key_file go together; set both or none")
        if self.uses_sasl:
            self._check_login()
        if self.delivery_timeout_s < self.request_timeout_s:
            raise ValueError(
                f"delivery_timeout_s {self.delivery_timeout_s:g} is less than "
                f"request_timeout_s {self.request_timeout_s:g}; it must allow at least one request"
            )
        return self

    def _check_login(self) -> None:
        has_password = self.sasl_password or self.sasl_password_file
        if not (self.sasl_mechanism and self.sasl_user and has_password):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_mechanism, sasl_user and "
                "sasl_password or sasl_password_file"
            )

    @property
    def uses_sasl(self) -> bool:
        """Whether clients log in."""
        return self.security_protocol.startswith("SASL_")

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    @property
    def servers(self) -> str:
        """The brokers as one text, for messages."""
        return ",".join(self.bootstrap_servers)

    def password(self) -> str | None:
        """Return the SASL password, from its file if need be."""
        return _secret(self.sasl_password, "sasl_password_file", self.sasl_password_file)

    def key_password(self) -> str | None:
        """Return the password of the private key, from its file if need be."""
        return _secret(self.tls_key_password, "tls_key_password_file", self.tls_key_password_file)

    def client_options(self) -> dict[str, Any]:
        """Return what every kafka-python client (producer, consumer, admin) takes.

        Raises
        ------
        BrokerError
            If a file of a certificate, key or password cannot be read.
        """
        return {
            "bootstrap_servers": list(self.bootstrap_servers),
            "client_id": self.client_id,
            "security_protocol": self.security_protocol,
            "bootstrap_timeout_ms": round(self.connect_timeout_s * MS),
            "request_timeout_ms": round(self.request_timeout_s * MS),
            # Without it the wait between attempts grows to 30 s, and so does every outage.
            "reconnect_backoff_max_ms": MS,
            **(self._tls_options() if self.uses_tls else {}),
            **(self._sasl_options() if self.uses_sasl else {}),
        }

    def _tls_options(self) -> dict[str, Any]:
        for name in ("tls_ca_file", "tls_cert_file", "tls_key_file"):
            path = getattr(self, name)
            if path is not None:
                _read(name, path)
        return {
            "ssl_check_hostname": self.tls_check_hostname,
            "ssl_cafile": self.tls_ca_file and str(self.tls_ca_file),
            "ssl_certfile": self.tls_cert_file and str(self.tls_cert_file),
            "ssl_keyfile": self.tls_key_file and str(self.tls_key_file),
            "ssl_password": self.key_password(),
        }

    def _sasl_options(self) -> dict[str, Any]:
        return {
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_user,
            "sasl_plain_password": self.password(),
        }


def _secret(value: SecretStr | None, name: str, path: Path | None) -> str | None:
    if value is not None:
        return value.get_secret_value()
    return None if path is None else _read(name, path).strip()


def _read(name: str, path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BrokerError(f"kafka.{name}: {path} cannot be read ({error}); check the path") from error
