"""What a closed window says of normal traffic, and the alert where it has moved.

A drift is no intrusion, and its alert no verdict on a flow: `event.kind` is `state`, "the condition of
something" in the Elastic Common Schema, so that whoever asks for `event.kind: alert` gets flows alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from detectors.base import Scores
from pipeline.alert import ECS_VERSION, Alert, rounded, time_text
from pipeline.errors import JournalError
from pipeline.publication import digest, judges
from pipeline.quantities import quantity
from pipeline.words import feature_text

SEVERITY = 47
"""Medium: nothing is under attack, but every verdict may be off."""

NAMED = 3
"""Features that its sentence names."""

_CAUSES = {
    "psi": "features lie elsewhere than in training",
    "uniformity": "scores lie elsewhere than in calibration",
    "flagged": "most flows are flagged",
}

TO_DO = (
    "look at what has changed at the sensors of this lane; if it is normal, train again on recent traffic "
    "(weir train conn --from capture/) and put the new model into the panel"
)


class Moved(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A feature that has moved: its index, and where its distribution differs most."""

    name: str
    kind: str
    unit: str
    statistic: float  # stability index
    limit: float
    observed: float  # share of the flows of the window that are `above`, or of `categories`
    expected: float  # the same share in training, in the same hours of the day
    above: float | None = None  # in the unit
    categories: tuple[str, ...] = ()


class Shifted(msgspec.Struct, frozen=True, kw_only=True):
    """How far the p-values of a model are from uniform."""

    model: str
    statistic: float
    limit: float


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """A window whose traffic is not that of training, as it stands in the header of a detections message."""

    begin_us: int  # lane clock
    end_us: int
    since_us: int  # when the first of the windows in a row began that had moved
    rows: int
    flagged_share: float
    monitors: tuple[str, ...]  # psi, uniformity, flagged: those beyond their limits
    features: tuple[Moved, ...]  # the largest index first
    models: tuple[Shifted, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Closed:
    """A window that is over."""

    begin: int  # hours of lane clock
    end: int
    since: int  # -1: no drift
    indices: Scores  # (k,), of the features; none without a reference
    limits: Scores
    distances: tuple[float, ...]  # of the p-values of each member to uniform
    p_limits: tuple[float, ...]
    flagged_share: float
    drift: Drift | None


def rounded_share(value: float) -> float:
    """Return a number as it stands in headers and alerts."""
    return float(rounded(float(value)))


def drifts_text(drifts: Sequence[Drift]) -> str:
    """Return the header of some drifts; empty for none."""
    return msgspec.json.encode(drifts).decode() if drifts else ""


def read_drifts(text: str) -> tuple[Drift, ...]:
    """Return the drifts of a header.

    Raises
    ------
    JournalError
        If it holds anything else.
    """
    try:
        return msgspec.json.decode(text, type=tuple[Drift, ...]) if text else ()
    except msgspec.DecodeError as error:
        raise JournalError(
            f"header weir-drift is {text[:60]!r}, expected drifts ({error}); "
            "run detect and alerts workers of the same version"
        ) from None


def drift_alert(drift: Drift, panel: Mapping[str, Any], lane: int) -> Alert:
    """Return the alert of a window: the same bytes for the same log.

    Parameters
    ----------
    drift : Drift
        The window.
    panel : mapping
        The card in the headers of its detections message.
    lane : int
        Partition of that message.
    """
    alert_id = digest("drift", lane, drift.begin_us, drift.end_us, *judges(panel))
    body = {
        "@timestamp": time_text(drift.end_us),
        "ecs": {"version": ECS_VERSION},
        "event": {
            "id": alert_id,
            "kind": "state",
            "category": ["network"],
            "type": ["change"],
            "module": "weir",
            "dataset": "weir.drift",
            "severity": SEVERITY,
            "reason": _reason(drift, panel),
            "start": time_text(drift.begin_us),
            "end": time_text(drift.end_us),
        },
        "rule": {"name": "drift", "ruleset": panel["name"]},
        "observer": {"product": "weir", "type": "sensor"},
        "weir": {
            "kind": "drift",
            "panel": panel["name"],
            "lane": lane,
            "since": time_text(drift.since_us),
            "flows": drift.rows,
            "flagged_share": drift.flagged_share,
            "alpha": rounded(panel["alpha"]),
            "monitors": list(drift.monitors),
            "feature_set": panel["feature_set"],
            "features": [_told(moved, panel["feature_set"]) for moved in drift.features],
            "models": [msgspec.to_builtins(model) for model in drift.models],
            "advice": TO_DO,
        },
    }
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Alert(id=alert_id, body=text.encode(), severity=SEVERITY)


def _told(moved: Moved, feature_set_id: str) -> dict[str, Any]:
    return {"text": feature_text(feature_set_id, moved.name), **msgspec.to_builtins(moved)}


def _reason(drift: Drift, panel: Mapping[str, Any]) -> str:
    named = [_words(moved, panel["feature_set"]) for moved in drift.features[:NAMED]]
    causes = [_CAUSES[name] for name in drift.monitors if name != "psi" or not named]
    since = time_text(drift.since_us)[:16].replace("T", " ")
    told = "; ".join([*named, *causes])
    return f"normal traffic has moved since {since} UTC, panel {panel['name']}: {told}; {TO_DO}"


def _words(moved: Moved, feature_set_id: str) -> str:
    """Return what has become of a feature: which share of the flows is where, and was in training."""
    where = f"above {quantity(moved.above or 0.0, moved.unit, moved.kind)}"
    if moved.categories:
        where = " or ".join(moved.categories[:NAMED])
    elif moved.kind == "binary":
        where = "yes"
    text = feature_text(feature_set_id, moved.name)
    return f"{text} {where} in {moved.observed:.0%} of flows (expected {moved.expected:.0%})"
