"""Whom an alert concerns: who scans, who is flooded, who guesses the passwords of whom."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from lane_workers import CONN_SET

from connectors.source_synthetic import START, SyntheticSource
from detectors.beaa import BEAA
from detectors.calibration import Calibration
from detectors.registry import create
from detectors.robust_z import RobustZScore
from pipeline.bundle import Bundle, write_bundle
from pipeline.features.lane import offline_features
from pipeline.features.normaliser import Normaliser
from pipeline.grouping import Grouper
from pipeline.history import Window
from pipeline.judge import Judge
from pipeline.messages import DetectionsHeaders
from pipeline.panel import Panel

SCALE = 0.05


def features(source: SyntheticSource) -> tuple[pa.RecordBatch, list[str]]:
    """Return the features of a source's flows, and the label of each."""
    rows = [chunk.rows for chunk in source.chunks(rows=4000)]
    (batch,) = offline_features(CONN_SET, rows).features.combine_chunks().to_batches()
    return batch, [label for part in rows for label in part.column("label").to_pylist()]


@pytest.fixture(scope="module", params=[RobustZScore.name, BEAA.name])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Return a model of two quiet days."""
    detector = create(request.param, {})
    normal, _ = features(SyntheticSource(seed=3, days=2, attacks=False, scale=SCALE))
    half = normal.num_rows // 2
    normaliser = Normaliser.fit(
        CONN_SET, normal.slice(0, half), kinds=detector.columns, scaling=detector.scaling
    )
    x = normaliser.matrix(normal)
    detector.fit(x[:half], held_out=x[half:], rng=np.random.default_rng(0))
    return write_bundle(
        Path(tmp_path_factory.mktemp("models")),
        "site",
        detector=detector,
        normaliser=normaliser,
        calibration=Calibration.fit(Window.of(detector, normaliser, normal.slice(half)).scores),
        calibration_rows=normal.slice(half),
        seed=0,
        data={},
        figures={},
    )


@pytest.mark.parametrize(
    ("kind", "entity"),
    [
        ("port_scan", "{source}"),
        ("host_sweep", "{source}"),
        ("syn_flood", "{target}"),
        ("ssh_brute_force", "{source} -> {target}"),
    ],
)
def test_an_attack_is_about_whom_a_person_would_name(
    model: Bundle, headers: Callable[..., DetectionsHeaders], kind: str, entity: str
) -> None:
    """A scan is told of who scans, a flood of who is flooded, guessed passwords of both."""
    source = SyntheticSource(seed=3, attacks=(kind,), scale=SCALE, start=START + timedelta(days=2))
    [attack] = source.attacks()
    day, labels = features(source)
    judge = Judge(Panel(name="p", alpha=1e-4, bundles=(model,)), first=3, bucket_s=60.0)

    verdict = judge.judge(day, 0)
    mine = np.isin(verdict.flagged["flow_id"], day["flow_id"].filter(pa.array(np.array(labels) == kind)))
    published = Grouper(0).feed(verdict.flagged.filter(pa.array(mine)), headers(flush=True))

    assert mine.sum() > 0.9 * labels.count(kind)
    expected = entity.format(source=attack.source, target=attack.target)
    assert {publication.entity for publication in published} == {expected}
    assert len(published) < 100


@pytest.mark.parametrize(
    ("kind", "entity"), [("slow_exfiltration", "{source}"), ("dns_tunnel", "{source} -> {target}")]
)
def test_slow_attacks_that_a_flow_or_a_minute_shows_are_found(
    model: Bundle, headers: Callable[..., DetectionsHeaders], kind: str, entity: str
) -> None:
    """Bytes that leave the site, and questions by the hundred, stand out from days of normal traffic."""
    source = SyntheticSource(seed=3, attacks=(kind,), scale=SCALE, start=START + timedelta(days=2))
    [attack] = source.attacks()
    day, labels = features(source)
    mine = np.array(labels) == kind
    judge = Judge(Panel(name="p", alpha=3e-3, bundles=(model,)), first=3, bucket_s=60.0)

    flagged = judge.judge(day, 0).flagged
    found = np.isin(day["flow_id"], flagged["flow_id"])
    told = flagged.filter(pa.array(np.isin(flagged["flow_id"], day["flow_id"].filter(pa.array(mine)))))

    assert found[mine].mean() > 0.9
    assert found[~mine].mean() < 0.01
    expected = entity.format(source=attack.source, target=attack.target)
    entities = [publication.entity for publication in Grouper(0).feed(told, headers(flush=True))]
    assert entities.count(expected) > 0.9 * len(entities)
