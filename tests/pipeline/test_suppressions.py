"""Suppressions: what is kept back is chosen by the file and the lane clock alone, and is never silent."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pytest
from conn_flows import conn_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from lane_workers import CONN_SET, conn_bundle

from detectors.robust_z import RobustZScore
from pipeline.alert import alert_schema, make_alert
from pipeline.errors import SettingsError
from pipeline.features.lane import offline_features
from pipeline.grouping import Grouper
from pipeline.judge import Judge
from pipeline.messages import DetectionsHeaders
from pipeline.panel import Panel
from pipeline.publication import Publication
from pipeline.suppressions import (
    MOST_ENTRIES,
    Suppressed,
    Suppression,
    Suppressions,
    is_suppressed,
    lint_suppressions,
    load_suppressions,
    suppressed_by,
)
from pipeline.told import Told

Flagged = Callable[..., pa.RecordBatch]
Headers = Callable[..., DetectionsHeaders]

START = datetime.fromtimestamp(1_700_000_040, UTC)
"""Of the clock in `flagged`."""


def marked(rows: pa.RecordBatch, *entries: Suppression) -> pa.RecordBatch:
    """Return rows as the judge marks them."""
    at = rows.schema.get_field_index("suppressed")
    return rows.set_column(at, rows.schema.field(at), Suppressions(entries).of_rows(rows))


def entry(**conditions: Any) -> Suppression:
    """Return an entry as it is read from a file."""
    return Suppression.model_validate({"reason": "known scanner", **conditions})


ADDRESSES = ["10.0.0.5", "10.0.0.9", "10.1.0.5", "2001:db8::5"]
NETWORKS = ["10.0.0.5", "10.0.0.0/8", "10.0.0.8/30", "0.0.0.0/0", "2001:db8::/32", "::/0"]
ROW = st.fixed_dictionaries(
    {
        "src_ip": st.sampled_from([*ADDRESSES, None]),
        "dst_ip": st.sampled_from([*ADDRESSES, None]),
        "dst_port": st.sampled_from([22, 443, None]),
        "protocol": st.sampled_from(["tcp", "udp", None]),
        "sensor": st.sampled_from(["hq", "dc"]),
        "about": st.sampled_from(["flow", "src", "dst", "pair"]),
        "leading": st.sampled_from(
            ["noise_direction:n3", "residual:src_bytes", "residual:udp:src_bytes", "feature:tcp:service=a:b"]
        ),
        "at": st.integers(0, 100),
    }
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "entity": st.sampled_from(NETWORKS),
        "source": st.sampled_from(NETWORKS),
        "destination": st.sampled_from(NETWORKS),
        "port": st.sampled_from([22, 443]),
        "protocol": st.just("tcp"),
        "sensor": st.just("hq"),
        "leading": st.just("noise_direction:n3"),
        "feature": st.sampled_from(["src_bytes", "service", "n3"]),
        "from": st.integers(0, 49).map(lambda s: (START + timedelta(seconds=s)).isoformat()),
        "until": st.integers(50, 100).map(lambda s: (START + timedelta(seconds=s)).isoformat()),
    },
).filter(lambda asked: set(asked) - {"from", "until"})


def _meets(row: dict[str, Any], asked: dict[str, Any]) -> bool:
    """Say by hand whether a row meets all conditions of an entry."""
    sides = {"src": ["src_ip"], "flow": ["src_ip"], "dst": ["dst_ip"], "pair": ["src_ip", "dst_ip"]}
    time = START + timedelta(seconds=row["at"])
    feature = row["leading"].split("=")[0].split(":")[-1]
    checks = {
        "entity": lambda network: any(_inside(row[side], network) for side in sides[row["about"]]),
        "source": lambda network: _inside(row["src_ip"], network),
        "destination": lambda network: _inside(row["dst_ip"], network),
        "port": lambda port: row["dst_port"] == port,
        "protocol": lambda protocol: row["protocol"] == protocol,
        "sensor": lambda sensor: row["sensor"] == sensor,
        "leading": lambda leading: row["leading"] == leading,
        "feature": lambda name: feature == name and not row["leading"].startswith("noise_direction"),
        "from": lambda text: time >= datetime.fromisoformat(text),
        "until": lambda text: time < datetime.fromisoformat(text),
    }
    return all(checks[name](value) for name, value in asked.items())


def _inside(address: str | None, network: str) -> bool:
    if address is None:
        return False
    within, found = ip_network(network), ip_address(address)
    return found in within if found.version == within.version else network == "::/0"


@settings(max_examples=200, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=12), st.lists(ENTRY, max_size=4))
def test_an_entry_keeps_back_what_meets_all_its_conditions(
    flagged: Flagged, rows: list[dict[str, Any]], asked: list[dict[str, Any]]
) -> None:
    """Each row names the first entry that it meets, and none where there is none."""
    entries = [entry(**one, reason=f"reason {index}") for index, one in enumerate(asked)]
    expected = [
        next((e.id for e, one in zip(entries, asked, strict=True) if _meets(row, one)), None) for row in rows
    ]

    found = marked(flagged(*rows), *entries).column("suppressed").to_pylist()

    assert expected == [Suppressed.from_json(text).id if text else None for text in found]


def test_an_entry_ends_on_the_lane_clock(flagged: Flagged) -> None:
    """A flow that ended before, but came when the clock was past it, is no longer kept back."""
    until = START + timedelta(seconds=60)
    late = {"at": 61, "event_time": flagged({}).to_pylist()[0]["event_time"]}
    rows = marked(flagged({"at": 59.9}, {"at": 60}, late), entry(sensor="hq", until=until.isoformat()))

    assert is_suppressed(rows).tolist() == [True, False, False]


def test_logs_of_earlier_versions_suppress_nothing(flagged: Flagged, headers: Headers) -> None:
    """A detections topic that was written before there were suppressions is read as it always was."""
    rows = flagged({}, {})
    older = rows.drop_columns(["suppressed"])

    assert not is_suppressed(older).any()
    assert suppressed_by(older) == {}
    assert [p.row for p in Grouper(0).feed(older, headers())] == [0, 1]


def reports(published: list[Publication]) -> list[Publication]:
    """Return what tells of suppressed flows."""
    return [publication for publication in published if publication.suppressed]


def test_what_is_kept_back_is_reported_once_an_hour(flagged: Flagged, headers: Headers) -> None:
    """No alert, but one summary an hour, entry and sensor: how many, from whom, why and until when."""
    until = "2024-01-01T00:00:00Z"
    known = entry(source="10.0.0.5", reason="the team's scanner", until=until)
    grouper, published = Grouper(0), []
    for minute in range(0, 130, 10):
        rows = flagged(*({"at": 60 * minute, "dst_port": port} for port in range(minute, minute + 5)))
        published += grouper.feed(marked(rows, known), headers(60 * minute + 1))

    assert reports(published) == published
    [first, second] = published
    assert first.group
    assert second.group
    # The clock begins at 22:14.
    assert [first.group.count, second.group.count] == [25, 30]
    body = json.loads(make_alert(first).body)
    jsonschema.validate(body, alert_schema())
    assert body["event"]["kind"] == "event"
    assert body["event"]["severity"] == 0
    assert body["tags"] == ["summary", "suppressed"]
    assert body["weir"]["suppression"] == {"id": known.id, "reason": "the team's scanner", "until": until}
    assert body["event"]["reason"] == (
        "hq: 25 suppressed flows within 40 min from 10.0.0.5 to 10.0.0.9 on 25 ports until "
        "2024-01-01T00:00:00Z: the team's scanner"
    )


def test_a_flush_reports_at_once(flagged: Flagged, headers: Headers) -> None:
    """The end of a replay leaves nothing untold; what comes after it is a report of its own."""
    rows = marked(flagged({}, {}), entry(sensor="hq"))
    grouper = Grouper(0)
    [before] = grouper.feed(rows, headers(flush=True))
    [after] = grouper.feed(rows, headers(flush=True))

    assert before.group
    assert after.group
    assert before.group.id != after.group.id
    assert grouper.feed(flagged(), headers(flush=True)) == []


LOG = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0, 61.0, 1800.0]), st.booleans(), st.booleans()), max_size=30
)


@settings(max_examples=100, deadline=None)
@given(log=LOG, enabled=st.booleans())
def test_every_flagged_flow_is_published_counted_or_reported(
    flagged: Flagged,
    headers: Headers,
    log: list[tuple[float, bool, bool]],
    *,
    enabled: bool,
) -> None:
    """However the log is cut, and with or without groups."""
    now, rows = 0.0, []
    for index, (step, other, _) in enumerate(log):
        now += step
        rows.append({"at": now, "flow_id": f"F{index}", "src_ip": "10.0.0.6" if other else "10.0.0.5"})
    kept_back = marked(flagged(*rows), entry(source="10.0.0.5"))

    def alerts(grouper: Grouper, begin: int, end: int, *, whole: bool) -> list[bytes]:
        found: list[Publication] = []
        cuts = [begin, *(i for i in range(begin + 1, end) if log[i][2] and not whole), end]
        for first, last in itertools.pairwise(cuts):
            until = rows[last - 1]["at"] if last else 0
            found += grouper.feed(kept_back.slice(first, last - first), headers(until))
        return [make_alert(one).body for one in found]

    def closed(grouper: Grouper) -> list[bytes]:
        return [make_alert(one).body for one in grouper.feed(flagged(), headers(now, flush=True))]

    one, two = Grouper(0, enabled=enabled), Grouper(0, enabled=enabled)
    whole = alerts(one, 0, len(log), whole=True) + closed(one)
    assert whole == alerts(two, 0, len(log), whole=False) + closed(two)

    bodies = [json.loads(body) for body in whole]
    told = sum(body["weir"]["group"]["count"] for body in bodies if "suppressed" in body.get("tags", ()))
    assert told == sum(not other for _, other, _ in log)
    assert not any(
        body.get("source", {}).get("ip") == "10.0.0.5" for body in bodies if body["event"]["kind"] == "alert"
    )


@settings(max_examples=60, deadline=None)
@given(log=LOG, first=st.integers(1, 3))
def test_what_is_published_is_what_was_explained(
    flagged: Flagged, headers: Headers, log: list[tuple[float, bool, bool]], first: int
) -> None:
    """However the log is cut: the judge counts the rows of a group as the alerts stage does."""
    now, grouper, told = 0.0, Grouper(0, first=first), Told(first=first, width_us=60_000_000)
    pending: list[dict[str, Any]] = []
    for index, (step, port, cut) in enumerate([*log, (0.0, False, True)]):
        now += step
        pending.append({"at": now, "flow_id": f"F{index}", "dst_port": 22 if port else 80})
        if cut:
            rows, said = marked(flagged(*pending), entry(port=22)), headers(now)
            explained, told = told.behind(rows, 0)
            told = told.closed(said.clock_end_us, flush=False)
            published = {one.row for one in grouper.feed(rows, said) if not one.is_summary}
            assert published == set(explained.tolist())
            pending.clear()


def test_reasons_go_to_the_rows_that_are_published(tmp_path: Path) -> None:
    """Rows that are kept back take no explanation from those behind them, which an alert tells of."""
    model = conn_bundle(tmp_path, "m", RobustZScore())
    (features,) = (
        offline_features(CONN_SET, [conn_rows(60, first=600)]).features.combine_chunks().to_batches()
    )
    panel = Panel(name="p", alpha=1.0, bundles=(model,))
    plain = Judge(panel, first=1, bucket_s=1e6).judge(features, 0).flagged
    first = np.flatnonzero(plain.column("reasons").is_valid())[0]
    port = plain.column("dst_port")[first].as_py()
    known = Suppressions((entry(port=port),))

    found = Judge(panel, first=1, bucket_s=1e6, suppressions=known).judge(features, 0).flagged
    without_groups = Judge(panel, first=None, bucket_s=1e6, suppressions=known).judge(features, 0).flagged

    kept_back = is_suppressed(found)
    told = found.column("reasons").is_valid().to_numpy(zero_copy_only=False)
    assert kept_back[first]
    assert not (kept_back & told).any()
    groups = {
        (row["leading"], row["src_ip"])
        for row in found.filter(pa.array(~kept_back)).to_pylist()
        if row["about"] != "dst"
    }
    of_told = {
        (row["leading"], row["src_ip"])
        for row in found.filter(pa.array(told)).to_pylist()
        if row["about"] != "dst"
    }
    assert groups == of_told
    assert without_groups.column("reasons").is_valid().to_pylist() == (~kept_back).tolist()


def test_lint_reports_every_mistake_of_the_file(tmp_path: Path) -> None:
    """Each with the file and where in it."""
    path = tmp_path / "known.yaml"
    path.write_text(
        "suppressions:\n"
        "- {reason: fine, entity: 10.0.0.5, until: 2026-03-01T00:00:00Z}\n"
        "- {reason: bits, entity: 10.0.0.5/8, prt: 5}\n"
        "- {reason: all of it}\n"
        "- {entity: '::1'}\n"
        "- {reason: no zone, port: 70000, until: 2026-03-01T00:00:00}\n"
        "- {reason: turned, sensor: hq, from: 2026-03-01T00:00:00Z, until: 2026-02-01T00:00:00Z}\n",
        encoding="utf-8",
    )  # fmt: skip

    problems = lint_suppressions(path)

    places = [problem.removeprefix(f"{path}: ").partition(": ")[0] for problem in problems]
    assert places == [
        "suppressions[1].entity",
        "suppressions[1].prt",
        "suppressions[2]",
        "suppressions[3].reason",
        "suppressions[4].port",
        "suppressions[4].until",
        "suppressions[5]",
    ]
    assert "did you mean port?" in problems[1]
    with pytest.raises(SettingsError, match=r"wrong suppressions:\n.*host bits set; expected an address as"):
        load_suppressions(path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- a\n", "expected one list: suppressions"),
        ("suppresions: []\n", "expected one list: suppressions"),
        ("a: [\n", "is not valid YAML"),
        ("suppressions: [5]\n", "suppressions[0]: 5 is wrong"),
        (f"suppressions: [{'{}, ' * (MOST_ENTRIES + 1)}]\n", f"at most {MOST_ENTRIES}"),
    ],
)
def test_another_file_is_told_apart(tmp_path: Path, text: str, problem: str) -> None:
    """A typing error in the first line does not switch off all suppressions in silence."""
    path = tmp_path / "known.yaml"
    path.write_text(text, encoding="utf-8")

    [found] = lint_suppressions(path)

    assert problem in found


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """Rather than alert of all that it would have kept back."""
    with pytest.raises(
        SettingsError, match=r"alerts\.suppressions: cannot read suppressions from .*none\.yaml"
    ):
        load_suppressions(tmp_path / "none.yaml")


@pytest.mark.parametrize("text", ["", "suppressions:\n", "suppressions: []\n"])
def test_an_empty_file_suppresses_nothing(tmp_path: Path, text: str) -> None:
    """A file whose entries have all been taken out is no mistake."""
    path = tmp_path / "known.yaml"
    path.write_text(text, encoding="utf-8")

    assert load_suppressions(path).entries == ()


def test_flows_are_counted_by_reason(flagged: Flagged) -> None:
    """The label of the metric is the reason, in its letters and digits."""
    rows = marked(
        flagged({}, {}, {"dst_port": 1}, {"sensor": "dc"}),
        entry(port=1, reason="Backup, nightly"),
        entry(sensor="hq"),
    )

    assert suppressed_by(rows) == {"known_scanner": 2, "backup_nightly": 1}
