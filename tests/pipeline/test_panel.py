"""Panels: how p-values become one, who explains, and which models cannot judge together."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from conn_flows import conn_rows
from hypothesis import given
from hypothesis import strategies as st
from lane_workers import CONN_SET, conn_bundle

from detectors.knn import NearestNeighbours
from detectors.robust_z import RobustZScore
from pipeline.alert import make_alert
from pipeline.bundle import Bundle
from pipeline.errors import BundleError
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from pipeline.grouping import Grouper
from pipeline.judge import Judge, judge_rows
from pipeline.messages import DetectionsHeaders
from pipeline.panel import Panel, load_panel
from pipeline.settings_sections import PanelSettings


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Bundle]:
    folder = tmp_path_factory.mktemp("models")
    return conn_bundle(folder, "z", RobustZScore()), conn_bundle(folder, "near", NearestNeighbours())


@pytest.fixture(scope="module")
def features() -> pa.RecordBatch:
    (batch,) = offline_features(CONN_SET, [conn_rows(200, first=600)]).features.combine_chunks().to_batches()
    return batch


def panel(
    *bundles: Bundle, fusion: str = "min", shadows: tuple[Bundle, ...] = (), alpha: float = 1.0
) -> Panel:
    return Panel(name="p", alpha=alpha, bundles=bundles, fusion=fusion, shadows=shadows)


P = st.floats(min_value=1e-300, max_value=1.0)


@given(one=P, other=P)
def test_fused_p_values_are_what_the_sources_say(
    bundles: tuple[Bundle, Bundle], one: float, other: float
) -> None:
    each = np.array([[one], [other]])

    assert panel(*bundles).fused(each)[0] == min(1.0, 2 * min(one, other))
    geometric = np.sqrt(one) * np.sqrt(other)
    assert panel(*bundles, fusion="mean").fused(each)[0] == pytest.approx(min(1.0, np.e * geometric))
    assert panel(*bundles, fusion="near").fused(each)[0] == other


@pytest.mark.parametrize("fusion", ["min", "mean"])
@pytest.mark.parametrize("dependence", ["equal", "independent", "opposite"])
def test_fused_p_values_keep_their_promise_whatever_the_dependence(
    bundles: tuple[Bundle, Bundle], fusion: str, dependence: str
) -> None:
    """Of normal traffic, no larger share than a has a fused p-value of at most a."""
    u = np.random.default_rng(0).random(200_000)
    others = {"equal": u, "independent": np.random.default_rng(1).random(u.size), "opposite": 1 - u}
    fused = panel(*bundles, fusion=fusion).fused(np.stack([u, others[dependence]]))

    for a in (0.5, 0.1, 0.01, 0.001):
        assert np.mean(fused <= a) <= a + 4 * np.sqrt(a / u.size)


@pytest.mark.parametrize("fusion", ["min", "mean"])
def test_one_member_alone_is_not_fused(bundles: tuple[Bundle, Bundle], fusion: str) -> None:
    each = np.array([[0.3, 1e-9]])

    np.testing.assert_array_equal(panel(bundles[0], fusion=fusion).fused(each), each[0])


def test_the_member_that_decided_explains(bundles: tuple[Bundle, Bundle], features: pa.RecordBatch) -> None:
    """The surest one; where one is named, that one."""
    each = np.stack([judge_rows(bundle, features).p_values for bundle in bundles])
    for fusion, wanted in (("min", each.argmin(axis=0)), ("mean", each.argmin(axis=0)), ("near", 1)):
        verdict = Judge(panel(*bundles, fusion=fusion), first=None, bucket_s=60.0).judge(features, 0)
        found = verdict.flagged.column("decided").to_numpy()

        np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))


def test_a_shadow_is_reported_and_decides_nothing(
    bundles: tuple[Bundle, Bundle], features: pa.RecordBatch
) -> None:
    """With it and without it the same flows are flagged for the same reasons, under the same alert ids."""
    deciding, shadow = bundles
    alone = Judge(panel(deciding, alpha=0.2), first=None, bucket_s=60.0).judge(features, 0)
    shadowed = panel(deciding, shadows=(shadow,), alpha=0.2)
    beside = Judge(shadowed, first=None, bucket_s=60.0).judge(features, 0)
    kept = ["flow_id", "p_value", "decided", "leading", "about", "reasons"]

    assert alone.flagged.num_rows > 0
    assert alone.flagged.select(kept).equals(beside.flagged.select(kept))
    assert {len(values) for values in beside.flagged.column("scores").to_pylist()} == {2}
    assert beside.by_model[0] == alone.by_model[0] == alone.flagged.num_rows
    assert beside.by_model[1] == np.count_nonzero(judge_rows(shadow, features).p_values <= 0.2)
    assert alerts(panel(deciding, alpha=0.2), alone.flagged) == alerts(shadowed, beside.flagged)


def alerts(judges: Panel, flagged: pa.RecordBatch) -> list[str]:
    """Return the ids of the alerts of some flagged flows."""
    headers = DetectionsHeaders(
        panel=judges.card(),
        rows=200,
        flagged=flagged.num_rows,
        input_offset=0,
        flows_offset=0,
        clock_us=0,
        clock_end_us=0,
    )
    return [make_alert(one).id for one in Grouper(0, enabled=False).feed(flagged, headers)]


def test_a_member_that_decides_changes_the_alerts_ids(
    bundles: tuple[Bundle, Bundle], features: pa.RecordBatch
) -> None:
    one, both = panel(bundles[0]), panel(*bundles)
    flagged = [Judge(each, first=None, bucket_s=60.0).judge(features, 0).flagged for each in (one, both)]

    assert not set(alerts(one, flagged[0])) & set(alerts(both, flagged[1]))


def test_models_that_cannot_judge_together_are_refused(bundles: tuple[Bundle, Bundle]) -> None:
    z, near = bundles
    other = replace(near, name="far", normaliser=replace(near.normaliser, feature_set=feature_set("nsl-kdd")))
    for wrong, said in (
        (panel, "no models that decide"),
        (lambda: panel(z, z), "has a model twice among z/1"),
        (lambda: panel(z, other), "mixes feature sets, expected one: z/1"),
        (lambda: panel(z, fusion="median"), "is no way to decide; expected one of min, mean, z"),
        (lambda: panel(z, fusion="near", shadows=(near,)), "is a shadow, which never decides"),
        (lambda: panel(z, replace(z, version="2"), fusion="z"), "names two versions that decide"),
    ):
        with pytest.raises(BundleError, match=said):
            wrong()


def test_a_panel_is_loaded_as_the_settings_say(bundles: tuple[Bundle, Bundle]) -> None:
    folder = bundles[0].path.parent.parent
    settings = PanelSettings(models=("z",), shadow=("near/1",), models_dir=folder, fusion="z", alpha=0.01)
    found = load_panel(settings)

    assert [bundle.name for bundle in found.members] == ["z", "near"]
    assert found.card()["models"][1]["shadow"] is True
    assert "shadow" not in found.card()["models"][0]
    assert (found.fusion, found.alpha) == ("z", 0.01)
