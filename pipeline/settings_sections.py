"""The groups of settings: each setting with its default, range, unit and meaning, declared once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from pipeline.budget import per_hour
from pipeline.settings_layers import text_list, text_mapping

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
    flows_retention_h: Hours = Field(
        default=72.0, description="How long flows are kept; the set `conn` looks an hour back."
    )
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
