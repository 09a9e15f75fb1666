"""OCSF: every alert is a Detection Finding of version 1.6.0, and says the same as the alert."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from flagged_rows import ROW
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alert import make_alert
from pipeline.drift import Drift, Moved, Shifted, drift_alert
from pipeline.grouping import Grouper
from pipeline.messages import DetectionsHeaders
from pipeline.ocsf import OcsfError, detection_finding
from pipeline.suppressions import Suppressed

Flagged = Callable[..., pa.RecordBatch]
Headers = Callable[..., DetectionsHeaders]

SCHEMA = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parent / "ocsf-1.6.0.schema.json").read_text(encoding="utf-8")),
    format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER,
)


def findings(rows: pa.RecordBatch, said: DetectionsHeaders, **options: Any) -> list[dict[str, Any]]:
    """Return the findings of rows and of the summaries that close their groups."""
    alerts = [json.loads(make_alert(one).body) for one in Grouper(0, **options).feed(rows, said)]
    return [detection_finding(alert, "0.1.0") for alert in alerts]


@settings(max_examples=100, deadline=None)
@given(row=ROW, repeats=st.integers(1, 5), enabled=st.booleans(), suppressed=st.booleans())
def test_every_alert_is_a_detection_finding(
    flagged: Flagged, headers: Headers, row: dict[str, Any], repeats: int, *, enabled: bool, suppressed: bool
) -> None:
    """Whatever the judge says of a flow: no attribute is invented, and none that is required is missing."""
    known = Suppressed(id="ab" * 8, reason="known").to_json() if suppressed else None
    rows = flagged(*[row | {"suppressed": known}] * repeats)

    found = findings(rows, headers(flush=True), enabled=enabled)

    assert found
    for finding in found:
        SCHEMA.validate(finding)
        assert finding["type_uid"] == finding["class_uid"] * 100 + finding["activity_id"]


def test_a_group_is_one_finding_that_grows(flagged: Flagged, headers: Headers) -> None:
    """Created by its first flow, updated by the others and the summary; each event has an id of its own."""
    found = findings(flagged(*({"at": i, "flow_id": f"F{i}"} for i in range(5))), headers(flush=True))

    assert [finding["activity_name"] for finding in found] == ["Create", "Update", "Update", "Update"]
    assert len({finding["finding_info"]["uid"] for finding in found}) == 1
    assert len({finding["metadata"]["uid"] for finding in found}) == 4
    assert [finding["finding_info"]["related_events_count"] for finding in found] == [1, 2, 3, 5]
    assert found[-1]["end_time"] - found[-1]["start_time"] == 4000


def test_a_finding_says_what_the_alert_says(flagged: Flagged, headers: Headers) -> None:
    """Who and whom, which flow, what was observed and expected, by which model."""
    [finding] = findings(flagged({}), headers())

    assert finding["time"] == 1_700_000_040_000
    assert finding["severity"] == "Medium"
    assert finding["is_alert"] is True
    assert finding["finding_info"]["title"] == "10.0.0.5 -> 10.0.0.9:22/tcp is unusual"
    assert finding["finding_info"]["analytic"] == {
        "type_id": 4,
        "type": "Learning (ML/DL)",
        "name": "conn-beaa",
        "version": "3",
        "algorithm": "beaa",
        "category": "main",
    }
    [evidence] = finding["evidences"]
    assert evidence["src_endpoint"] == {"ip": "10.0.0.5", "port": 50123}
    assert evidence["dst_endpoint"] == {"ip": "10.0.0.9", "port": 22}
    assert evidence["connection_info"]["community_uid"].startswith("1:")
    [analysis] = finding["anomaly_analyses"]
    assert analysis["analysis_targets"] == [{"name": "10.0.0.5", "type": "Source"}]
    direction, failed, *_ = analysis["anomalies"]
    assert direction["observation_parameter"] == "noise direction n3"
    assert direction["observed_pattern"] == "+ src_failed_60s, + src_dsts_60s, - service=http"
    assert failed["observations"] == [{"value": "412"}]
    assert failed["observed_pattern"] == "HIGH"
    assert analysis["baselines"][0]["observations"] == [{"value": "1"}]
    assert analysis["baselines"][0]["observation_parameter"] == failed["observation_parameter"]
    assert [(one["name"], one["value"]) for one in finding["observables"]] == [
        ("evidences[0].src_endpoint.ip", "10.0.0.5"),
        ("evidences[0].dst_endpoint.ip", "10.0.0.9"),
    ]
    assert finding["unmapped"]["weir"]["p_value"] == 2e-06


def test_what_a_suppression_kept_back_is_a_suppressed_finding(flagged: Flagged, headers: Headers) -> None:
    """No alert, and said to be so by the status."""
    known = Suppressed(id="ab" * 8, reason="known").to_json()

    [finding] = findings(flagged({"suppressed": known}, {"suppressed": known}), headers(flush=True))

    assert finding["is_alert"] is False
    assert finding["status"] == "Suppressed"
    assert finding["severity"] == "Informational"


def test_drift_is_a_finding_but_no_alert(panel: dict[str, Any]) -> None:
    """What is told of a whole lane is statistics, without flow, entity or model."""
    moved = Moved(
        name="failed", kind="binary", unit="", statistic=0.3, limit=0.25, observed=0.1, expected=0.0
    )
    drift = Drift(
        begin_us=0,
        end_us=3_600_000_000,
        since_us=0,
        rows=9,
        flagged_share=0.5,
        monitors=("psi",),
        features=(moved,),
        models=(Shifted(model="conn-beaa", statistic=0.2, limit=0.1),),
    )

    finding = detection_finding(json.loads(drift_alert(drift, panel, 0).body), "0.1.0")

    SCHEMA.validate(finding)
    assert finding["is_alert"] is False
    assert finding["finding_info"]["analytic"]["type"] == "Statistical"
    assert finding["end_time"] == 3_600_000


def test_no_score_of_confidence_is_made_up(flagged: Flagged, headers: Headers) -> None:
    """A p-value is none: it says how rare a flow is, not how sure anyone is."""
    for finding in findings(flagged({}, {"reasons": None}, {}, {}), headers(flush=True)):
        assert not {"confidence_score", "confidence_id", "risk_score", "risk_level_id"} & set(finding)


@pytest.mark.parametrize("body", [{}, {"@timestamp": "now"}, {"event": 5}])
def test_what_is_no_alert_is_refused(body: dict[str, Any]) -> None:
    """A foreign message in the topic is said to be one, not made a finding."""
    with pytest.raises(OcsfError, match="not an alert of weir"):
        detection_finding(body, "0.1.0")
