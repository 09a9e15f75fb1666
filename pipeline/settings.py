"""Every setting of weir: its default, range, unit and meaning, declared once.

Read from a YAML file, environment variables (WEIR__TOPICS__LANES=8) and the command line
(--set topics.lanes=8), in rising priority.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic import ValidationError as PydanticError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from connectors.checked_yaml import mistakes
from connectors.kafka_settings import KafkaSettings
from pipeline import settings_layers
from pipeline.errors import SettingsError
from pipeline.settings_layers import DELIMITER, ENV_PREFIX, Layer, description, shown
from pipeline.settings_sections import (
    AlertSettings,
    FeatureSettings,
    GroupingSettings,
    LoggingSettings,
    PanelSettings,
    TopicSettings,
    WorkerSettings,
    WriterSettings,
)

CONFIG_VARIABLE = "WEIR_CONFIG"


class Settings(BaseSettings):
    """All settings, checked and frozen.

    Examples
    --------
    >>> Settings().topics.lanes
    4
    """

    model_config = SettingsConfigDict(
        extra="forbid",
        frozen=True,
        validate_default=True,
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=DELIMITER,
        enable_decoding=False,  # text is read by each field's own validator: a, b beats ["a", "b"]
    )

    kafka: KafkaSettings = Field(default_factory=KafkaSettings, description="Connection to Kafka.")
    topics: TopicSettings = Field(default_factory=TopicSettings, description="Topics.")
    writer: WriterSettings = Field(default_factory=WriterSettings, description="Writing flow records.")
    features: FeatureSettings = Field(default_factory=FeatureSettings, description="Features.")
    panel: PanelSettings = Field(default_factory=PanelSettings, description="Models and decision.")
    grouping: GroupingSettings = Field(default_factory=GroupingSettings, description="Grouping of alerts.")
    alerts: AlertSettings = Field(default_factory=AlertSettings, description="Suppression of alerts.")
    worker: WorkerSettings = Field(default_factory=WorkerSettings, description="Worker processes.")
    logging: LoggingSettings = Field(default_factory=LoggingSettings, description="Logs.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 pydantic-settings' signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take only what is given: `load` reads the other sources, and notes where each value came from."""
        return (init_settings,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """One setting as it will be used."""

    path: str
    value: str  # secrets masked
    origin: str  # default, file PATH, environment variable NAME, --set
    description: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Settings and the layers that they came from."""

    settings: Settings
    layers: tuple[Layer, ...]

    def resolved(self) -> Iterator[Resolved]:
        """Yield every setting with its value and where that came from."""
        for path, value in settings_layers.leaves(self.settings):
            yield Resolved(
                path=".".join(path),
                value=shown(path, value),
                origin=settings_layers.origin(self.layers, path),
                description=description(Settings, path),
            )


def load(
    config: Path | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    panel: Path | None = None,
) -> Loaded:
    """Return the settings and where each came from; see `load_settings`."""
    env = os.environ if env is None else env
    config = config or (Path(env[CONFIG_VARIABLE]) if env.get(CONFIG_VARIABLE) else None)
    layers = [settings_layers.file_layer(config)] if config else []
    if panel:
        layers.append(settings_layers.file_layer(panel, section="panel"))
    layers.append(settings_layers.env_layer(Settings, env))
    layers.append(settings_layers.override_layer(Settings, overrides))
    problems = [f"{problem} ({layer.name})" for layer in layers for problem in layer.problems]
    settings, found = _validated(settings_layers.merge(layers))
    problems += [f"{text} ({settings_layers.origin(layers, path)})" for path, text in found]
    if settings is None or problems:
        raise SettingsError("wrong settings:\n" + "\n".join(f"  {problem}" for problem in problems))
    return Loaded(settings=settings, layers=tuple(layers))


def load_settings(
    config: Path | None = None,
    overrides: Mapping[str, Any] | Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    panel: Path | None = None,
) -> Settings:
    """Return the settings of a file, the environment and the command line.

    Parameters
    ----------
    config : Path, optional
        YAML file; the environment variable WEIR_CONFIG where left out.
    overrides : mapping or sequence of str
        Dotted paths and values, or texts as `topics.lanes=8`; they win over everything.
    env : mapping, optional
        The environment; that of the process where left out.
    panel : Path, optional
        YAML file with the settings of the section `panel`; it wins over `config`.

    Raises
    ------
    SettingsError
        With every mistake, its dotted path and where it was given.
    """
    return load(config, overrides, env, panel).settings


def dump_settings(settings: Settings) -> str:
    """Return the settings as JSON for a child process, secrets in clear: never log or store it."""
    return json.dumps(settings.model_dump(), default=_plain)


def _plain(value: Any) -> str:
    return str(value.get_secret_value() if isinstance(value, SecretStr) else value)


def parse_settings(text: str) -> Settings:
    """Return the settings that `dump_settings` wrote."""
    return Settings.model_validate(json.loads(text))


def lint(config: Mapping[str, Any] | Path) -> list[str]:
    """Return every mistake of a settings file or mapping, each with its dotted path.

    Examples
    --------
    >>> lint({"topics": {"lnes": 4}, "grouping": {"bucket_s": -1}})
    ['topics.lnes: unknown setting; did you mean lanes?', 'grouping.bucket_s: -1 is not greater than 0']
    """
    if isinstance(config, Path):
        try:
            config = settings_layers.file_layer(config).values
        except SettingsError as error:
            return [str(error)]
    _, found = _validated(dict(config))
    return [text for _, text in found]


def _validated(values: dict[Any, Any]) -> tuple[Settings | None, list[tuple[tuple[str, ...], str]]]:
    """Return settings or None, and the mistakes that need two sections to be seen included."""
    try:
        # A section whose settings are all commented out reads as None; a key may be no text at all.
        settings = Settings.model_validate({str(k): {} if v is None else v for k, v in values.items()})
    except PydanticError as error:
        return None, mistakes(error, Settings)
    found: list[tuple[tuple[str, ...], str]] = []
    if settings.writer.sensor_lanes and settings.writer.lane_by != "sensor":
        text = f"set with lane_by {settings.writer.lane_by}, which spreads sensors over lanes; keep one"
        found.append((("writer", "sensor_lanes"), f"writer.sensor_lanes: {text}"))
    found += _budget_mistakes(settings.panel, values.get("panel"))
    for sensor, lane in settings.writer.sensor_lanes.items():
        if lane >= settings.topics.lanes:
            path = ("writer", "sensor_lanes", sensor)
            text = f"lane {lane} does not exist; topics.lanes is {settings.topics.lanes}, lanes count from 0"
            found.append((path, f"{'.'.join(path)}: {text}"))
    return settings, found


def _budget_mistakes(panel: PanelSettings, given: Any) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what is wrong with how a panel decides: exactly one of alpha and budget."""
    if panel.budget is not None and (given or {}).get("alpha") is not None:
        text = f"set with panel.budget {panel.budget}, which alpha follows from; keep one"
        yield ("panel", "alpha"), f"panel.alpha: {text}"
    if panel.budget is None and panel.flow_rate is not None:
        text = "set without panel.budget, which it is for; set that, as 5/h, or leave it out"
        yield ("panel", "flow_rate"), f"panel.flow_rate: {text}"
