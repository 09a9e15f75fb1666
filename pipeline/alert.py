"""Alerts: ECS fields for tools that know them, `weir.*` for the evidence.

The body is a function of the log, the models and the build alone: the same bytes for the same flow,
so that repeats can be dropped by id. Where it came from (topic, offset) is in the Kafka headers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import msgspec

from connectors.kafka_reader import Message
from connectors.wire import Headers
from pipeline.community_id import community_id
from pipeline.errors import PipelineError
from pipeline.publication import FlaggedFlow, GroupView, Publication, address_text, digest, judges
from pipeline.suppressions import Suppressed
from pipeline.verdict import FeatureShare, Reasons, TermShare
from pipeline.words import feature_kind, feature_text, reason

ECS_VERSION = "8.17.0"
CONTENT_TYPE = "application/json"

FEATURES = 10
"""Features told beside the terms."""
RELATED = 20
"""Addresses listed in `related.ip` of a summary."""

SEVERITIES = ((1e-9, 99), (1e-6, 73), (1e-4, 47), (1.0, 21))
"""p-value up to which a severity holds: critical, high, medium, low, in the numbers of Elastic's rules."""

SUPPRESSED = 0
"""`event.severity` of a report of flows that made no alert."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AlertError(PipelineError):
    """A flagged row cannot be worded: the judge and this build do not agree about its shape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """A published decision with its evidence."""

    id: str  # event.id
    body: bytes  # JSON
    severity: int  # event.severity


def make_alert(publication: Publication) -> Alert:
    """Return the alert of a flagged flow or of a closed group.

    Raises
    ------
    AlertError
        If the row's reasons or scores are not what the judge writes.
    """
    reasons = _reasons(publication.flow)
    body = _body(publication, reasons)
    try:
        text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise AlertError(
            f"{_where(publication.flow)}: a score or feature is not finite ({error}), expected numbers"
        ) from None
    event = body["event"]
    return Alert(id=event["id"], body=text.encode(), severity=event["severity"])


def alert_headers(alert_id: str, detections: Message, row: int | None) -> Headers:
    """Return the Kafka headers of an alert: its id, and the row of the detections message it comes from.

    A summary has no row: its origin is the message that closed the group.
    """
    where = f"{detections.topic}/{detections.partition}/{detections.offset}"
    origin = f"{where}/{'summary' if row is None else row}"
    return [
        ("content-type", CONTENT_TYPE.encode()),
        ("weir-id", alert_id.encode()),
        ("weir-origin", origin.encode()),
    ]


def alert_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of alert bodies."""
    text = files("pipeline").joinpath("alert.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def severity(p_value: float) -> int:
    """Return `event.severity` of a p-value.

    Examples
    --------
    >>> severity(1e-12), severity(1e-6), severity(2e-5), severity(0.01)
    (99, 73, 47, 21)
    """
    return next(number for limit, number in SEVERITIES if p_value <= limit)


def flow_alert_id(panel: Mapping[str, Any], flow: FlaggedFlow) -> str:
    """Return `event.id` of a flow: the same for every delivery, another for other model versions."""
    return digest("flow", flow.sensor, flow.flow_id, *judges(panel))


def _where(flow: FlaggedFlow) -> str:
    return f"flow {flow.flow_id} of sensor {flow.sensor}"


def _reasons(flow: FlaggedFlow) -> Reasons | None:
    if flow.reasons is None:
        return None
    try:
        return Reasons.from_json(flow.reasons)
    except msgspec.DecodeError as error:
        raise AlertError(
            f"{_where(flow)}: reasons cannot be read ({error}); "
            "run detect and alerts workers of the same version"
        ) from None


def _body(publication: Publication, reasons: Reasons | None) -> dict[str, Any]:
    flow, panel = publication.flow, publication.panel
    if not len(panel["models"]) == len(flow.scores) == len(flow.p_values) > flow.decided:
        raise AlertError(
            f"{_where(flow)}: {len(flow.scores)} scores, {len(flow.p_values)} p-values and model "
            f"{flow.decided} deciding, expected those of the panel's {len(panel['models'])} models"
        )
    decider = panel["models"][flow.decided]
    return {
        **(_summary_fields if publication.is_summary else _flow_fields)(publication, reasons),
        "rule": {
            "name": decider["name"],
            "version": str(decider["version"]),
            "category": decider["detector"],
            "ruleset": panel["name"],
        },
        "observer": {"name": flow.sensor, "product": "weir", "type": "sensor"},
        "weir": _evidence(publication, reasons),
    }


def _flow_fields(publication: Publication, reasons: Reasons | None) -> dict[str, Any]:
    flow = publication.flow
    addresses = [address_text(ip) for ip in (flow.src_ip, flow.dst_ip) if ip is not None]
    transport = {"transport": flow.protocol} if flow.protocol else {}
    return {
        "@timestamp": time_text(flow.event_us),
        "ecs": {"version": ECS_VERSION},
        "event": _event(flow_alert_id(publication.panel, flow), publication, reasons),
        **_side("source", flow.src_ip, flow.src_port),
        **_side("destination", flow.dst_ip, flow.dst_port),
        **_present("network", {**transport, **_network_type(addresses), **_community_id(flow)}),
        **_present("related", {"ip": list(dict.fromkeys(addresses))} if addresses else {}),
    }


def _summary_fields(publication: Publication, reasons: Reasons | None) -> dict[str, Any]:
    group = publication.group
    assert group is not None
    found = dict.fromkeys(map(address_text, (*group.sources[:RELATED], *group.destinations[:RELATED])))
    # Whom it is about first, then the others in order of appearance.
    addresses = sorted(found, key=lambda address: address != group.entity)[:RELATED]
    span = {"start": time_text(group.first_us), "end": time_text(group.last_us)}
    return {
        "@timestamp": time_text(group.last_us),
        "ecs": {"version": ECS_VERSION},
        "event": _event(group.id, publication, reasons) | span,
        **_side("source", _only(group.sources), None),
        **_side("destination", _only(group.destinations), _only(group.ports)),
        **_present("network", _network_type(addresses)),
        **_present("related", {"ip": addresses} if addresses else {}),
        "tags": ["summary", *(["suppressed"] if publication.suppressed else [])],
    }


def _event(alert_id: str, publication: Publication, reasons: Reasons | None) -> dict[str, Any]:
    return {
        "id": alert_id,
        "kind": "event" if publication.suppressed else "alert",
        "category": ["network", "intrusion_detection"],
        "type": ["info"],
        "module": "weir",
        "dataset": "weir.alert",
        "severity": SUPPRESSED if publication.suppressed else severity(_p_value(publication)),
        "reason": reason(publication, reasons),
    }


def _p_value(publication: Publication) -> float:
    group = publication.group
    return group.p_value if publication.is_summary and group else publication.flow.p_value


def _only(values: Sequence[Any]) -> Any:
    return values[0] if len(values) == 1 else None


def _side(name: str, address: bytes | None, port: int | None) -> dict[str, Any]:
    ip = {"ip": address_text(address)} if address is not None else {}
    return _present(name, {**ip, **({"port": port} if port is not None else {})})


def _present(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields} if fields else {}


def _community_id(flow: FlaggedFlow) -> dict[str, str]:
    found = community_id(flow.protocol, flow.src_ip, flow.dst_ip, flow.src_port, flow.dst_port)
    return {"community_id": found} if found else {}


def _network_type(addresses: Sequence[str]) -> dict[str, str]:
    if not addresses:
        return {}
    return {"type": "ipv6" if ":" in addresses[0] else "ipv4"}


def _evidence(publication: Publication, reasons: Reasons | None) -> dict[str, Any]:
    flow, panel, group = publication.flow, publication.panel, publication.group
    terms = reasons.terms if reasons else ()
    flow_id = {} if publication.is_summary else {"flow_id": flow.flow_id}
    kind = {"score_kind": reasons.score_kind, "additive": reasons.additive} if reasons else {}
    return {
        "sensor": flow.sensor,
        **flow_id,
        "panel": panel["name"],
        "entity": publication.entity,
        "about": flow.about,
        "p_value": rounded(_p_value(publication)),
        "alpha": rounded(panel["alpha"]),
        "models": _models(panel["models"], flow),
        "feature_set": panel["feature_set"],
        "leading": flow.leading,
        **kind,
        "noise_directions": [_term(term) for term in terms if term.kind == "noise_direction"],
        "residuals": [{"kind": term.kind, **_term(term)} for term in terms if term.kind != "noise_direction"],
        "features": _features(panel["feature_set"], terms),
        **({"group": _group(publication, group)} if group else {}),
        **_suppression(publication.suppressed),
    }


def _models(models: Sequence[Mapping[str, Any]], flow: FlaggedFlow) -> list[dict[str, Any]]:
    return [
        {
            "name": model["name"],
            "version": str(model["version"]),
            "sha256": model["sha256"],
            "score": rounded(score),
            "p_value": rounded(p_value),
            **({"shadow": True} if model.get("shadow") else {}),
        }
        for model, score, p_value in zip(models, flow.scores, flow.p_values, strict=True)
    ]


def _term(term: TermShare) -> dict[str, Any]:
    return {
        "id": term.id,
        "deviation": rounded(term.deviation),
        "term": rounded(term.term),
        "share": rounded(term.share),
        **({"loadings": _loadings(term)} if term.kind == "noise_direction" and term.loadings else {}),
        "features": [_values(feature) for feature in term.features],
    }


def _loadings(term: TermShare) -> list[dict[str, Any]]:
    return [{"name": loading.name, "value": rounded(loading.value)} for loading in term.loadings]


def _values(share: FeatureShare) -> dict[str, Any]:
    return {
        "name": share.name,
        "observed": rounded(share.observed),
        "expected": rounded(share.expected),
        "unit": share.unit,
        "contribution": rounded(share.contribution),
    }


def _features(feature_set_id: str, terms: Sequence[TermShare]) -> list[dict[str, Any]]:
    """Return the features of all terms, each where it contributes most, the largest first.

    A watched feature was constant in training and has no contribution, but decided: it comes first.
    """
    ranked = [
        (term.kind != "watched", -abs(share.contribution), share) for term in terms for share in term.features
    ]
    ranked.sort(key=lambda entry: entry[:2])
    largest: dict[str, FeatureShare] = {}
    for *_, share in ranked:
        largest.setdefault(share.name, share)
    return [
        {
            "text": feature_text(feature_set_id, share.name),
            "kind": feature_kind(feature_set_id, share),
            **_values(share),
        }
        for share in list(largest.values())[:FEATURES]
    ]


def _group(publication: Publication, group: GroupView) -> dict[str, Any]:
    seen = {
        "id": group.id,
        "count": group.count,
        "first": time_text(group.first_us),
        "last": time_text(group.last_us),
    }
    if not publication.is_summary:
        return seen | {"number": group.count}
    return seen | {
        "sources": len(group.sources),
        "destinations": len(group.destinations),
        "ports": len(group.ports),
        "example": flow_alert_id(publication.panel, publication.flow),
    }


def _suppression(suppressed: Suppressed | None) -> dict[str, Any]:
    if suppressed is None:
        return {}
    until = {"until": suppressed.until} if suppressed.until else {}
    return {"suppression": {"id": suppressed.id, "reason": suppressed.reason, **until}}


def rounded(value: float | str) -> float | str:
    """Return a number with six significant digits, always a float, or a category as it is.

    Examples
    --------
    >>> rounded(1234567), rounded(2), rounded("http")
    (1234570.0, 2.0, 'http')
    """
    return value if isinstance(value, str) else float(f"{value:.6g}") + 0.0  # no -0.0


def time_text(us: int) -> str:
    """Return microseconds since 1970 in RFC 3339.

    Examples
    --------
    >>> time_text(1_700_000_000_000_001)
    '2023-11-14T22:13:20.000001Z'
    """
    time = _EPOCH + timedelta(microseconds=us)
    return time.isoformat(timespec="microseconds").replace("+00:00", "Z")
