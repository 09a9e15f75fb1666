"""Clients of kafka-python, with every failure as one sentence."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import kafka.errors
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.net.compat import KafkaNetClient
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

from connectors.errors import BrokerError, RefusedError
from connectors.kafka_settings import KafkaSettings

# Its warnings are repeated in our errors; without a handler Python prints them on stderr.
logging.getLogger("kafka").addHandler(logging.NullHandler())

Receive = Callable[[Any], tuple[bytes, Exception | None]]
"""Of a transport of kafka-python: all bytes that there are, and why there will be no more."""


def _data_first(receive: Receive) -> Receive:
    """Return what hands on the last bytes of a connection before its end, which the next call meets again.

    kafka-python 3.0 drops bytes that arrive together with the end: on a busy machine that is the answer
    to a refused login, which then looks like a broker that is away, and is tried again for ever.
    """

    def received(transport: Any) -> tuple[bytes, Exception | None]:
        data, error = receive(transport)
        return data, None if data else error

    return received


for _transport in (KafkaTCPTransport, KafkaSSLTransport):
    _transport._sock_recv = _data_first(_transport._sock_recv)  # noqa: SLF001 - there is no hook

_ADVICE: dict[type[Exception], str] = {
    kafka.errors.UnknownTopicOrPartitionError: "the topic does not exist; create the topics first",
    kafka.errors.SaslAuthenticationFailedError: "the broker refused the login; check user and password",
    kafka.errors.TopicAuthorizationFailedError: "this user may not use the topic; ask for the right to it",
    kafka.errors.GroupAuthorizationFailedError: "this user may not see the group; ask for the right to it",
    kafka.errors.InvalidReplicationFactorError: "there are fewer brokers than copies asked for; "
    "lower the replication factor",
    kafka.errors.MessageSizeTooLargeError: "a message is larger than the topic takes; "
    "raise its max.message.bytes or send fewer rows a message",
}

_REFUSALS = (
    kafka.errors.SaslAuthenticationFailedError,
    kafka.errors.TopicAuthorizationFailedError,
    kafka.errors.GroupAuthorizationFailedError,
)
"""Answers that stay the same until a person changes something."""


@contextmanager
def broker_errors(settings: KafkaSettings, doing: str) -> Iterator[None]:
    """Turn what kafka-python raises while `doing` something into a BrokerError of one sentence."""
    try:
        yield
    except (kafka.errors.KafkaError, OSError) as error:
        raise _told(settings, doing, error) from error


def _told(settings: KafkaSettings, doing: str, error: BaseException) -> BrokerError:
    kind = RefusedError if isinstance(error, _REFUSALS) else BrokerError
    return kind(sentence(settings, doing, error))


def sentence(settings: KafkaSettings, doing: str, error: BaseException) -> str:
    """Return what failed, where, why, and what to do."""
    for known, advice in _ADVICE.items():
        if isinstance(error, known):
            return f"cannot {doing} at {settings.servers}: {advice}"
    text = " ".join(str(error).split())[:300]
    text = text.removeprefix("KafkaTimeoutError: ").replace("KafkaConnectionError: ", "")
    if isinstance(error, kafka.errors.KafkaTimeoutError | kafka.errors.KafkaConnectionError):
        # A refused login is often heard of only as a closed connection.
        login = ", or check user and password" if settings.uses_sasl else ""
        return (
            f"cannot {doing}: no answer from Kafka at {settings.servers} ({text}); "
            f"start the broker, or correct kafka.bootstrap_servers and kafka.security_protocol{login}"
        )
    return f"cannot {doing} at {settings.servers}: {text}"


class _Causes(logging.Handler):
    """Why a client could not connect: kafka-python logs it, and raises only that time is up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._last = ""
        self._refused = ""
        self.reached = False

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "SaslAuthenticationFailedError" in text:
            self._refused = text
        elif text.startswith("Bootstrap connection"):
            self._last = text.partition(" failed: ")[2].rpartition(" (backoff")[0]

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Listen to kafka-python while it connects."""
        logger = logging.getLogger("kafka.net")
        logger.addHandler(self)
        try:
            yield
            self.reached = True
        finally:
            logger.removeHandler(self)

    def better(self, error: Exception) -> Exception:
        """Return the error with its cause, where one was heard of."""
        if not isinstance(error, kafka.errors.KafkaTimeoutError):
            return error
        if self._refused:
            refused: Exception = kafka.errors.SaslAuthenticationFailedError(self._refused)
            return refused
        told: Exception = kafka.errors.KafkaTimeoutError(self._last or str(error))
        return told


def _connected(settings: KafkaSettings, kind: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Return a client that has reached a broker; one that has not leaves nothing running.

    kafka-python would go on trying in a thread of the client that nobody got.
    """
    opened: list[Any] = []
    causes = _Causes()

    def network(**configs: Any) -> Any:
        opened.append(KafkaNetClient(**configs))
        return opened[-1]

    try:
        with causes.collected():
            return kind(kafka_client=network, **settings.client_options(), **options)
    except (kafka.errors.KafkaError, OSError) as error:
        raise _told(settings, "reach Kafka", causes.better(error)) from error
    finally:
        if not causes.reached:
            for client in opened:
                client.close()


def admin(settings: KafkaSettings) -> Any:
    """Return an admin client; at most `connect_timeout_s` later there is an error."""
    return _connected(settings, KafkaAdminClient, {})


def consumer(settings: KafkaSettings, **options: Any) -> Any:
    """Return a consumer without a group, which never commits."""
    fixed = {
        "group_id": None,
        "enable_auto_commit": False,
        "auto_offset_reset": "none",
        "allow_auto_create_topics": False,
    }
    return _connected(settings, KafkaConsumer, fixed | options)


def producer(settings: KafkaSettings, **options: Any) -> Any:
    """Return an idempotent producer that waits for all replicas."""
    fixed = {
        "enable_idempotence": True,
        "acks": "all",
        "allow_auto_create_topics": False,
        "delivery_timeout_ms": round(settings.delivery_timeout_s * 1000),
        "max_block_ms": round(settings.request_timeout_s * 1000),
    }
    return _connected(settings, KafkaProducer, fixed | options)
