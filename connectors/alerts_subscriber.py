"""Alerts as a subscriber wants them: each once, decoded."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import msgspec
import structlog

from connectors.kafka_reader import KafkaReader, Message, Start
from connectors.kafka_settings import KafkaSettings
from connectors.topics import Topics

REMEMBERED = 100_000
"""Ids kept to know a repeat by; a few megabytes."""

OnBad = Callable[[Message, str], None]
"""Told of a message that is no alert, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedAlert:
    """An alert, decoded, and its bytes as published."""

    alert: dict[str, Any]
    raw: bytes
    message: Message


def _log_bad(message: Message, why: str) -> None:
    log = structlog.get_logger()
    log.warning(
        "alert_not_readable",
        topic=message.topic,
        partition=message.partition,
        offset=message.offset,
        why=why,
    )


class AlertsSubscriber:
    """Follows the alerts topic and drops repeats, which redelivery may cause, by their id.

    Parameters
    ----------
    settings : KafkaSettings
        Where the brokers are.
    topics : Topics
        Names.
    remembered : int
        Number of ids to know a repeat by.
    on_bad : callable
        Told of what is not JSON; nothing of that kind ends the subscription.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topics: Topics,
        *,
        remembered: int = REMEMBERED,
        on_bad: OnBad = _log_bad,
    ) -> None:
        self._topic = topics.alerts
        self._remembered = remembered
        self._on_bad = on_bad
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._reader = KafkaReader(settings)
        self.n_repeats = 0
        self.n_bad = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._reader.close()

    def follow(
        self,
        start: Start = "latest",
        *,
        stop: threading.Event | None = None,
        idle_timeout_s: float | None = None,
    ) -> Iterator[ReceivedAlert]:
        """Yield alerts as they come, each id once; see `KafkaReader.follow` for when it ends."""
        for message in self._reader.follow(self._topic, start, stop=stop, idle_timeout_s=idle_timeout_s):
            received = self._decode(message)
            if received is not None and not self._is_repeat(received.alert):
                yield received

    def _decode(self, message: Message) -> ReceivedAlert | None:
        raw = message.value or b""
        try:
            alert = msgspec.json.decode(raw, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.n_bad += 1
            self._on_bad(message, f"{error}; expected one JSON object")
            return None
        return ReceivedAlert(alert=alert, raw=raw, message=message)

    def _is_repeat(self, alert: dict[str, Any]) -> bool:
        event = alert.get("event")
        alert_id = event.get("id") if isinstance(event, dict) else None
        if not isinstance(alert_id, str):
            return False  # not ours, but JSON: let the subscriber see it
        if alert_id in self._seen:
            self._seen.move_to_end(alert_id)
            self.n_repeats += 1
            return True
        self._seen[alert_id] = None
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return False
