"""A small NSL-KDD of our own: rows that follow a rule, and attacks that break it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from training.datasets import Dataset, load_dataset
from training.train import Plan, Trained, train_model

NORMAL_LINE = (
    "{duration},tcp,http,SF,{src},{dst},0,0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,{count},{srv},"
    "0.00,0.00,0.00,0.00,1.00,0.00,0.00,{hosts},{hosts_srv},{same:.2f},0.00,0.00,0.00,0.00,0.00,0.00,0.00"
)

Writer = Callable[..., Path]


def lines(n: int, attacks: int, seed: int) -> list[str]:
    """Return records: both directions carry like volumes, unless it is an attack."""
    rng = np.random.default_rng(seed)
    kinds = np.repeat(["normal", "neptune", "satan"], [n, attacks // 2, attacks - attacks // 2])
    out = []
    for kind in rng.permutation(kinds):
        volume = rng.lognormal(6, 1)
        ratio = np.exp(rng.normal(1, 0.1)) if kind == "normal" else np.exp(rng.normal(-0.5, 0.3))
        cells = NORMAL_LINE.format(
            duration=rng.integers(0, 4),
            src=int(volume),
            dst=int(volume * ratio),
            count=rng.integers(1, 20),
            srv=rng.integers(1, 20),
            hosts=rng.integers(1, 255),
            hosts_srv=rng.integers(1, 255),
            same=rng.uniform(),
        )
        out.append(f"{cells},{kind},21")
    return out


@pytest.fixture(scope="session")
def kdd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a KDDTrain+.txt and a KDDTest+.txt of ours."""
    folder = tmp_path_factory.mktemp("kdd")
    (folder / "KDDTrain+.txt").write_text("\n".join(lines(1500, 100, seed=1)) + "\n")
    (folder / "KDDTest+.txt").write_text("\n".join(lines(400, 100, seed=2)) + "\n")
    return folder


@pytest.fixture(scope="session")
def small(kdd_folder: Path) -> Dataset:
    """The dataset of that folder, a test part of its own."""
    return load_dataset("nsl-kdd", kdd_folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of models."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def trained(small: Dataset, models: Path) -> Trained:
    """A Bayesian network trained on it."""
    return train_model(small, Plan(detector="bn", seed=3), models_dir=models, name="small")
