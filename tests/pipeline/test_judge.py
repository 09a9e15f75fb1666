"""The judge: verdicts that no batch changes, fused p-values, and reasons that name what is odd."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conn_flows import conn_rows
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from lane_workers import CONN_SET, conn_bundle

from detectors.beaa import BEAA
from detectors.bn import BayesianNetwork
from detectors.robust_z import RobustZScore
from pipeline.bundle import Bundle
from pipeline.errors import BundleError
from pipeline.features.arrays import times_us
from pipeline.features.lane import offline_features
from pipeline.judge import HISTOGRAM_BINS, Judge, judge_rows
from pipeline.panel import Panel
from pipeline.verdict import FLAGGED, Reasons

N = 260

BUNDLES = ("robust_z", "bn", "beaa")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    folder = tmp_path_factory.mktemp("models")
    detectors = {
        "robust_z": RobustZScore(),
        "bn": BayesianNetwork(structure="hc"),
        "beaa": BEAA(),
    }
    return {name: conn_bundle(folder, name, detector) for name, detector in detectors.items()}


@pytest.fixture(scope="module")
def features() -> pa.RecordBatch:
    return batch_of(conn_rows(N, first=600))


def batch_of(rows: pa.RecordBatch) -> pa.RecordBatch:
    (batch,) = offline_features(CONN_SET, [rows]).features.combine_chunks().to_batches()
    return batch


def judge_of(bundles: Sequence[Bundle], alpha: float = 0.3, first: int | None = None) -> Judge:
    return Judge(Panel(name="p", alpha=alpha, bundles=tuple(bundles)), first=first, bucket_s=60.0)


def with_value(batch: pa.RecordBatch, name: str, row: int, value: float) -> pa.RecordBatch:
    at = batch.schema.get_field_index(name)
    values = batch.column(name).to_pylist()
    values[row] = value
    return batch.set_column(at, batch.schema.field(at), pa.array(values, batch.schema.field(at).type))


@hypothesis_settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, N), max_size=6))
def test_batches_do_not_matter(bundles: dict[str, Bundle], features: pa.RecordBatch, cuts: list[int]) -> None:
    """Split anyhow, the flagged rows are equal in every column, the bytes of their reasons too."""
    judge = judge_of(list(bundles.values()))
    whole = judge.judge(features, 0)
    bounds = [0, *sorted(cuts), N]
    times = times_us(features)
    parts = []
    for start, stop in itertools.pairwise(bounds):
        clock_us = int(times[:start].max(initial=0))
        parts.append(judge.judge(features.slice(start, stop - start), clock_us))

    table = pa.Table.from_batches([part.flagged for part in parts], schema=FLAGGED)
    assert pa.Table.from_batches([whole.flagged]).equals(table)
    assert np.array_equal(whole.p_values, np.concatenate([part.p_values for part in parts]))
    assert list(whole.histogram) == np.sum([part.histogram for part in parts], axis=0).tolist()


def test_the_decision_is_p_at_most_alpha(bundles: dict[str, Bundle], features: pa.RecordBatch) -> None:
    """Flagged rows are exactly those, in log order; every row is in the histogram."""
    verdict = judge_of([bundles["robust_z"]]).judge(features, 0)

    ids = np.array(features.column("flow_id").to_pylist())
    assert verdict.n_scored == N == sum(verdict.histogram)
    assert len(verdict.histogram) == HISTOGRAM_BINS
    assert ids[verdict.p_values <= 0.3].tolist() == verdict.flagged.column("flow_id").to_pylist()
    assert 0 < verdict.flagged.num_rows < N


def test_several_models_fuse(bundles: dict[str, Bundle], features: pa.RecordBatch) -> None:
    """The panel's p-value is the smallest times the number of models; who has it explains."""
    chosen = [bundles[name] for name in BUNDLES]
    each = np.stack([judge_rows(bundle, features).p_values for bundle in chosen])

    verdict = judge_of(chosen, alpha=1.0).judge(features, 0)

    assert np.array_equal(np.minimum(1.0, 3 * each.min(axis=0)), verdict.p_values)
    assert each.argmin(axis=0).tolist() == verdict.flagged.column("decided").to_pylist()
    assert each.T.tolist() == verdict.flagged.column("p_values").to_pylist()
    for decided, leading in zip(
        each.argmin(axis=0), verdict.flagged.column("leading").to_pylist(), strict=True
    ):
        labels = {f"{label.kind}:{label.id}" for label in chosen[decided].term_labels}
        assert leading in labels or leading.startswith("watched:")


@pytest.mark.parametrize("name", BUNDLES)
@pytest.mark.parametrize("planted", ["duration", "src_bytes", "dst_packets"])
def test_a_planted_feature_is_named_first(
    bundles: dict[str, Bundle], features: pa.RecordBatch, name: str, planted: str
) -> None:
    """What was made odd about a flow is the first feature of the first term that has any."""
    odd = with_value(features, planted, 40, 1e9)

    flagged = judge_of([bundles[name]], alpha=1.0).judge(odd, 0).flagged

    reasons = Reasons.from_json(flagged.column("reasons")[40].as_py())
    term = next(term for term in reasons.terms if term.features)
    assert term.features[0].name == planted
    assert flagged.column("p_value")[40].as_py() == min(flagged.column("p_value").to_pylist())
    told = {share.name: share.observed for term in reasons.terms for share in term.features}
    assert told.get(planted, 1e9) == pytest.approx(1e9)


@pytest.mark.parametrize("name", BUNDLES)
def test_terms_are_told_largest_first(
    bundles: dict[str, Bundle], features: pa.RecordBatch, name: str
) -> None:
    """The leading term is the first one told; shares are parts of the whole score."""
    flagged = judge_of([bundles[name]], alpha=1.0).judge(features, 0).flagged

    for leading, text in zip(
        flagged.column("leading").to_pylist(), flagged.column("reasons").to_pylist(), strict=True
    ):
        terms = Reasons.from_json(text).terms
        assert leading == f"{terms[0].kind}:{terms[0].id}"
        sizes = [term.term for term in terms if term.kind != "watched"]
        assert sizes == sorted(sizes, reverse=True)
        assert sum(abs(term.share) for term in terms if term.kind != "watched") <= 1 + 1e-9


def test_a_watched_feature_that_moves_is_the_reason(
    bundles: dict[str, Bundle], features: pa.RecordBatch
) -> None:
    """A column that was constant in training decides alone where it moves, and is named."""
    bundle = bundles["robust_z"]
    constant = next(
        name
        for name in sorted(bundle.normaliser.constants)
        if not isinstance(bundle.normaliser.constants[name], str)
    )
    judge = judge_of([bundle], alpha=1.0)
    before = judge.judge(features, 0)
    row = int(before.p_values.argmax())

    after = judge.judge(with_value(features, constant, row, 12345), 0)

    assert after.p_values[row] == bundle.p_moved < before.p_values[row]
    assert after.flagged.column("leading")[row].as_py() == f"watched:{constant}"
    first = Reasons.from_json(after.flagged.column("reasons")[row].as_py()).terms[0]
    (share,) = first.features
    assert (first.kind, share.name, share.observed) == ("watched", constant, 12345.0)
    others = np.arange(N) != row
    assert np.array_equal(before.p_values[others], after.p_values[others])


def test_only_what_can_be_published_is_explained(
    bundles: dict[str, Bundle], features: pa.RecordBatch
) -> None:
    """With grouping, the first rows of each group have reasons, equal to those that all have without."""
    every = judge_of([bundles["bn"]], alpha=1.0).judge(features, 0).flagged
    some = judge_of([bundles["bn"]], alpha=1.0, first=1).judge(features, 0).flagged

    pairs = list(zip(every.column("reasons").to_pylist(), some.column("reasons").to_pylist(), strict=True))
    assert 0 < sum(text is not None for _, text in pairs) < N
    assert all(text in (None, full) for full, text in pairs)
    assert every.drop_columns(["reasons"]).equals(some.drop_columns(["reasons"]))


def test_no_rows_give_no_verdicts(bundles: dict[str, Bundle], features: pa.RecordBatch) -> None:
    """An empty message is judged like any other."""
    verdict = judge_of(list(bundles.values())).judge(features.slice(0, 0), 0)

    assert (verdict.n_scored, verdict.flagged.num_rows, sum(verdict.histogram)) == (0, 0, 0)


def test_a_panel_needs_models() -> None:
    with pytest.raises(
        BundleError, match=r"panel p has no models that decide; name at least one in panel\.models"
    ):
        judge_of([])


def test_the_card_says_who_judged(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    """Name, version and hash of each model are in every verdict."""
    card = judge_of([bundles["bn"]]).panel.card()

    (model,) = card["models"]
    assert (model["name"], model["version"], model["detector"]) == ("bn", "1", "bn")
    assert model["sha256"] == bundles["bn"].sha256
    assert card["feature_set"] == CONN_SET.id
