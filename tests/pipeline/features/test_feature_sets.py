"""Every feature set: finite for whatever the check lets through, and what `conn` makes of flows."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.records import CONN, KDD
from connectors.sources import open_source
from pipeline.errors import FeatureSetError
from pipeline.features.base import CARRIED, UNKNOWN, FeatureSet
from pipeline.features.feature_sets import FEATURE_SETS, feature_set
from pipeline.features.lane import LaneFeatures, offline_features

MakeRows = Callable[..., pa.RecordBatch]


@pytest.fixture(params=sorted(FEATURE_SETS))
def chosen(request: pytest.FixtureRequest) -> FeatureSet:
    """Each feature set in turn."""
    return FEATURE_SETS[request.param]


def _flow(**changes: object) -> pa.RecordBatch:
    row = {
        "sensor": "gate",
        "flow_id": "f0",
        "event_time": 10**15,
        "src_ip": "192.168.1.9",
        "dst_ip": "203.0.113.7",
        "src_port": 50_000,
        "dst_port": 443,
        "protocol": "tcp",
        "duration": 1.5,
        "src_bytes": 600,
        "dst_bytes": 1400,
        "src_packets": 6,
        "dst_packets": 7,
        "service": "http",
        "state": "established",
    } | changes
    for name in ("src_ip", "dst_ip"):
        if row[name] is not None:
            row[name] = ip_address(f"::ffff:{row[name]}").packed
    return pa.RecordBatch.from_pylist([row], schema=CONN.schema)


def _features(*flows: pa.RecordBatch) -> list[dict[str, object]]:
    rows = pa.Table.from_batches(flows).combine_chunks().to_batches()[0]
    return LaneFeatures(feature_set("conn")).process(rows).to_pylist()


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), n=st.integers(0, 60))
@pytest.mark.parametrize("name", sorted(FEATURE_SETS))
def test_every_checked_row_has_finite_features(make_rows: MakeRows, name: str, seed: int, n: int) -> None:
    """Integers up to 2^63 - 1 and floats up to 1e308 give finite float32, rows keep their places."""
    chosen = FEATURE_SETS[name]
    rows = make_rows(chosen.record_type, n, seed, chosen.required)
    checked = chosen.check(rows)

    features = LaneFeatures(chosen).process(checked.rows)

    assert not checked.bad
    assert chosen.schema == features.schema
    assert all(column.null_count == 0 for column in features.columns[len(CARRIED) :])
    for feature in chosen.features:
        assert np.isfinite(features.column(feature.name).to_numpy()).all(), feature.name
    assert [rows.column(c).to_pylist() for c in CARRIED] == [features.column(c).to_pylist() for c in CARRIED]


def test_names_are_unique_and_label_is_none_of_them(chosen: FeatureSet) -> None:
    """No feature is called like another or like a carried column, and none is the label."""
    names = [*CARRIED, *(feature.name for feature in chosen.features)]

    assert len(names) == len(set(names))
    assert {"label", "position"}.isdisjoint(names)
    assert all(feature.text for feature in chosen.features)


def test_label_changes_nothing(chosen: FeatureSet, make_rows: MakeRows) -> None:
    """The same rows under other labels have the same features."""
    rows = make_rows(chosen.record_type, 50, 5, chosen.required)
    at = rows.schema.get_field_index("label")
    other = rows.set_column(at, rows.schema.field(at), pa.array(["attack"] * 50))

    assert LaneFeatures(chosen).process(rows).equals(LaneFeatures(chosen).process(other))


def test_categories_are_codes_of_the_vocabulary(chosen: FeatureSet, make_rows: MakeRows) -> None:
    """Listed values count from 1 in their order; any other, and null, is the unknown category."""
    rows = make_rows(chosen.record_type, 200, 3, chosen.required)
    features = LaneFeatures(chosen).process(rows)
    for feature in (f for f in chosen.features if f.kind == "categorical"):
        source = "protocol" if feature.name == "transport" else feature.name
        known = {value: code for code, value in enumerate(feature.vocabulary, 1)}
        expected = [known.get(value, UNKNOWN) for value in rows.column(source).to_pylist()]

        assert expected == features.column(feature.name).to_pylist()


def test_hash_is_that_of_the_declaration() -> None:
    """A changed version, transform or word is another set; `compute` alone is not."""
    known = feature_set("nsl-kdd")
    changed = replace(known.features[0], transform="none")

    assert known.hash == replace(known, compute=feature_set("unsw-nb15").compute).hash
    assert known.hash != replace(known, version=2).hash
    assert known.hash != replace(known, features=(changed, *known.features[1:])).hash
    assert known.hash != feature_set("kdd99").hash


def test_unknown_set_names_the_nearest() -> None:
    """A misspelt name is answered with all names and the nearest one."""
    with pytest.raises(
        FeatureSetError, match=r"there are conn, kdd99, nsl-kdd, unsw-nb15; did you mean nsl-kdd"
    ):
        feature_set("nslkdd")


def test_check_refuses_null_where_the_set_needs_a_value() -> None:
    """Null addresses are bad rows of `conn`, named where they stood in the batch."""
    batches = [_flow(), _flow(dst_ip=None), _flow(duration=float("nan")), _flow(src_ip=None), _flow()]
    rows = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    checked = feature_set("conn").check(rows)

    assert checked.kept.tolist() == [0, 4]
    assert [(b.index, b.reason) for b in checked.bad] == [
        (1, "null_value"),
        (2, "not_finite"),
        (3, "null_value"),
    ]
    assert "dst_ip is null" in checked.bad[0].detail
    assert checked.rows.num_rows == 2


def test_check_lets_null_pass_where_the_set_does_not_look(make_rows: MakeRows) -> None:
    """KDD rows without addresses are good."""
    rows = make_rows(KDD, 30, 1)

    assert feature_set("nsl-kdd").check(rows).rows.num_rows == 30


def test_one_way_flow_reads_zero_and_says_so() -> None:
    """Null `dst_bytes` and `dst_packets` are 0 with `one_way`; a true 0 is not one-way."""
    null, zero = _features(_flow(dst_bytes=None, dst_packets=None), _flow(dst_bytes=0, dst_packets=0))

    assert (null["dst_bytes"], null["dst_packets"], null["one_way"]) == (0.0, 0.0, 1.0)
    assert (zero["dst_bytes"], zero["dst_packets"], zero["one_way"]) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("changes", "on"),
    [
        ({"dst_port": 53, "protocol": "udp", "service": None}, {"is_dns", "is_udp"}),
        ({"dst_port": 22, "service": None}, {"is_ssh"}),
        ({"dst_port": 2222, "service": "ssh"}, {"is_ssh"}),
        ({"dst_port": 8443, "service": None}, {"is_web"}),
        ({"dst_port": 587, "service": None}, {"is_mail"}),
        ({"dst_port": 1023, "service": None}, {"is_low_port"}),
        ({"dst_port": 0, "service": None}, {"is_low_port"}),
        ({"dst_port": 1024, "service": None}, set()),
        ({"dst_port": 65_535, "service": None}, set()),
        ({"dst_port": None, "protocol": "icmp", "service": None}, {"is_icmp"}),
        ({"dst_port": None, "protocol": None, "service": None}, set()),
        ({"state": "rejected"}, {"is_web", "failed"}),
        ({"state": "attempted"}, {"is_web", "failed"}),
        ({"state": "reset"}, {"is_web", "reset"}),
        ({"dst_ip": "192.168.1.1"}, {"is_web", "dst_private"}),
        ({"dst_ip": "239.1.1.1"}, {"is_web", "dst_multicast"}),
    ],
)
def test_yes_no_features_of_a_flow(changes: dict[str, object], on: set[str]) -> None:
    """Ports, services, states and addresses switch on exactly the columns that name them."""
    found = _features(_flow(**changes))[0]
    binaries = [f.name for f in feature_set("conn").features if f.kind == "binary"]

    assert on | {"src_private"} == {name for name in binaries if found[name] == 1.0}


def test_numbers_of_a_flow() -> None:
    """Sizes, shares and bytes that leave the site are those of the record."""
    out, inside, dns = _features(
        _flow(), _flow(dst_ip="192.168.1.1"), _flow(dst_port=53, src_packets=0, src_bytes=0, dst_bytes=0)
    )

    assert (100.0, 200.0, pytest.approx(0.3)) == (
        out["src_packet_size"],
        out["dst_packet_size"],
        out["sent_share"],
    )
    assert (out["outbound_bytes"], inside["outbound_bytes"]) == (600.0, 0.0)
    assert (dns["dns_bytes"], dns["src_packet_size"], dns["sent_share"]) == (0.0, 0.0, 0.0)


def test_excess_is_what_leaves_the_site_beyond_what_comes_back() -> None:
    """Kilobytes sent to a public address less those received; never below 0, and 0 within the site."""
    sizes = {"src_bytes": 8_000_000, "dst_bytes": 5_000}
    upload, download, inside, one_way = _features(
        _flow(**sizes),
        _flow(src_bytes=5_000, dst_bytes=8_000_000),
        _flow(dst_ip="192.168.1.1", **sizes),
        _flow(src_bytes=700, dst_bytes=None, dst_packets=None),
    )

    assert (7_995.0, pytest.approx(0.7)) == (upload["outbound_excess"], one_way["outbound_excess"])
    assert (download["outbound_excess"], inside["outbound_excess"]) == (0.0, 0.0)


def test_scan_shows_in_the_windows_and_their_ratios() -> None:
    """Twenty rejected ports of one host: counted, and all the source's connections failed."""
    scan = [
        _flow(flow_id=f"f{i}", dst_port=i + 1, state="rejected", event_time=10**15 + i) for i in range(20)
    ]
    last = _features(*scan)[-1]

    assert 20.0 == last["src_flows_10s"] == last["src_dst_ports_60s"] == last["src_ports_per_dst_60s"]
    assert (last["src_failed_share_60s"], last["src_dsts_60s"]) == (1.0, 1.0)
    assert pytest.approx(1 / 20) == last["src_dsts_per_flow_60s"]


def test_ssh_and_dns_flows_of_a_pair_are_counted_apart() -> None:
    """Flows of a pair count as SSH or DNS only on a flow that is."""
    web, ssh, dns = _features(_flow(), _flow(dst_port=22, service=None), _flow(dst_port=53, service=None))

    assert (web["ssh_pair_flows_60s"], web["dns_pair_flows_60s"]) == (0.0, 0.0)
    assert (ssh["ssh_pair_flows_60s"], ssh["dns_pair_flows_60s"]) == (2.0, 0.0)
    assert (dns["ssh_pair_flows_60s"], dns["dns_pair_flows_60s"]) == (0.0, 3.0)


def test_addresses_around_a_failed_connection_count_on_it_alone() -> None:
    """How many addresses a source contacted, or a target saw, shows apart on flows that failed."""
    hosts = [_flow(dst_ip=f"203.0.113.{i}") for i in range(3)]
    *_, good, failed = _features(*hosts, _flow(src_ip="192.168.1.8", dst_ip="203.0.113.2", state="attempted"))

    assert (good["failed_src_dsts_60s"], good["failed_dst_srcs_60s"]) == (0.0, 0.0)
    assert (failed["failed_src_dsts_60s"], failed["failed_dst_srcs_60s"]) == (1.0, 2.0)


def test_handshake_times_are_milliseconds(make_rows: MakeRows) -> None:
    """UNSW records seconds; the feature is in its stated unit."""
    chosen = feature_set("unsw-nb15")
    rows = make_rows(chosen.record_type, 1, 1)
    at = rows.schema.get_field_index("tcprtt")
    rows = rows.set_column(at, rows.schema.field(at), pa.array([0.0425]))

    assert LaneFeatures(chosen).process(rows).column("tcprtt").to_pylist() == [42.5]


@pytest.mark.data
@pytest.mark.parametrize(
    ("dataset", "part", "known"),
    [("nsl-kdd", "test", 22_544), ("unsw-nb15", "raw", 20_000), ("unsw-conn", "raw", 20_000)],
)
def test_public_datasets_pass_whole(data_dir: Path, dataset: str, part: str, known: int) -> None:
    """Every record becomes a row, and the vocabularies know nearly all of its categories."""
    chosen = feature_set("conn" if dataset == "unsw-conn" else dataset)
    source = open_source(dataset, data_dir, part=part)

    read = offline_features(chosen, (chunk.rows for chunk in source.chunks()))

    assert (known, 0) == (read.features.num_rows, read.n_bad)
    assert known == len(read.labels)
    for feature in chosen.features:
        values = read.features.column(feature.name).to_numpy()
        if feature.kind == "categorical" and feature.name not in {"service", "transport"}:
            assert (values != UNKNOWN).mean() > 0.99, feature.name
        assert np.isfinite(values).all()


@pytest.mark.data
def test_service_of_the_kdd_test_set_that_training_lacks_is_unknown(data_dir: Path) -> None:
    """KDD99's corrected test set has a service `icmp`, which no training set has."""
    chunks = open_source("kdd99", data_dir, part="test").chunks()
    read = offline_features(feature_set("kdd99"), (chunk.rows for chunk in chunks))

    assert np.count_nonzero(read.features.column("service").to_numpy() == UNKNOWN) == 2
