"""Streams of real processes, and models trained once for all of them."""

import textwrap
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from cases import CASES, Case, MakeStream, Offline, Trained
from stream import Stream

from connectors.kafka_settings import KafkaSettings
from pipeline.cli import main
from training.datasets import load_dataset
from training.train import Plan, train_model

MAX_ROWS = 3000
"""Rows to fit on: how good the models are is not asked here."""


DETECTOR = """
    import os

    import numpy as np

    from detectors.robust_z import RobustZScore


    class Fatal(RobustZScore):
        name = "fatal"

        def score(self, x):
            if os.environ.get("FATAL") and (np.abs(x).max(axis=1) > float(os.environ["FATAL"])).any():
                os._exit(139)
            return super().score(x)
"""


@pytest.fixture(scope="session")
def trained(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a maker of the models of a dataset, which trains them once, and returns their folder."""
    folder = tmp_path_factory.mktemp("models")

    def train(dataset: str) -> Path:
        case = CASES[dataset]
        if not (folder / case.models[0]).is_dir():
            loaded = load_dataset(dataset, data_dir)
            for detector, name in zip(case.detectors, case.models, strict=True):
                plan = Plan(detector=detector, max_rows=MAX_ROWS)
                train_model(loaded, plan, models_dir=folder, name=name)
        return folder

    return train


@pytest.fixture(scope="session")
def offline(trained: Trained, data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Offline:
    """Return what `weir evaluate --scores` gives of a dataset: flow id -> (score, p-value) of each model."""
    known: dict[str, dict[str, list[tuple[float, float]]]] = {}

    def evaluated(case: Case) -> dict[str, list[tuple[float, float]]]:
        folder = tmp_path_factory.mktemp("scores")
        found: dict[str, list[tuple[float, float]]] = {}
        for model in case.models:
            path = folder / f"{model}.parquet"
            where = ["--models", str(trained(case.dataset)), "--data", str(data_dir), "--part", case.part]
            assert main.run(["evaluate", model, case.dataset, "--all", "--scores", str(path), *where]) == 0
            for row in pq.read_table(path).to_pylist():
                found.setdefault(row["flow_id"], []).append((row["score"], row["p_value"]))
        return found

    def scores(dataset: str) -> dict[str, list[tuple[float, float]]]:
        if dataset not in known:
            known[dataset] = evaluated(CASES[dataset])
        return known[dataset]

    return scores


@pytest.fixture
def make_stream(broker: KafkaSettings, trained: Trained, tmp_path: Path) -> Iterator[MakeStream]:
    """Return a maker of streams on the broker; all their processes end with the test."""
    with ExitStack() as stack:
        n_made = 0

        def make(dataset: str, **sections: dict[str, Any]) -> Stream:
            nonlocal n_made
            n_made += 1
            case = CASES[dataset]
            panel = {"models": case.models, "models_dir": str(trained(dataset)), "alpha": 1.0}
            features = {"feature_set": case.feature_set} | sections.pop("features", {})
            given = {**sections, "features": features, "panel": panel | sections.get("panel", {})}
            return stack.enter_context(Stream(broker, tmp_path / f"stream-{n_made}", **given))

        yield make


@pytest.fixture
def fatal_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A detector of somebody else, installed in a folder: it dies over strange flows if told to."""
    folder = tmp_path / "site"
    info = folder / "fatal-0.1.dist-info"
    info.mkdir(parents=True)
    (folder / "fatal.py").write_text(textwrap.dedent(DETECTOR))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fatal\nVersion: 0.1\n")
    (info / "entry_points.txt").write_text("[weir.detectors]\nfatal = fatal:Fatal\n")
    monkeypatch.syspath_prepend(str(folder))
    return folder
