"""The topics of an installation, and settings that do not go together."""

import pytest

from pipeline.settings import load_settings
from pipeline.topic_plan import conflicts, owned, topic_specs


def test_the_way_of_a_flow_has_a_lane_everywhere() -> None:
    specs = topic_specs(load_settings(overrides=["topics.prefix=site", "topics.lanes=7"], env={}))

    assert [(spec.name, spec.partitions) for spec in specs] == [
        ("site.flows.v1", 7),
        ("site.features.conn.v1", 7),
        ("site.detections.main.v1", 7),
        ("site.alerts.v1", 1),
        ("site.dead-letters.v1", 1),
    ]


def test_retention_is_told_in_milliseconds() -> None:
    settings = load_settings(overrides=["topics.flows_retention_h=0.5"], env={})

    assert topic_specs(settings)[0].retention_ms == 1_800_000


def test_another_installation_is_never_owned() -> None:
    """Deleting a prefix must not delete one that merely begins alike."""
    mine = ["w.flows.v1", "w.features.conn.v1", "w.detections.a.b.v1", "w.alerts.v1", "w.dead-letters.v1"]
    others = ["w.x.flows.v1", "wx.flows.v1", "w-flows-v1", "w.flows.v1.bak", "flows.v1", "w.other.v1"]

    assert owned("w", mine + others) == mine


def test_an_unknown_feature_set_is_named_with_the_nearest() -> None:
    (problem,) = conflicts(load_settings(overrides=["features.feature_set=nsl-kd"], env={}))

    assert "did you mean nsl-kdd?" in problem


@pytest.mark.parametrize("lane_by", ["src", "dst"])
def test_windows_need_all_flows_of_their_key_in_one_lane(lane_by: str) -> None:
    (problem,) = conflicts(load_settings(overrides=[f"writer.lane_by={lane_by}"], env={}))

    assert problem.startswith(f"writer.lane_by: {lane_by} does not go with feature set conn")


def test_without_windows_a_sensor_may_be_spread() -> None:
    overrides = ["writer.lane_by=src", "features.feature_set=unsw-nb15"]

    assert conflicts(load_settings(overrides=overrides, env={})) == []
