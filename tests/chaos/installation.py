"""An installation of weir under a prefix of its own: settings, topics, commands, ledger."""

import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from datasets import DATA, ROOT, WEIR, Traffic
from ledger import Books, Ledger, Message, Place
from members import Member

from connectors.kafka_settings import KafkaSettings
from connectors.publish import publish
from connectors.topics import TopicAdmin
from pipeline.settings import load_settings
from pipeline.settings_sections import FeatureSettings
from pipeline.topic_plan import topic_specs

# Short waits: a round should see many recoveries. In production they are ten times as long.
_WORKER = {"port": None, "session_timeout_s": 6, "commit_interval_s": 0.5, "watchdog_s": 10}
_KAFKA = {"request_timeout_s": 10, "delivery_timeout_s": 20}

HAS_INLINE = "inline" in FeatureSettings.model_fields
"""Whether this build can make features in the detect worker."""


class Installation:
    """Topics and settings of a stream.

    Parameters
    ----------
    direct, public : str
        Address of the broker for us, and the one that the processes of the stream use.
    folder : Path
        For settings, state and logs; made here.
    prefix : str
        Of topics and groups.
    traffic : Traffic
        What is judged, and by which model of `models`.
    inline : bool
        Whether the detect workers make the features themselves.
    """

    def __init__(
        self,
        direct: str,
        public: str,
        folder: Path,
        prefix: str,
        traffic: Traffic,
        models: Path,
        *,
        inline: bool = False,
        **sections: Mapping[str, Any],
    ) -> None:
        self.folder, self.prefix, self.traffic, self.inline = folder, prefix, traffic, inline
        self.direct = KafkaSettings(bootstrap_servers=(direct,))
        self._servers = direct
        folder.mkdir(parents=True)
        self.config = folder / "weir.yaml"
        self.config.write_text(yaml.safe_dump(self._settings(public, models, sections)))
        settings = load_settings(self.config, env={})
        with TopicAdmin(self.direct) as admin:
            admin.create(topic_specs(settings))
        self.flows = f"{prefix}.flows.v1"
        hops = [f"{prefix}-features-{traffic.feature_set}", f"{prefix}-detect-main"]
        self.groups = [*([f"{prefix}-inline-main"] if inline else hops), f"{prefix}-alerts-main"]

    def _settings(
        self, public: str, models: Path, sections: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {
            "kafka": {"bootstrap_servers": public, **_KAFKA},
            "topics": {"prefix": self.prefix, "lanes": len(self.traffic.sensors)},
            "worker": {**_WORKER, "state_dir": str(self.folder / "state")},
            "logging": {"format": "json"},
        }
        for given in (self.traffic.sections(models), sections):
            for name, section in given.items():
                found[name] = {**found.get(name, {}), **section}
        if self.inline:
            found["features"]["inline"] = True
        return found

    @property
    def stages(self) -> tuple[str, ...]:
        """The stages that have workers."""
        return ("detect", "alerts") if self.inline else ("features", "detect", "alerts")

    def worker(self, stage: str, name: str, env: Mapping[str, str], explained: frozenset[int]) -> Member:
        """Return a worker of a stage, not yet started."""
        command = [*WEIR, "worker", stage, "-c", str(self.config), "--from", "earliest"]
        return self._member(stage, name, command, env, explained)

    def connector(self, sensor: str, speed: float) -> Member:
        """Return the connector of a sensor, not yet started."""
        command = self.traffic.replay(sensor, self.config, speed)
        return self._member("connector", f"connector-{sensor}", command, {}, frozenset())

    def _member(
        self, role: str, name: str, command: list[str], env: Mapping[str, str], explained: frozenset[int]
    ) -> Member:
        paths = os.pathsep.join([*filter(None, [env.get("PYTHONPATH")]), str(ROOT)])
        given = {"OPENBLAS_NUM_THREADS": "1", "WEIR_DATA": str(DATA), **env, "PYTHONPATH": paths}
        return Member(role, name, command, self.folder / f"{name}.log", given, explained)

    def ledger(self) -> Ledger:
        """Return a reader of its topics, past the proxy."""
        return Ledger(self._servers, self.prefix, self.groups)

    def put(self, messages: Iterable[tuple[Place, Message]]) -> None:
        """Bring messages into the flows topic, in their lanes, as they are."""
        ready = [(self.flows, place[0], m.value, list(m.headers.items())) for place, m in messages]
        publish(self.direct, ready)

    def drop(self) -> None:
        """Delete its topics: their data would slow down the broker's next start."""
        with TopicAdmin(self.direct) as admin:
            mine = [name for name in admin.names() if name.startswith(f"{self.prefix}.")]
            admin.delete(mine)


def is_settled(books: Books, alerts_lag: float, lost: Collection[Place] = ()) -> bool:
    """Whether every flows message is answered, and every answer went through the alerts stage."""
    return bool(books.messages["flows"]) and not books.unanswered(lost) and alerts_lag == 0
