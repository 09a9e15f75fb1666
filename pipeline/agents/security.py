"""Faust's credentials from the Kafka settings."""

import ssl

import faust
from faust.auth import Credentials

from connectors.kafka_settings import KafkaSettings


def broker_credentials(settings: KafkaSettings) -> Credentials | None:
    """Return the credentials for Faust's own clients, None for a plain connection."""
    protocol = settings.security_protocol
    context = _tls(settings) if protocol.endswith("SSL") else None
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.sasl_user,
            password=settings.password(),
            mechanism=settings.sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


def _tls(settings: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.tls_ca_file)
    context.check_hostname = settings.tls_check_hostname
    if settings.tls_cert_file:
        context.load_cert_chain(
            settings.tls_cert_file, settings.tls_key_file, password=settings.key_password()
        )
    return context
