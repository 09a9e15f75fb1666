"""A model of several contexts in a live stream."""

from pathlib import Path

import numpy as np
import pytest
from accounts import judged
from stream import STAGES, Stream

from connectors.kafka_settings import KafkaSettings
from connectors.sources import Generated, open_source
from pipeline.features.feature_sets import feature_set
from pipeline.features.lane import offline_features
from pipeline.judge import judge_rows
from training.datasets import load_dataset
from training.train import Plan, train_model

SHOWN = 3000
"""Flows that the workers judge."""


@pytest.mark.broker
@pytest.mark.timeout(300)
def test_a_worker_judges_each_flow_by_its_context(local_broker: KafkaSettings, tmp_path: Path) -> None:
    """Scores and p-values of TCP, UDP and rare flows in the stream are those offline, to the bit."""
    site = load_dataset("synthetic", generated=Generated(days=2, scale=0.2))
    plan = Plan(detector="bn", contexts="transport", max_rows=8000)
    bundle = train_model(site, plan, models_dir=tmp_path, name="site", baselines=False).bundle
    shown = Generated(seed=3, scale=0.2)
    sections = {
        "features": {"feature_set": "conn"},
        "panel": {"models": ["site"], "models_dir": str(tmp_path), "alpha": 1.0},
        "topics": {"lanes": 1},
    }
    with Stream(local_broker, tmp_path, **sections) as stream:
        stream.send(open_source("synthetic", generated=shown), limit=SHOWN)
        stream.start(*STAGES)
        found = judged(stream.settle(within_s=120))

    chunks = (chunk.rows for chunk in open_source("synthetic", generated=shown).chunks())
    features = offline_features(feature_set("conn"), chunks).features
    (rows,) = features.slice(0, SHOWN).combine_chunks().to_batches()
    each = judge_rows(bundle, rows)
    assert len(found) == SHOWN
    assert set(np.unique(rows.column("protocol").to_pylist())) >= {"tcp", "udp"}
    for row, flow_id in enumerate(rows.column("flow_id").to_pylist()):
        scores, p_values, _ = found[flow_id]
        assert (scores, p_values) == ([each.scores[row]], [each.p_values[row]])
