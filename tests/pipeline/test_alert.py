"""Alerts: ECS and `weir.*`, the same bytes every time, valid by the published schema."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema
import pyarrow as pa
import pytest
from flagged_rows import P_VALUES, ROW, reasons_json
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_log import MemoryLog

from pipeline.alert import AlertError, alert_headers, alert_schema, make_alert, rounded, severity
from pipeline.community_id import community_id
from pipeline.grouping import Grouper
from pipeline.messages import DetectionsHeaders
from pipeline.verdict import FeatureShare, TermShare

Flagged = Callable[..., pa.RecordBatch]
Headers = Callable[..., DetectionsHeaders]
Bodies = Callable[..., list[dict[str, Any]]]

SCHEMA = jsonschema.Draft202012Validator(
    alert_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


@pytest.fixture(scope="session")
def bodies(flagged: Flagged, headers: Headers) -> Bodies:
    """Return a maker of the alert bodies of rows: those published one by one, then the summaries."""

    def make(*rows: dict[str, Any], enabled: bool = True, **changes: Any) -> list[dict[str, Any]]:
        published = Grouper(0, enabled=enabled).feed(flagged(*rows), headers(flush=True, **changes))
        return [json.loads(make_alert(publication).body) for publication in published]

    return make


def _term(kind: str, term_id: str, *features: FeatureShare) -> TermShare:
    return TermShare(kind=kind, id=term_id, deviation=5.0, term=25.0, share=0.5, features=features)


def _share(
    name: str, observed: float | str, expected: float | str, contribution: float, unit: str = ""
) -> FeatureShare:
    return FeatureShare(name=name, observed=observed, expected=expected, unit=unit, contribution=contribution)


GOLDEN_ROWS: tuple[dict[str, Any], ...] = (
    *({"at": 0.25 * i, "flow_id": f"C{i}", "dst_ip": f"10.0.0.{20 + i}"} for i in range(5)),
    {
        "at": 3,
        "flow_id": "D1",
        "src_ip": "2001:db8::5",
        "dst_ip": "2001:db8::9",
        "protocol": "udp",
        "dst_port": 53,
        "about": "dst",
        "p_value": 3.3e-11,
        "leading": "watched:is_icmp",
        "reasons": reasons_json(
            _term("watched", "is_icmp", _share("is_icmp", 1.0, 0.0, 0.0)),
            _term(
                "noise_direction",
                "n1",
                _share("duration", 183.0, 0.004, 2.5, "s"),
                _share("service", "http", "dns", -1.5),
                _share("is_icmp", 1.0, 0.0, 0.5),
            ),
        ),
    },
    {
        "at": 4,
        "flow_id": "N1",
        "src_ip": None,
        "dst_ip": None,
        "src_port": None,
        "dst_port": None,
        "protocol": None,
        "p_value": 9e-5,
        "decided": 1,
        "reasons": None,
    },
)  # fmt: skip


def test_alerts_are_what_they_were(
    flagged: Flagged, headers: Headers, golden: Callable[[str, str], None]
) -> None:
    """Alert bodies change only on purpose: consumers and ids depend on every byte."""
    published = Grouper(0).feed(flagged(*GOLDEN_ROWS), headers(flush=True))
    lines = [make_alert(publication).body.decode() for publication in published]

    assert sum(publication.is_summary for publication in published) == 1
    for line in lines:
        SCHEMA.validate(json.loads(line))
    golden("alerts.jsonl", "".join(f"{line}\n" for line in lines))


@settings(max_examples=100, deadline=None)
@given(row=ROW, repeats=st.integers(1, 5), enabled=st.booleans())
def test_every_alert_obeys_the_schema(
    bodies: Bodies, row: dict[str, Any], repeats: int, *, enabled: bool
) -> None:
    """Whatever the judge says of a flow, the body is valid and has a sentence."""
    for body in bodies(*[row] * repeats, enabled=enabled):
        SCHEMA.validate(body)
        assert body["event"]["reason"]


def test_the_schema_is_closed_within_weir(bodies: Bodies) -> None:
    """A field that the schema does not know fails the test, wherever it stands in the evidence."""
    [body] = bodies({})
    SCHEMA.validate(body)
    for path in ([], ["models", 0], ["noise_directions", 0], ["features", 0], ["group"]):
        changed = json.loads(json.dumps(body))
        at = changed["weir"]
        for step in path:
            at = at[step]
        at["surprise"] = 1
        assert not SCHEMA.is_valid(changed), path


def test_the_example_in_the_schema_is_valid() -> None:
    """What a reader of the schema sees first is a real alert."""
    [example] = alert_schema()["examples"]

    SCHEMA.validate(example)


def test_ecs_fields_say_who_when_and_how_severe(bodies: Bodies) -> None:
    """A tool that knows ECS finds time, addresses, severity and rule where it expects them."""
    [body] = bodies({"at": 1.5})

    assert body["@timestamp"] == "2023-11-14T22:14:01.500000Z"
    assert body["event"]["kind"] == "alert"
    assert body["event"]["category"] == ["network", "intrusion_detection"]
    assert body["event"]["severity"] == 47
    assert body["source"] == {"ip": "10.0.0.5", "port": 50123}
    assert body["destination"] == {"ip": "10.0.0.9", "port": 22}
    assert body["network"] == {
        "transport": "tcp",
        "type": "ipv4",
        "community_id": community_id(
            "tcp", *(bytes(10) + b"\xff\xff\n\0\0" + bytes([i]) for i in (5, 9)), 50123, 22
        ),
    }
    assert body["related"] == {"ip": ["10.0.0.5", "10.0.0.9"]}
    assert body["rule"] == {"name": "conn-beaa", "version": "3", "category": "beaa", "ruleset": "main"}
    assert body["observer"]["name"] == "hq"


def test_the_id_is_of_the_flow_and_its_judges(bodies: Bodies, panel: dict[str, Any]) -> None:
    """The same flow keeps its id in any place; another flow, sensor, panel or version has another."""
    newer = panel | {"models": [panel["models"][0] | {"version": "4"}, panel["models"][1]]}

    def ids(*args: dict[str, Any], **changes: Any) -> str:
        return str(bodies(*args, **changes)[0]["event"]["id"])

    same = ids({})
    assert same == ids({"at": 7, "p_value": 1e-5}, enabled=False)
    others = {
        ids({"flow_id": "C2"}),
        ids({"sensor": "dc"}),
        ids({}, panel=panel | {"name": "other"}),
        ids({}, panel=newer),
    }
    assert len(others | {same}) == 5


def test_terms_are_split_and_features_ranked(bodies: Bodies) -> None:
    """Noise directions and residuals stand apart; each feature appears once, where it counts most."""
    terms = (
        _term("noise_direction", "n3", _share("a", 1.0, 0.0, 2.0), _share("b", 1.0, 0.0, -3.0)),
        _term("residual", "b", _share("b", 1.0, 0.0, -4.0)),
        _term("node", "c", *(_share(f"c{i}", 1.0, 0.0, 0.1) for i in range(12))),
    )
    [body] = bodies({"reasons": reasons_json(*terms)})
    weir = body["weir"]

    assert [term["id"] for term in weir["noise_directions"]] == ["n3"]
    assert [(term["kind"], term["id"]) for term in weir["residuals"]] == [("residual", "b"), ("node", "c")]
    assert [feature["name"] for feature in weir["features"][:3]] == ["b", "a", "c0"]
    assert weir["features"][0]["contribution"] == -4.0
    assert len(weir["features"]) == 10


def test_a_watched_feature_comes_first(bodies: Bodies) -> None:
    """A feature that never moved in training decided without any contribution to the score."""
    body = bodies(GOLDEN_ROWS[5])[0]

    assert [feature["name"] for feature in body["weir"]["features"]] == ["is_icmp", "duration", "service"]
    assert "over ICMP: yes (always no in training)" in body["event"]["reason"]


def test_a_summary_says_what_its_flows_share(bodies: Bodies) -> None:
    """One source that tries many hosts on one port: those hosts are counted, the port is named."""
    rows = [
        {"at": i, "flow_id": f"C{i}", "dst_ip": f"10.0.1.{i}", "p_value": 1e-5 / (1 + i)} for i in range(30)
    ]
    *_, summary = bodies(*rows)

    assert summary["tags"] == ["summary"]
    assert summary["source"] == {"ip": "10.0.0.5"}
    assert summary["destination"] == {"port": 22}
    assert len(summary["related"]["ip"]) == 20
    assert summary["related"]["ip"][0] == "10.0.0.5"
    assert summary["event"]["id"] == summary["weir"]["group"]["id"]
    assert summary["event"]["start"] < summary["event"]["end"] == summary["@timestamp"]
    assert summary["weir"]["p_value"] == rounded(1e-5 / 30)
    group = summary["weir"]["group"]
    assert (group["count"], group["sources"], group["destinations"], group["ports"]) == (30, 1, 30, 1)
    assert group["example"] == bodies(*rows)[2]["event"]["id"]
    assert summary["event"]["reason"].startswith(
        "10.0.0.5: 30 unusual flows within 29 s to 30 destinations on port 22 (p = 3e-07, 1 in 3,000,000"
    )


@pytest.mark.parametrize(
    ("about", "entity"),
    [("flow", "10.0.0.5"), ("src", "10.0.0.5"), ("dst", "10.0.0.9"), ("pair", "10.0.0.5 -> 10.0.0.9")],
)
def test_an_alert_names_whom_it_concerns(bodies: Bodies, about: str, entity: str) -> None:
    """What the leading term is about decides; of a pair both are named, in a summary, too."""
    found = bodies(*[{"about": about}] * 4)

    assert {body["weir"]["entity"] for body in found} == {entity}
    assert "tags" in found[-1]


def test_a_summary_of_a_pair_of_many_names_the_source(bodies: Bodies) -> None:
    """One who guesses passwords on several servers is one group, told by who guesses."""
    *_, summary = bodies(*({"about": "pair", "dst_ip": f"10.0.0.{9 + i % 2}"} for i in range(6)))

    assert summary["weir"]["entity"] == "10.0.0.5"
    assert summary["event"]["reason"].startswith("10.0.0.5: 6 unusual flows within 0 s to 2 destinations on")
    assert "community_id" not in summary["network"]


def test_numbers_have_six_digits_and_stay_floats(bodies: Bodies) -> None:
    """No noise in the last digits, and no number that is an integer in one alert and a float in another."""
    [body] = bodies({"scores": [2.0, 1 / 3]})

    assert [model["score"] for model in body["weir"]["models"]] == [2.0, 0.333333]
    assert isinstance(body["weir"]["models"][0]["score"], float)
    assert str(rounded(-0.0)) == "0.0"


def test_where_a_flow_came_from_is_in_the_headers_alone() -> None:
    """Origin and id travel beside the body; a summary's origin is the message that closed it."""
    log, topic = MemoryLog(partitions=3), "weir.detections.main.v1"
    message = [log.append(topic, 2, b"", []) for _ in range(10)][9]
    headers = dict(alert_headers("ab12", message, None))

    assert headers["weir-id"] == b"ab12"
    assert headers["weir-origin"] == b"weir.detections.main.v1/2/9/summary"
    assert dict(alert_headers("ab12", message, 3))["weir-origin"] == b"weir.detections.main.v1/2/9/3"
    assert headers["content-type"] == b"application/json"


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"reasons": '{"score_kind": 1}'}, r"flow C1 of sensor hq: reasons cannot be read .* same version"),
        ({"scores": [1.0]}, r"flow C1 of sensor hq: 1 scores, 2 p-values .* panel's 2 models"),
        ({"decided": 2}, r"model 2 deciding"),
        ({"scores": [float("nan"), 1.0]}, r"flow C1 of sensor hq: a score or feature is not finite"),
    ],
)
def test_a_row_that_no_judge_wrote_is_refused(bodies: Bodies, changes: dict[str, Any], match: str) -> None:
    """The error says which flow, what was wrong and what was expected."""
    with pytest.raises(AlertError, match=match):
        bodies(changes)


@given(P_VALUES, P_VALUES)
def test_smaller_p_values_are_no_less_severe(a: float, b: float) -> None:
    """Severity falls as the p-value grows."""
    low, high = sorted([a, b])

    assert severity(low) >= severity(high)
