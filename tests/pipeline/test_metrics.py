"""Metrics: what Prometheus reads, and that no label can grow without bound."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.metrics import MOST_REASONS, P_VALUE_BINS, Metrics, PValues


def value(metrics: Metrics, name: str, /, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_a_stage_counts_under_its_own_name() -> None:
    metrics = Metrics()
    features, detect = metrics.stage("features"), metrics.stage("detect")

    features.consumed.inc(10)
    detect.consumed.inc(7)
    detect.reject("null_value", 2)
    detect.dead_letter("null_value")

    assert value(metrics, "weir_records_consumed_total", stage="features") == 10
    assert value(metrics, "weir_records_consumed_total", stage="detect") == 7
    assert value(metrics, "weir_records_rejected_total", stage="detect", reason="null_value") == 2
    assert value(metrics, "weir_dead_letters_total", stage="detect", reason="null_value") == 1


def test_two_processes_in_one_test_do_not_share_a_registry() -> None:
    first, second = Metrics(), Metrics()
    first.flagged_records.inc()

    assert value(second, "weir_flagged_records_total") == 0


def test_reasons_are_bounded() -> None:
    """A reason made of data cannot fill Prometheus' memory."""
    metrics = Metrics()
    stage = metrics.stage("features")

    for i in range(10 * MOST_REASONS):
        stage.reject(f"reason_{i}")
    stage.reject("10.0.0.1 is bad")

    samples = [s for family in metrics.registry.collect() for s in family.samples]
    reasons = {s.labels["reason"] for s in samples if s.name == "weir_records_rejected_total"}
    assert len(reasons) == MOST_REASONS + 1
    assert value(metrics, "weir_records_rejected_total", stage="features", reason="other") == (
        9 * MOST_REASONS + 1
    )


@pytest.mark.parametrize("kind", ["lane_state_lost", "offsets_lost"])
def test_incidents_are_shown_before_the_first(kind: str) -> None:
    """An alarm on an increase needs a zero to start from."""
    assert value(Metrics(), "weir_incidents_total", kind=kind) == 0


def test_models_replace_those_before() -> None:
    metrics = Metrics()
    first = {"name": "a", "version": "1", "sha256": "00", "detector": "beaa"}
    second = {**first, "version": "2"}

    metrics.set_models([first])
    metrics.set_models([second])

    assert value(metrics, "weir_model_info", **first) is None
    assert value(metrics, "weir_model_info", **second) == 1


def test_lag_of_a_lane_that_was_taken_away_is_forgotten() -> None:
    metrics = Metrics()
    metrics.set_lag({("weir.flows.v1", 0): 5, ("weir.flows.v1", 1): 6})
    metrics.set_lag({("weir.flows.v1", 1): 2})

    assert value(metrics, "weir_consumer_lag_messages", topic="weir.flows.v1", partition="0") is None
    assert value(metrics, "weir_consumer_lag_messages", topic="weir.flows.v1", partition="1") == 2


def test_names_follow_the_conventions() -> None:
    """One prefix, no upper case, no label that could be an address."""
    for family in Metrics().registry.collect():
        assert re.fullmatch(r"(weir|process)_[a-z_]+", family.name)
        assert not {"ip", "src", "dst", "sensor", "flow_id"} & {
            label for sample in family.samples for label in sample.labels
        }


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5000), max_size=2 * P_VALUE_BINS), max_size=5))
def test_p_values_count_every_row_once(batches: list[list[int]]) -> None:
    """Whatever the batches, the histogram is cumulative and ends at the number of rows."""
    p_values = PValues()
    for counts in batches:
        p_values.observe(counts)

    (family,) = p_values.collect()
    buckets = [(float(s.labels["le"]), s.value) for s in family.samples if s.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == (float("inf"), sum(map(sum, batches)))


def test_a_p_value_on_the_bound_is_within() -> None:
    """Decade k ends at 10^-k, that value included."""
    p_values = PValues()
    p_values.observe([90, 9, 1])

    (family,) = p_values.collect()
    found = {float(s.labels["le"]): s.value for s in family.samples if s.name.endswith("_bucket")}
    assert (found[1.0], found[0.1], found[0.01], found[0.001]) == (100, 10, 1, 0)


def test_the_page_is_what_prometheus_reads() -> None:
    metrics = Metrics()
    metrics.p_values.observe([3])
    metrics.stage("detect").duration.observe(0.004)

    families = {f.name: f for f in text_string_to_metric_families(generate_latest(metrics.registry).decode())}

    assert families["weir_score_p_value"].type == "histogram"
    assert [s.value for s in families["weir_score_p_value"].samples if s.labels["le"] == "+Inf"] == [3]
    assert families["weir_stage_duration_seconds"].type == "histogram"
    assert families["weir_build_info"].samples[0].value == 1
