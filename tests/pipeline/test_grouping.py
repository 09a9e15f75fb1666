"""Grouping: few alerts of many flagged flows, whatever the cut of the log and the crashes."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alert import make_alert
from pipeline.errors import JournalError
from pipeline.grouping import Grouper, bucket_of
from pipeline.groups import MAX_DISTINCT
from pipeline.messages import DetectionsHeaders
from pipeline.publication import OVERFLOW, Publication
from pipeline.told import Told

Flagged = Callable[..., pa.RecordBatch]
Headers = Callable[..., DetectionsHeaders]
Message = tuple[pa.RecordBatch, DetectionsHeaders]

# One entry of a log: how far the clock moves, and the flagged flow there; None is a flow that was not
# flagged, "flush" a flush message.
ADDRESSES = st.sampled_from(["10.0.0.1", "10.0.0.2", "::1", None])
FLOW = st.fixed_dictionaries(
    {
        "src_ip": ADDRESSES,
        "dst_ip": ADDRESSES,
        "about": st.sampled_from(["flow", "src", "dst", "pair"]),
        "leading": st.sampled_from(["noise_direction:n3", "residual:src_bytes_60s"]),
        "p_value": st.sampled_from([1e-9, 2e-6, 5e-5]),
        "late": st.sampled_from([0, 5_000_000]),
    }
)
STEP = st.sampled_from([0.0, 0.0, 1.0, 25.0, 61.0])
LOG = st.lists(st.tuples(STEP, st.one_of(FLOW, FLOW, FLOW, st.none(), st.just("flush"))), max_size=40)
CUTS = st.lists(st.booleans(), min_size=40, max_size=40)


@pytest.fixture(scope="session")
def messages(flagged: Flagged, headers: Headers) -> Callable[..., list[Message]]:
    """Return a maker of the detections messages of a log, cut where told and around every flush."""

    def make(log: Sequence[Any], cuts: Sequence[bool]) -> list[Message]:
        found: list[Message] = []
        rows: list[dict[str, Any]] = []
        now = 0.0

        def close(**changes: Any) -> None:
            found.append((_as_judged(flagged(*rows)), headers(now, **changes)))
            rows.clear()

        for index, ((step, entry), cut) in enumerate(zip(log, cuts, strict=False)):
            if entry == "flush":
                close()
                close(flush=True)
                continue
            now += step
            if entry is not None:
                late = entry["late"]
                row = flagged({"at": now}).to_pylist()[0]["clock_us"]
                plain = {name: value for name, value in entry.items() if name != "late"}
                rows.append(plain | {"at": now, "flow_id": f"F{index}", "event_time": row - late})
            if cut:
                close()
        close()
        return found

    return make


def _as_judged(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Take the reasons of rows that grouping cannot publish away, as the judge does."""
    kept = set(Told(first=3, width_us=60_000_000).behind(rows, 0)[0].tolist())
    reasons = [text if i in kept else None for i, text in enumerate(rows.column("reasons").to_pylist())]
    return rows.set_column(len(rows.schema) - 1, rows.schema.field("reasons"), pa.array(reasons, pa.string()))


def _alerts(publications: Sequence[Publication]) -> list[tuple[str, bytes]]:
    alerts = [make_alert(publication) for publication in publications]
    return [(alert.id, alert.body) for alert in alerts]


def _run(grouper: Grouper, messages: Sequence[Message]) -> list[Publication]:
    return [publication for message in messages for publication in grouper.feed(*message)]


@settings(max_examples=150, deadline=None)
@given(LOG, CUTS, st.sampled_from([2, 1000]))
def test_the_cut_of_the_log_into_messages_does_not_matter(
    messages: Callable[..., list[Message]], log: list[Any], cuts: list[bool], max_groups: int
) -> None:
    """The same flows give the same alerts, byte for byte and in order, in any messages."""
    whole = _run(Grouper(0, max_groups=max_groups), messages(log, [False] * 40))
    split = _run(Grouper(0, max_groups=max_groups), messages(log, cuts))

    assert _alerts(whole) == _alerts(split)


@settings(max_examples=100, deadline=None)
@given(LOG, CUTS, st.data())
def test_a_restart_changes_nothing(
    messages: Callable[..., list[Message]], log: list[Any], cuts: list[bool], data: st.DataObject
) -> None:
    """A lane fed again from the beginning of its bucket goes on as if nothing had happened."""
    stream = messages(log, cuts)
    done = data.draw(st.integers(1, len(stream)), label="messages done before the crash")
    steady = Grouper(0)
    _run(steady, stream[:done])
    current = bucket_of(stream[done - 1][1].clock_end_us)
    begin = next(i for i, (_, h) in enumerate(stream) if bucket_of(h.clock_end_us) == current)
    restarted = Grouper(0)
    _run(restarted, stream[begin:done])

    assert _alerts(_run(steady, stream[done:])) == _alerts(_run(restarted, stream[done:]))


@settings(max_examples=100, deadline=None)
@given(LOG)
def test_every_flagged_flow_is_published_or_counted(
    messages: Callable[..., list[Message]], log: list[Any]
) -> None:
    """Of each key and part: the first three flows, and a summary with the count if there are more."""
    stream = messages([*log, (61.0, None)], [False] * 41)
    expected: Counter[Any] = Counter()
    flushes = 0
    for rows, header in stream:
        for row in rows.to_pylist():
            address = row["dst_ip"] if row["about"] == "dst" else row["src_ip"]
            expected[bucket_of(row["clock_us"]), flushes, address, row["leading"]] += 1
        flushes += header.flush
    published = _run(Grouper(0), stream)
    summaries = [p.group.count for p in published if p.is_summary and p.group]

    assert sum(min(n, 3) for n in expected.values()) == sum(not p.is_summary for p in published)
    assert sorted(n for n in expected.values() if n > 3) == sorted(summaries)
    assert len(published) == len({alert_id for alert_id, _ in _alerts(published)})


def test_three_flows_then_one_summary(flagged: Flagged, headers: Headers) -> None:
    """A scan of 500 flows gives four alerts, the last one when its minute is over."""
    rows = flagged(
        *({"at": i / 10, "flow_id": f"F{i}", "dst_port": i, "p_value": 1e-5 / (i + 1)} for i in range(500))
    )
    grouper = Grouper(0)
    first = grouper.feed(rows, headers(50))
    then = grouper.feed(flagged(), headers(60))

    assert [publication.row for publication in first] == [0, 1, 2]
    assert [publication.group.count for publication in first if publication.group] == [1, 2, 3]
    [summary] = then
    assert summary.is_summary
    assert summary.group is not None
    assert summary.group.count == 500
    assert summary.group.entity == "10.0.0.5"
    assert summary.group.p_value == 1e-5 / 500
    assert summary.group.last_us - summary.group.first_us == 49_900_000
    assert len(summary.group.destinations) == 1
    assert len(summary.group.ports) == MAX_DISTINCT
    assert summary.flow.flow_id == "F2"  # the strongest of the published ones


def test_a_flush_closes_groups_and_a_reopened_group_is_another_part(
    flagged: Flagged, headers: Headers
) -> None:
    """After a flush the same key begins again, under another id."""
    four = [{"flow_id": f"F{i}"} for i in range(4)]
    grouper = Grouper(0)
    before = grouper.feed(flagged(*four), headers(flush=True))
    after = grouper.feed(flagged(*four), headers(flush=True))

    assert [publication.row for publication in before] == [0, 1, 2, None]
    assert [publication.row for publication in after] == [0, 1, 2, None]
    assert before[3].group is not None
    assert after[3].group is not None
    assert before[3].group.id != after[3].group.id
    assert grouper.feed(flagged(), headers(flush=True)) == []


@pytest.mark.parametrize(
    ("about", "entity"),
    [("src", "10.0.0.5"), ("flow", "10.0.0.5"), ("pair", "10.0.0.5"), ("dst", "10.0.0.9")],
)
def test_the_entity_is_whom_the_leading_term_is_about(
    flagged: Flagged, headers: Headers, about: str, entity: str
) -> None:
    """An anomaly of a destination groups by destination, any other by source."""
    [publication] = Grouper(0).feed(flagged({"about": about}), headers())

    assert publication.group is not None
    assert publication.group.entity == entity


def test_without_addresses_the_sensor_is_the_entity(flagged: Flagged, headers: Headers) -> None:
    """A sensor that is called like an address stays apart from that address."""
    rows = flagged({"src_ip": None, "dst_ip": None, "sensor": "10.0.0.5"}, {"sensor": "10.0.0.5"})
    by_sensor, by_address = Grouper(0).feed(rows, headers())

    assert by_sensor.group is not None
    assert by_address.group is not None
    assert by_sensor.group.entity == by_address.group.entity == "10.0.0.5"
    assert by_sensor.group.id != by_address.group.id


def test_group_ids_tell_lanes_panels_versions_and_buckets_apart(
    flagged: Flagged, headers: Headers, panel: dict[str, Any]
) -> None:
    """Whatever belongs to the key enters into the id."""
    newer = panel | {"models": [panel["models"][0] | {"version": "4"}, panel["models"][1]]}
    cases = [
        (Grouper(0), flagged({}), headers()),
        (Grouper(1), flagged({}), headers()),
        (Grouper(0), flagged({"at": 60}), headers(60)),
        (Grouper(0), flagged({"sensor": "dc"}), headers()),
        (Grouper(0), flagged({"leading": "residual:dst_bytes"}), headers()),
        (Grouper(0), flagged({}), headers(panel=panel | {"name": "other"})),
        (Grouper(0), flagged({}), headers(panel=newer)),
    ]
    groups = [grouper.feed(rows, header)[0].group for grouper, rows, header in cases]

    assert len(cases) == len({group.id for group in groups if group})


def test_grouping_off_publishes_everything(flagged: Flagged, headers: Headers) -> None:
    """Every flagged flow is an alert of its own and nothing is summed up."""
    rows = flagged(*({"flow_id": f"F{i}"} for i in range(20)))
    grouper = Grouper(0, enabled=False)
    published = grouper.feed(rows, headers(flush=True))

    assert list(range(20)) == [publication.row for publication in published]
    assert {None} == {publication.group for publication in published}
    assert grouper.n_groups == 0


def test_none_one_by_one_still_gives_an_explained_summary(flagged: Flagged, headers: Headers) -> None:
    """With `first=0` a group is its summary alone, told by its first flow."""
    rows = _as_judged(flagged({"flow_id": "F0"}, {"flow_id": "F1"}))
    [summary] = Grouper(0, first=0).feed(rows, headers(flush=True))

    assert summary.is_summary
    assert summary.flow.flow_id == "F0"
    assert summary.flow.reasons is not None


def test_many_sources_make_neither_many_groups_nor_many_alerts(flagged: Flagged, headers: Headers) -> None:
    """A flood from made-up sources fills a bucket's groups, then one more that says so."""
    grouper = Grouper(0, max_groups=10)
    rows = [{"src_ip": f"10.1.{i // 256}.{i % 256}", "flow_id": f"F{i}"} for i in range(2000)]
    published = grouper.feed(_as_judged(flagged(*rows)), headers(flush=True))
    last = published[-1]

    assert grouper.n_groups == 11
    assert len(published) == 10 + 3 + 1
    assert last.group is not None
    assert (last.group.entity, last.group.count) == (OVERFLOW, 1990)
    assert all(publication.flow.reasons for publication in published)


def test_old_buckets_are_forgotten(flagged: Flagged, headers: Headers) -> None:
    """Only groups of the current bucket are kept."""
    grouper = Grouper(0)
    for minute in range(5):
        grouper.feed(flagged({"at": 60 * minute}), headers(60 * minute))

    assert grouper.n_groups == 1


def test_a_clock_that_goes_back_reopens_nothing(flagged: Flagged, headers: Headers) -> None:
    """A message with an older clock counts in the current bucket, under no id of the past."""
    grouper = Grouper(0)
    [old] = grouper.feed(flagged({}), headers())
    [new] = grouper.feed(flagged({"at": 60}), headers(60))
    [late] = grouper.feed(flagged({"at": 0}), headers(0))

    assert old.group is not None
    assert new.group is not None
    assert late.group is not None
    assert new.group.id == late.group.id != old.group.id


def test_the_first_rows_of_each_group_are_explained(flagged: Flagged) -> None:
    """Three of each sensor, entity, leading term and bucket."""
    rows = flagged(*([{}] * 5), *([{"src_ip": "10.0.0.6"}] * 2), *([{"at": 60}] * 4))

    def explained(first: int, width_s: int) -> list[int]:
        found: list[int] = Told(first=first, width_us=width_s * 1_000_000).behind(rows, 0)[0].tolist()
        return found

    assert explained(3, 60) == [0, 1, 2, 5, 6, 7, 8, 9]
    assert explained(1, 60) == [0, 5, 7]
    assert explained(3, 3600) == [0, 1, 2, 5, 6]


@settings(max_examples=60, deadline=None)
@given(log=LOG, cuts=CUTS, max_groups=st.integers(1, 3))
def test_what_is_published_is_what_was_explained(
    messages: Callable[..., list[Message]], log: Any, cuts: list[bool], max_groups: int
) -> None:
    """However the log is cut into messages."""
    grouper, told = (
        Grouper(0, max_groups=max_groups),
        Told(first=3, width_us=60_000_000, max_groups=max_groups),
    )
    for rows, headers in messages(log, cuts):
        explained, told = told.behind(rows, headers.clock_us)
        told = told.closed(headers.clock_end_us, flush=headers.flush)

        published = {one.row for one in grouper.feed(rows, headers) if not one.is_summary}
        assert published == set(explained.tolist())


def test_a_storm_is_explained_once(flagged: Flagged) -> None:
    """Message after message of one source: three rows, then none, and three again in the next bucket."""
    told = Told(first=3, width_us=60_000_000)
    explained = []
    for second in (0, 1, 2, 60):
        rows, told = told.behind(flagged(*([{"at": second}] * 5)), 0)
        explained.append(rows.tolist())

    assert explained == [[0, 1, 2], [], [], [0, 1, 2]]


def test_a_panel_card_of_something_else_is_named(flagged: Flagged, headers: Headers) -> None:
    """A header that no judge wrote stops with what was expected."""
    with pytest.raises(JournalError, match=r"weir-panel .* expected a name and models"):
        Grouper(0).feed(flagged({}), headers(panel={"name": "main"}))
