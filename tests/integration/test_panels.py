"""Panels of real models on real brokers: every live detector judges, and several give one verdict."""

from pathlib import Path

import numpy as np
import pytest
from accounts import judged
from detector_variants import VARIANTS
from stream import STAGES, Stream

from connectors.kafka_settings import KafkaSettings
from connectors.sources import open_source
from detectors.registry import create, names
from pipeline.bundle import load_bundle
from pipeline.judge import judge_rows
from training.datasets import Dataset, load_dataset
from training.train import Plan, train_model

pytestmark = [pytest.mark.data, pytest.mark.slow]

SHOWN = 400
"""Flows that every live detector judges."""


@pytest.fixture(scope="module")
def nsl_kdd(data_dir: Path) -> Dataset:
    return load_dataset("nsl-kdd", data_dir)


@pytest.fixture(scope="module")
def models(nsl_kdd: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small model of every live detector, called as the detector."""
    pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")
    folder = tmp_path_factory.mktemp("models")
    for name in live():
        plan = Plan(detector=name, parameters=VARIANTS[name].parameters, max_rows=1500)
        train_model(nsl_kdd, plan, models_dir=folder, name=name, baselines=False)
    return folder


def live() -> list[str]:
    """Return the detectors that may judge a stream, in their settings of the contract suite."""
    return [name for name in names() if create(name, VARIANTS[name].parameters).mode == "live"]


@pytest.mark.broker
@pytest.mark.timeout(600)
def test_every_live_detector_is_a_member_of_a_panel(
    local_broker: KafkaSettings, models: Path, nsl_kdd: Dataset, data_dir: Path, tmp_path: Path
) -> None:
    """What each says of a flow in the stream is what it says offline, to the bit."""
    panel = {"models": live(), "models_dir": str(models), "alpha": 1.0}
    sections = {"features": {"feature_set": "nsl-kdd"}, "panel": panel, "topics": {"lanes": 1}}
    with Stream(local_broker, tmp_path, **sections) as stream:
        stream.send(open_source("nsl-kdd", data_dir, part="test"), limit=SHOWN)
        stream.start(*STAGES)
        books = stream.settle(within_s=200)

    assert nsl_kdd.test is not None
    rows = nsl_kdd.take(np.flatnonzero(nsl_kdd.test)[:SHOWN])
    each = [judge_rows(load_bundle(name, models), rows) for name in live()]
    found = judged(books)
    assert len(found) == SHOWN
    for row, flow_id in enumerate(rows.column("flow_id").to_pylist()):
        scores, p_values, fused = found[flow_id]
        assert scores == [one.scores[row] for one in each]
        assert p_values == [one.p_values[row] for one in each]
        assert fused == min(1.0, len(each) * min(p_values))


@pytest.mark.kafka
@pytest.mark.timeout(600)
def test_a_panel_judges_a_whole_test_set_once(
    apache_kafka: KafkaSettings, models: Path, nsl_kdd: Dataset, data_dir: Path, tmp_path: Path
) -> None:
    """KDDTest+ through Apache Kafka: nothing lost, one verdict a flow, the decision that of the fusion."""
    members, shadow = ["beaa", "alad", "anoean", "isolation_forest"], ["robust_z"]
    panel = {"models": members, "shadow": shadow, "models_dir": str(models), "alpha": 0.001, "fusion": "mean"}
    sections = {"features": {"feature_set": "nsl-kdd"}, "panel": panel}
    source = open_source("nsl-kdd", data_dir, part="test")
    with Stream(apache_kafka, tmp_path, **sections) as stream:
        stream.start(*STAGES)
        stream.send(source)
        books = stream.settle(within_s=300)
        assert stream.accounts.balance == (source.n_records, source.n_records, 0)

    assert nsl_kdd.test is not None
    rows = nsl_kdd.take(np.flatnonzero(nsl_kdd.test))
    p_values = np.stack([judge_rows(load_bundle(name, models), rows).p_values for name in members])
    fused = np.minimum(1.0, np.exp(1.0 + np.log(p_values).sum(axis=0) / len(members)))
    ids = np.array(rows.column("flow_id").to_pylist())
    found = judged(books)
    certain = np.abs(fused - 0.001) > 1e-12  # sums in another order may round the other way
    assert set(ids[certain & (fused <= 0.001)]) <= set(found) <= set(ids[~certain | (fused <= 0.001)])
    assert {len(scores) for scores, _, _ in found.values()} == {len(members) + 1}
