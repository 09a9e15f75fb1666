"""Every setting of weir: its default, range, unit and meaning, declared once.

Read from a YAML file, environment variables (WEIR__TOPICS__LANES=8) and the command line
(--set topics.lanes=8), in rising priority.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic import ValidationError as PydanticError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from connectors.checked_yaml import mistakes
from connectors.kafka_settings import KafkaSettings
from pipeline import settings_layers
from pipeline.budget import per_hour
from pipeline.errors import SettingsError
from pipeline.settings_layers import DELIMITER, ENV_PREFIX, Layer, description, shown, text_list, text_mapping

CONFIG_VARIABLE = "WEIR_CONFIG"
NAME = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"
"""What Kafka takes in a topic name, without upper case."""

Hours = Annotated[float, Field(gt=0, le=87_600, json_schema_extra={"unit": "h"})]
Name = Annotated[str, Field(pattern=NAME, max_length=100)]


def _rate(text: str | None) -> str | None:
    if text is not None:
        per_hour(text)  # says what is wrong
    return text


class Section(BaseModel):
    """A group of settings; unknown names are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class TopicSettings(Section):
    """The topics of this installation."""

    prefix: Name = Field(
        default="weir", description="First part of every topic name; one prefix, one record type."
    )
    lanes: int = Field(
        default=4, ge=1, le=4096, description="Partitions of the flows topic; fixed for the life of a prefix."
    )
    replication_factor: int = Field(
        default=1, ge=1, le=32767, description="Copies of each topic: 1 on a single broker, 3 in production."
    )
    flows_retention_h: Hours = Field(default=72.0, description="How long flows are kept.")
    features_retention_h: Hours = Field(
        default=72.0,
        description="How long features are kept: the features worker's journal, so no less than flows.",
    )
    detections_retention_h: Hours = Field(
        default=168.0,
        description="How long detections are kept: the detect worker's journal, so no less than flows.",
    )
    alerts_retention_h: Hours = Field(default=720.0, description="How long alerts are kept.")
    dead_letters_retention_h: Hours = Field(default=720.0, description="How long dead letters are kept.")

    @field_validator("features_retention_h", "detections_retention_h")
    @classmethod
    def _outlives_flows(cls, value: float, info: ValidationInfo) -> float:
        flows = info.data.get("flows_retention_h", 0.0)
        if value < flows:
            raise ValueError(
                f"{value:g} is less than flows_retention_h {flows:g}; the journal of a lane "
                "must outlive its flows, or a restarted worker loses its windows"
            )
        return value


class WriterSettings(Section):
    """How flow records are packed into messages."""

    rows: int = Field(default=4000, ge=1, le=100_000, description="Most records in one message.")
    size_bytes: int = Field(
        default=1_000_000,
        ge=10_000,
        le=8_000_000,
        description="Most bytes in one message.",
        json_schema_extra={"unit": "bytes"},
    )
    linger_s: float = Field(
        default=0.5,
        ge=0,
        le=60,
        description="Longest wait for a message to fill.",
        json_schema_extra={"unit": "s"},
    )
    lane_by: Literal["sensor", "src", "dst"] = Field(
        default="sensor", description="What keeps records in one lane; src and dst spread a busy sensor."
    )
    sensor_lanes: Annotated[Mapping[str, Annotated[int, Field(ge=0)]], BeforeValidator(text_mapping)] = Field(
        default_factory=dict,
        description="Lane of a sensor, from 0; others go by a stable hash of their name.",
    )


class FeatureSettings(Section):
    """What the models see of a flow."""

    feature_set: Name = Field(default="conn", description="Feature set computed by the features workers.")
    inline: bool = Field(
        default=False,
        description="Features and verdicts in one process, without a features topic: detect workers read "
        "flows. For one panel; several panels share the features of one features stage.",
    )
    max_message_rows: int = Field(
        default=16_000,
        ge=1,
        le=1_000_000,
        description="Most records accepted in one flows message; a larger one is a dead letter.",
    )


class PanelSettings(Section):
    """The models deployed together that give one verdict a flow."""

    name: Name = Field(default="main", description="Name of the panel, in topic and group names.")
    models: Annotated[tuple[str, ...], BeforeValidator(text_list)] = Field(
        default=(), description="Bundles that decide: NAME (newest version), NAME/VERSION, or a path."
    )
    shadow: Annotated[tuple[str, ...], BeforeValidator(text_list)] = Field(
        default=(), description="Bundles that are scored and reported in alerts and metrics, never deciding."
    )
    models_dir: Path = Field(
        default=Path("models"), description="Folder where bundles are looked up by name."
    )
    alpha: float = Field(
        default=1e-4,
        ge=1e-12,
        le=1,
        description="False-alarm rate per flow: flagged if p <= alpha. Give this or budget.",
    )
    budget: Annotated[str | None, AfterValidator(_rate)] = Field(
        default=None,
        description="False alarms that are acceptable, all lanes together, as 5/h or 2/d: alpha follows "
        "from it and from flow_rate.",
    )
    flow_rate: Annotated[str | None, AfterValidator(_rate)] = Field(
        default=None,
        description="Flows that the budget is spent on, all lanes together, as 300/s; left out: the rate "
        "of the training data.",
    )
    collect_flows: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Flows that models are to learn from: while a model of the panel does not exist yet, a "
        "detect worker waits, live and not ready, and says how many there are. Left out: it does not start.",
    )
    drift_alerts: bool = Field(
        default=True, description="An alert, one an hour and lane at most, where normal traffic has moved."
    )
    fusion: str = Field(
        default="min",
        min_length=1,
        description="How p-values of several models become one: min (smallest times their number), mean (e "
        "times the geometric mean), or the name of the one model that decides.",
    )


class GroupingSettings(Section):
    """How flagged flows become few alerts."""

    enabled: bool = Field(default=True, description="Off: every flagged flow is an alert of its own.")
    bucket_s: float = Field(
        default=60.0,
        gt=0,
        le=86_400,
        description="Width of a group on the lane clock.",
        json_schema_extra={"unit": "s"},
    )
    first: int = Field(
        default=3,
        ge=0,
        le=1000,
        description="Flagged flows of a group published one by one before the summary.",
    )


class AlertSettings(Section):
    """What becomes of alerts."""

    suppressions: Path | None = Field(
        default=None,
        description="YAML file that says which flagged flows make no alert, why and until when; read by the "
        "detect workers at their start.",
    )


class WorkerSettings(Section):
    """How a worker process runs."""

    state_dir: Path = Field(
        default=Path("state"), description="Folder for attempt counts; must outlive a restart."
    )
    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address of the metrics and health port."
    )
    port: int | None = Field(
        default=9464,
        ge=0,
        le=65_535,
        description="Port of /metrics, /live and /ready; 0 takes a free one, null none.",
    )
    watchdog_s: float = Field(
        default=60.0,
        ge=5,
        le=3600,
        description="A worker that has lag and no progress for this long ends itself, to be restarted.",
        json_schema_extra={"unit": "s"},
    )
    session_timeout_s: float = Field(
        default=10.0,
        ge=6,
        le=300,
        description="Silence after which Kafka gives a worker's lanes to another.",
        json_schema_extra={"unit": "s"},
    )
    stream_buffer: int = Field(
        default=32, ge=1, le=4096, description="Messages held between fetching and judging."
    )
    fetch_max_bytes: int = Field(
        default=4_194_304,
        ge=65_536,
        le=104_857_600,
        description="Most bytes fetched of one partition at once.",
        json_schema_extra={"unit": "bytes"},
    )
    commit_interval_s: float = Field(
        default=2.0,
        ge=0.1,
        le=60,
        description="How often offsets are committed.",
        json_schema_extra={"unit": "s"},
    )
    poison_attempts: int = Field(
        default=2,
        ge=1,
        le=100,
        description="Worker deaths on one message before it is tried in a child process.",
    )


class LoggingSettings(Section):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level logged."
    )
    format: Literal["auto", "json", "console"] = Field(
        default="auto", description="auto: console on a terminal, JSON lines elsewhere."
    )


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
