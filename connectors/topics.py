"""The topics of an installation: their names, their making and their end."""

import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import kafka.errors
from kafka.admin import ConfigResource, ConfigResourceType

from connectors.errors import BrokerError
from connectors.kafka_client import admin, broker_errors
from connectors.kafka_settings import KafkaSettings

FOREVER = float("inf")

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""What the topics take: a flows message of 1 MB grows behind the features workers."""

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,100}")
_WAIT_S = 30.0
_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """A topic as it should be."""

    name: str
    partitions: int
    replication_factor: int = 1
    retention_ms: int = 7 * 24 * 3600 * 1000
    max_message_bytes: int = MAX_MESSAGE_BYTES

    def to_kafka(self) -> dict[str, Any]:
        """Return what kafka-python's admin client takes."""
        configs = {
            "retention.ms": str(self.retention_ms),
            "max.message.bytes": str(self.max_message_bytes),
            "cleanup.policy": "delete",
        }
        return {
            "num_partitions": self.partitions,
            "replication_factor": self.replication_factor,
            "configs": configs,
        }


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics under a prefix; one prefix carries one record type.

    Examples
    --------
    >>> Topics("site").features("conn")
    'site.features.conn.v1'
    """

    prefix: str = "weir"

    def __post_init__(self) -> None:
        _check_name("prefix", self.prefix)

    @property
    def flows(self) -> str:
        """Flow records, one partition a lane."""
        return f"{self.prefix}.flows.v1"

    @property
    def alerts(self) -> str:
        """Alerts, one JSON document a message."""
        return f"{self.prefix}.alerts.v1"

    @property
    def dead_letters(self) -> str:
        """What could not be read or judged."""
        return f"{self.prefix}.dead-letters.v1"

    def features(self, feature_set: str) -> str:
        """Return the topic of a feature set."""
        return f"{self.prefix}.features.{_check_name('feature set', feature_set)}.v1"

    def detections(self, panel: str) -> str:
        """Return the topic of a panel."""
        return f"{self.prefix}.detections.{_check_name('panel', panel)}.v1"


def _check_name(what: str, name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BrokerError(f"{what} {name!r:.120} does not fit a topic name; use letters, digits, . _ -")
    return name


class TopicAdmin:
    """Makes, describes and deletes topics; close it after use.

    Raises
    ------
    BrokerError
        From every method, in one sentence, if the broker does not answer or refuses.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin = admin(settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._admin.close()

    def names(self) -> list[str]:
        """Return all topics that this user may see, sorted."""
        with broker_errors(self._settings, "list topics"):
            return sorted(self._admin.list_topics())

    def partitions(self, names: Sequence[str]) -> dict[str, int]:
        """Return the partition count of each topic that exists."""
        if not names:
            return {}
        with broker_errors(self._settings, "describe topics"):
            found = self._admin.describe_topics(list(names))
        return {topic["name"]: len(topic["partitions"]) for topic in found if topic["error_code"] == 0}

    def identity(self, name: str) -> str:
        """Return what names a topic and no other one, not even one made anew under its name.

        That is the topic's id, or the cluster's with the name where brokers are too old to have one.
        """
        with broker_errors(self._settings, f"describe {name}"):
            [found] = self._admin.describe_topics([name])
            cluster = self._admin.describe_cluster()["cluster_id"]
        if found["error_code"]:
            raise BrokerError(f"topic {name} does not exist at {self._settings.servers}; create it first")
        topic_id = str(found.get("topic_id") or "")
        return topic_id if topic_id.strip("0-") else f"{cluster},{name}"

    def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the settings of topics as the broker states them; the local broker states none."""
        # All settings, not a few by name: the local broker hangs up when asked for one.
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        if not resources:
            return {}
        with broker_errors(self._settings, f"describe {_listed(names)}"):
            found = self._admin.describe_configs(resources, config_filter="all").get("topic", {})
        return {
            name: {key: str(config["value"]) for key, config in stated.items()}
            for name, stated in found.items()
        }

    def retention_ms(self, names: Sequence[str]) -> dict[str, float]:
        """Return how long topics keep what they hold, for those whose broker says so; inf is for ever."""
        stated = {name: configs.get("retention.ms", "") for name, configs in self.configs(names).items()}
        kept = {name: int(text) for name, text in stated.items() if text.lstrip("-").isdigit()}
        return {name: float(ms) if ms >= 0 else FOREVER for name, ms in kept.items()}

    def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create the topics that are missing and return their names.

        Raises
        ------
        BrokerError
            If one exists with another number of partitions; then none is created.
        """
        missing = self._missing(specs)
        if not missing:
            return []
        with broker_errors(self._settings, f"create {_listed(spec.name for spec in missing)}"):
            try:
                self._admin.create_topics({spec.name: spec.to_kafka() for spec in missing})
            except kafka.errors.TopicAlreadyExistsError:
                self._missing(specs)  # someone was faster: fine, if they made the same
            self._admin.wait_for_topics([spec.name for spec in missing], timeout_ms=round(_WAIT_S * 1000))
        return [spec.name for spec in missing]

    def _missing(self, specs: Sequence[TopicSpec]) -> list[TopicSpec]:
        found = self.partitions([spec.name for spec in specs])
        for spec in specs:
            have = found.get(spec.name, spec.partitions)
            if have != spec.partitions:
                raise BrokerError(
                    f"topic {spec.name} has {have} partitions, expected {spec.partitions}; the number of "
                    "lanes is fixed for a prefix: set topics.lanes to it, take another prefix, or delete it"
                )
        return [spec for spec in specs if spec.name not in found]

    def delete(self, names: Sequence[str]) -> list[str]:
        """Delete the topics that exist, wait until they are gone, and return their names."""
        present = sorted(self.partitions(names))
        if present:
            with broker_errors(self._settings, f"delete {_listed(present)}"):
                self._admin.delete_topics(present, raise_errors=False)
            self._wait_gone(present)
        return present

    def _wait_gone(self, names: list[str]) -> None:
        deadline = time.monotonic() + _WAIT_S
        while left := self.partitions(names):
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"cannot delete {_listed(left)} at {self._settings.servers}: still there after "
                    f"{_WAIT_S:g} s; does the broker allow it (delete.topic.enable)?"
                )
            time.sleep(_POLL_S)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
