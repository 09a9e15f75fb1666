"""The synthetic site: its habits, its attacks, and that a seed decides all of it."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.errors import SourceError
from connectors.records import CONN
from connectors.source_synthetic import SyntheticSource
from connectors.synthetic.attacks import ATTACKS
from connectors.synthetic.flows import LABELS
from connectors.table_fields import packed_address

MONDAY, SUNDAY = date(2026, 3, 2), date(2026, 3, 8)
OWN = ["flow_id", "position"]  # what depends on the place in a source


def table(source: SyntheticSource, start: int = 0, rows: int = 50_000) -> pa.Table:
    batches = [chunk.rows for chunk in source.chunks(start, rows=rows)]
    return pa.Table.from_batches(batches, CONN.schema).combine_chunks()


def column(flows: pa.Table, name: str) -> npt.NDArray[Any]:
    return np.asarray(flows[name].to_numpy())


def hours(flows: pa.Table) -> npt.NDArray[np.int64]:
    return np.bincount(pc.hour(flows["event_time"]).to_numpy(), minlength=24)


@pytest.fixture(scope="module")
def workday() -> pa.Table:
    """The normal flows of a Monday."""
    return table(SyntheticSource(seed=1, attacks=False))


@pytest.fixture(scope="module")
def attacked() -> tuple[SyntheticSource, pa.Table]:
    """The same Monday with every attack."""
    source = SyntheticSource(seed=1)
    return source, table(source)


def test_flows_are_in_the_order_of_their_ends(attacked: tuple[SyntheticSource, pa.Table]) -> None:
    """Event times never step back, and lie within the day."""
    times = column(attacked[1], "event_time")

    assert (np.diff(times).astype(np.int64) >= 0).all()
    assert times[0] >= np.datetime64(MONDAY)
    assert times[-1] < np.datetime64(MONDAY + timedelta(days=1))


def test_a_working_day_has_its_usual_size(workday: pa.Table) -> None:
    """The default site gives what the documentation says."""
    assert 60_000 < workday.num_rows < 120_000


def test_days_have_their_rhythm(workday: pa.Table) -> None:
    """Work by day, a dip at lunch, quiet nights, quieter weekends, backups at night."""
    by_hour = hours(workday)
    sunday = table(SyntheticSource(seed=1, start=SUNDAY, attacks=False))
    backups = hours(workday.filter(pc.equal(workday["dst_port"], 873)))

    assert by_hour[9:17].mean() > 5 * by_hour[[0, 1, 2, 3, 4, 5, 22, 23]].mean()
    assert by_hour[12] < 0.8 * min(by_hour[10], by_hour[14])
    assert sunday.num_rows < 0.4 * workday.num_rows
    assert backups[1:4].sum() == backups.sum() > 0


def test_sizes_are_heavy_tailed(workday: pa.Table) -> None:
    """A few web answers are far larger than most."""
    web = column(workday.filter(pc.equal(workday["dst_port"], 3128)), "dst_bytes")
    median, high = np.nanpercentile(web, [50, 99])

    assert high > 15 * median


def test_bytes_packets_and_durations_agree(attacked: tuple[SyntheticSource, pa.Table]) -> None:
    """Packets carry at least their headers and at most a full frame; what took packets took time."""
    flows = attacked[1].filter(pc.is_valid(attacked[1]["dst_packets"]))
    header = np.where(column(flows, "protocol") == "tcp", 40, 28)
    for side in ("src", "dst"):
        size, packets = column(flows, f"{side}_bytes"), column(flows, f"{side}_packets")
        assert (packets >= 1).all()
        assert (size >= header * packets).all()
        assert (size <= 1500 * packets).all()
    volume = column(flows, "src_bytes") + column(flows, "dst_bytes")

    assert (volume / np.maximum(column(flows, "duration"), 1e-4) < 1e9).mean() > 0.999


def test_failures_are_few_and_look_like_failures(workday: pa.Table) -> None:
    """Some percent of a normal day fail, without a service, in one to three packets."""
    failed = workday.filter(pc.is_in(workday["state"], pa.array(["attempted", "rejected"])))
    tcp = failed.filter(pc.equal(failed["protocol"], "tcp"))

    assert 0.003 < failed.num_rows / workday.num_rows < 0.03
    assert tcp["service"].null_count == tcp.num_rows > 100
    assert pc.max(tcp["src_packets"]).as_py() <= 3


def test_nobody_talks_to_himself(attacked: tuple[SyntheticSource, pa.Table]) -> None:
    """No flow has one host at both ends."""
    assert not pc.any(pc.equal(attacked[1]["src_ip"], attacked[1]["dst_ip"])).as_py()


def test_attacks_do_not_change_the_normal_flows(
    workday: pa.Table, attacked: tuple[SyntheticSource, pa.Table]
) -> None:
    """With or without attacks, a day's normal flows are the same."""
    normal = attacked[1].filter(pc.equal(attacked[1]["label"], "normal"))

    assert workday.drop_columns(OWN).equals(normal.drop_columns(OWN).combine_chunks())


def test_a_date_is_the_same_day_in_every_source() -> None:
    """Where a source begins does not change its days: training and replay see one site."""
    two = table(SyntheticSource(seed=5, days=2, scale=0.02))
    second = table(SyntheticSource(seed=5, start=MONDAY + timedelta(days=1), scale=0.02))
    tail = two.slice(two.num_rows - second.num_rows)

    assert second.drop_columns(OWN).equals(tail.drop_columns(OWN).combine_chunks())


def test_seeds_differ() -> None:
    """Another seed is another site with other ids."""
    first, second = (table(SyntheticSource(seed=seed, scale=0.02)) for seed in (1, 2))

    assert not set(first["flow_id"].to_pylist()) & set(second["flow_id"].to_pylist())
    assert not first["duration"].equals(second["duration"])


SHORT = SyntheticSource(seed=9, days=3, scale=0.003, attacks=("beaconing", "slow_exfiltration"))
WHOLE = table(SHORT)


@settings(max_examples=30, deadline=None)
@given(start=st.integers(0, WHOLE.num_rows), rows=st.integers(1, 5000))
def test_any_position_of_any_day_is_reached(start: int, rows: int) -> None:
    """Reading from any position equals the rest of the whole, across hours and days."""
    assert table(SHORT, start, rows).equals(WHOLE.slice(start).combine_chunks())


def test_scale_and_people_make_more_flows() -> None:
    """Twice the scale is twice the flows; fewer people make fewer."""
    base = SyntheticSource(seed=1, attacks=False, scale=0.5).n_records or 0
    double = SyntheticSource(seed=1, attacks=False, scale=1.0).n_records or 0
    half = SyntheticSource(seed=1, attacks=False, scale=0.5, workstations=20).n_records or 0

    assert double / base == pytest.approx(2, rel=0.05)
    assert 0.4 < half / base < 0.75


@pytest.mark.parametrize("kind", ATTACKS)
def test_listed_attacks_are_the_labelled_ones(kind: str, attacked: tuple[SyntheticSource, pa.Table]) -> None:
    """An attack's entry says when it happened, by whom, on whom, and how many flows it has."""
    (entry,) = (attack for attack in attacked[0].attacks() if attack.kind == kind)
    flows = attacked[1].filter(pc.equal(attacked[1]["label"], kind))
    times = flows["event_time"].to_pylist()

    assert (entry.n_flows, entry.start, entry.end) == (flows.num_rows, times[0], times[-1])
    assert entry.start >= datetime(2026, 3, 2, tzinfo=UTC)
    for side, name in (("src_ip", entry.source), ("dst_ip", entry.target)):
        hosts = set(flows[side].to_pylist())
        assert hosts == {packed_address(name)} or name.split()[0] == str(len(hosts))


@pytest.mark.parametrize("seed", range(6))
def test_attacks_look_like_what_they_are(seed: int) -> None:
    """Each kind shows the trait by which it is known, whatever the seed."""
    flows = table(SyntheticSource(seed=seed, scale=0.001))
    by = {kind: flows.filter(pc.equal(flows["label"], kind)) for kind in ATTACKS}
    beacon = np.diff(column(by["beaconing"], "event_time")).astype(np.int64) / 1e6
    exfiltration, tunnel = by["slow_exfiltration"], by["dns_tunnel"]
    guesses = by["ssh_brute_force"]

    assert pc.count_distinct(by["port_scan"]["dst_port"]).as_py() == by["port_scan"].num_rows >= 800
    assert pc.count_distinct(by["host_sweep"]["dst_ip"]).as_py() == by["host_sweep"].num_rows >= 400
    assert set(guesses["dst_port"].to_pylist()) == {22}
    assert np.std(column(guesses, "src_bytes")) < 0.1 * np.mean(column(guesses, "src_bytes"))
    assert np.median(column(exfiltration, "src_bytes") / column(exfiltration, "dst_bytes")) > 30
    assert np.median(column(tunnel, "src_bytes")) > 2 * 67  # twice a usual question
    assert pc.count_distinct(by["syn_flood"]["src_ip"]).as_py() > 0.99 * by["syn_flood"].num_rows
    assert set(by["syn_flood"]["state"].to_pylist()) == {"attempted"}
    assert np.std(beacon) < 0.15 * np.mean(beacon)


def test_every_kind_has_a_label() -> None:
    """Labels are the kinds of attack, after normal."""
    assert tuple(ATTACKS) == LABELS[1:]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"days": 0}, "days is 0, expected 1"), ({"seed": -1}, "seed is -1"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"scale": float("nan")}, "scale is nan"), ({"workstations": 0}, "workstations is 0"),
        ({"attacks": ("dns_tunel",)}, "no attack 'dns_tunel'; expected some of port_scan"),
        ({"start": date(2099, 1, 1)}, "year of start is 2099"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_named(wrong: dict[str, Any], message: str) -> None:
    """An argument out of range is refused with its range."""
    with pytest.raises(SourceError, match=message):
        SyntheticSource(**wrong)
