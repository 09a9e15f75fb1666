"""Alerts as Detection Findings of the Open Cybersecurity Schema Framework (OCSF), class 2004.

Converted from the published body alone, so that what is in the topic stays one format. Confidence and risk
scores are left out: a p-value says how rare a flow is, not how sure anyone is that it does harm.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import msgspec

from pipeline.errors import PipelineError
from pipeline.quantities import quantity

OCSF_VERSION = "1.6.0"
CATEGORY, CLASS = 2, 2004
ACTIVITIES = {1: "Create", 2: "Update"}
SEVERITIES = {
    0: (1, "Informational"),
    21: (2, "Low"),
    47: (3, "Medium"),
    73: (4, "High"),
    99: (5, "Critical"),
}
"""From `event.severity`."""
NEW, SUPPRESSED = (1, "New"), (3, "Suppressed")
STATISTICAL, LEARNING = (3, "Statistical"), (4, "Learning (ML/DL)")
IP_ADDRESS = (2, "IP Address")
UNKNOWN_DIRECTION = 0
ANALYSIS = "Deviation Analysis"
TARGETS = {"flow": "Source", "src": "Source", "dst": "Destination", "pair": "Source and destination"}


class OcsfError(PipelineError):
    """What should be converted is no alert of weir."""


class _Event(msgspec.Struct):
    id: str
    kind: str
    dataset: str
    severity: int
    reason: str
    start: datetime | None = None
    end: datetime | None = None


class _Endpoint(msgspec.Struct):
    ip: str | None = None
    port: int | None = None


class _Network(msgspec.Struct):
    transport: str | None = None
    type: str | None = None
    community_id: str | None = None


class _Rule(msgspec.Struct):
    name: str
    version: str | None = None
    category: str | None = None


class _Model(msgspec.Struct):
    name: str
    version: str
    shadow: bool = False


class _Feature(msgspec.Struct):
    text: str
    kind: str
    observed: float | str
    expected: float | str
    unit: str


class _Loading(msgspec.Struct):
    name: str
    value: float


class _Direction(msgspec.Struct):
    id: str
    deviation: float
    loadings: tuple[_Loading, ...] = ()


class _Group(msgspec.Struct):
    id: str
    count: int
    first: datetime
    last: datetime
    number: int | None = None  # of a flow; absent in a summary


class _Evidence(msgspec.Struct):
    panel: str
    sensor: str | None = None
    flow_id: str | None = None
    entity: str | None = None
    about: str = "flow"
    models: tuple[dict[str, Any], ...] = ()  # _Model; likewise
    features: tuple[dict[str, Any], ...] = ()  # _Feature; those of drift are of another form
    noise_directions: tuple[_Direction, ...] = ()
    group: _Group | None = None


class _Related(msgspec.Struct):
    ip: tuple[str, ...] = ()


class _Alert(msgspec.Struct):
    """What of an alert is mapped."""

    time: datetime = msgspec.field(name="@timestamp")
    event: _Event
    rule: _Rule
    weir: _Evidence
    source: _Endpoint = msgspec.field(default_factory=_Endpoint)
    destination: _Endpoint = msgspec.field(default_factory=_Endpoint)
    network: _Network = msgspec.field(default_factory=_Network)
    related: _Related = msgspec.field(default_factory=_Related)
    tags: tuple[str, ...] = ()


def detection_finding(alert: Mapping[str, Any], product_version: str) -> dict[str, Any]:
    """Return an alert as an OCSF Detection Finding.

    A group is one finding: its first flow creates it, its further flows and its summary update it. So
    `finding_info.uid` is the group's id, and `metadata.uid` is `event.id`; without a group both are.

    Parameters
    ----------
    alert : mapping
        The decoded body of a message in the alerts topic.
    product_version : str
        Version of weir.

    Raises
    ------
    OcsfError
        If it is no alert of ours.

    References
    ----------
    .. [1] https://schema.ocsf.io/1.6.0/classes/detection_finding
    """
    try:
        return _finding(msgspec.convert(alert, _Alert), alert, product_version)
    except msgspec.ValidationError as error:
        raise OcsfError(f"not an alert of weir ({error})") from None


def _finding(found: _Alert, alert: Mapping[str, Any], product_version: str) -> dict[str, Any]:
    group, is_suppressed = found.weir.group, "suppressed" in found.tags
    activity = 1 if group is None or group.number == 1 or is_suppressed else 2
    severity_id, severity = SEVERITIES.get(found.event.severity, (0, "Unknown"))
    status_id, status = SUPPRESSED if is_suppressed else NEW
    return {
        "activity_id": activity,
        "activity_name": ACTIVITIES[activity],
        "category_uid": CATEGORY,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + activity,
        "type_name": f"Detection Finding: {ACTIVITIES[activity]}",
        "time": _ms(found.time),
        **_span(found.event),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "is_alert": found.event.kind == "alert",
        "message": found.event.reason,
        "metadata": _metadata(found, product_version),
        "finding_info": _finding_info(found),
        **_listed("evidences", _evidences(found)),
        **_listed("anomaly_analyses", _analyses(found)),
        **_listed("observables", _observables(found)),
        "unmapped": {name: alert[name] for name in ("weir", "related", "tags") if name in alert},
    }


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


def _listed(name: str, values: Iterator[dict[str, Any]]) -> dict[str, Any]:
    listed = list(values)
    return {name: listed} if listed else {}


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _span(event: _Event) -> dict[str, int]:
    start, end = event.start, event.end
    return {} if start is None or end is None else {"start_time": _ms(start), "end_time": _ms(end)}


def _metadata(alert: _Alert, product_version: str) -> dict[str, Any]:
    return {
        "version": OCSF_VERSION,
        "product": {"name": "weir", "vendor_name": "weir", "version": product_version},
        "profiles": [],
        "uid": alert.event.id,
        "log_name": alert.event.dataset,
    }


def _finding_info(alert: _Alert) -> dict[str, Any]:
    group, sensor = alert.weir.group, alert.weir.sensor
    seen = {"first_seen_time": _ms(group.first), "last_seen_time": _ms(group.last)} if group else {}
    return {
        "uid": group.id if group else alert.event.id,
        "title": alert.event.reason.partition(" (p = ")[0].partition(": ")[0],
        "desc": alert.event.reason,
        "types": ["Anomaly"],
        "analytic": _analytic(alert),
        **_listed("related_analytics", _others(alert)),
        **_given(data_sources=[sensor] if sensor else None),
        **seen,
        **_given(related_events_count=group.count if group else None),
    }


def _analytic(alert: _Alert) -> dict[str, Any]:
    rule = alert.rule
    type_id, kind = LEARNING if rule.version else STATISTICAL
    return {
        "type_id": type_id,
        "type": kind,
        "name": rule.name,
        **_given(version=rule.version, algorithm=rule.category),
        "category": alert.weir.panel,
    }


def _others(alert: _Alert) -> Iterator[dict[str, Any]]:
    """Yield the models of the panel that decided, too; shadows never do."""
    decider = (alert.rule.name, alert.rule.version)
    models = alert.weir.models if alert.rule.version else ()
    for model in (msgspec.convert(model, _Model) for model in models):
        if not model.shadow and (model.name, model.version) != decider:
            type_id, kind = LEARNING
            yield {"type_id": type_id, "type": kind, "name": model.name, "version": model.version}


def _evidences(alert: _Alert) -> Iterator[dict[str, Any]]:
    """Yield the flow, or what the flows of a summary share; an endpoint without an address is none."""
    network = alert.network
    ends = {"src_endpoint": alert.source, "dst_endpoint": alert.destination}
    told = {name: _given(ip=end.ip, port=end.port) for name, end in ends.items() if end.ip is not None}
    connection = _given(
        uid=alert.weir.flow_id,
        protocol_name=network.transport,
        protocol_ver_id={"ipv4": 4, "ipv6": 6}.get(network.type or ""),
        community_uid=network.community_id,
    )
    if connection:
        told["connection_info"] = {"direction_id": UNKNOWN_DIRECTION, "direction": "Unknown", **connection}
    if told:
        yield told


def _observables(alert: _Alert) -> Iterator[dict[str, Any]]:
    named = {
        alert.source.ip: "evidences[0].src_endpoint.ip",
        alert.destination.ip: "evidences[0].dst_endpoint.ip",
    }
    type_id, kind = IP_ADDRESS
    for index, address in enumerate(alert.related.ip):
        name = named.get(address, f"unmapped.related.ip[{index}]")
        yield {"name": name, "type_id": type_id, "type": kind, "value": address}


def _analyses(alert: _Alert) -> Iterator[dict[str, Any]]:
    """Yield what is odd about whom: noise directions and features, each beside what was expected."""
    entity = alert.weir.entity
    if entity is None:
        return
    features = [msgspec.convert(feature, _Feature) for feature in alert.weir.features]
    directions = alert.weir.noise_directions
    anomalies = [*map(_direction, directions), *map(_anomaly, features)]
    if anomalies:
        target = "Sensor" if entity == alert.weir.sensor else TARGETS.get(alert.weir.about, "Source")
        yield {
            "analysis_targets": [{"name": entity, "type": target}],
            "anomalies": anomalies,
            **_listed("baselines", map(_baseline, features)),
        }


def _direction(direction: _Direction) -> dict[str, Any]:
    moves = (f"{'+' if one.value > 0 else '-'} {one.name}" for one in direction.loadings)
    stands_for = ", ".join(moves)
    return {
        "observation_parameter": f"noise direction {direction.id}",
        "observation_type": ANALYSIS,
        "observations": [{"value": f"{direction.deviation:+.3g} standard deviations"}],
        **_given(observed_pattern=stands_for or None),
    }


def _anomaly(feature: _Feature) -> dict[str, Any]:
    value = quantity(feature.observed, feature.unit, feature.kind)
    return {**_observed(feature, value), **_given(observed_pattern=_pattern(feature))}


def _baseline(feature: _Feature) -> dict[str, Any]:
    return _observed(feature, quantity(feature.expected, feature.unit, feature.kind))


def _observed(feature: _Feature, value: str) -> dict[str, Any]:
    return {
        "observation_parameter": feature.text,
        "observation_type": ANALYSIS,
        "observations": [{"value": value}],
    }


def _pattern(feature: _Feature) -> str | None:
    observed, expected = feature.observed, feature.expected
    if feature.kind == "numeric" and isinstance(observed, float) and isinstance(expected, float):
        return "HIGH" if observed > expected else "LOW" if observed < expected else None
    return "UNUSUAL"
