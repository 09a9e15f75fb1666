"""What a round sends: which records, through which connectors, judged by which models."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base import Source
from connectors.sources import Generated, open_source
from training.datasets import load_dataset
from training.train import Plan, train_model

WEIR = (sys.executable, "-m", "pipeline.cli.main")
ROOT = Path(__file__).parents[2]

DATA = Path(os.environ.get("WEIR_DATA", ROOT.parent / "shared" / "data"))
"""Folder of the public datasets."""

TRAINED_ON = 20_000
"""Records of each part: how good the models are is not asked here."""


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Records of one dataset, sent by one connector a lane as those of one sensor each."""

    name: str
    dataset: str
    feature_set: str
    detector: str
    records: int  # of each connector
    options: tuple[str, ...] = ()
    generated: Generated | None = None
    sensors: tuple[str, ...] = ("north", "south")
    alpha: float = 0.01

    @property
    def lanes(self) -> dict[str, int]:
        """Lane of each sensor: one each, so that the order within a lane does not depend on timing."""
        return {sensor: lane for lane, sensor in enumerate(self.sensors)}

    @property
    def needs_data(self) -> bool:
        """Whether a public dataset is read."""
        return self.dataset != "synthetic"

    def source(self, sensor: str) -> Source:
        """Return what the connector of a sensor reads."""
        if self.generated is not None:
            return open_source(self.dataset, sensor=sensor, generated=self.generated)
        part = self.options[self.options.index("--part") + 1]
        return open_source(self.dataset, DATA, sensor=sensor, part=part)

    def span_s(self) -> float:
        """Return how much event time the records span."""
        first, last, seen = 2**62, 0, 0
        for chunk in self.source(self.sensors[0]).chunks():
            rows = chunk.rows.slice(0, self.records - seen)
            times = pc.min_max(rows.column("event_time").cast(pa.int64())).as_py()
            first, last, seen = min(first, times["min"]), max(last, times["max"]), chunk.next
            if seen >= self.records:
                break
        return (last - first) / 1e6

    def replay(self, sensor: str, config: Path, speed: float) -> list[str]:
        """Return the command of a connector."""
        paced = ["--limit", str(self.records), "--speed", f"{speed:.3f}x"]
        return [*WEIR, "replay", self.dataset, *self.options, "--sensor", sensor, *paced, "-c", str(config)]

    def train(self, models: Path) -> None:
        """Train the model that judges it, unless it is there."""
        if not (models / self.name).is_dir():
            plan = Plan(detector=self.detector, max_rows=3000)
            loaded = load_dataset(self.dataset, DATA if self.needs_data else None, limit=TRAINED_ON)
            train_model(loaded, plan, models_dir=models, name=self.name)

    def sections(self, models: Path) -> Mapping[str, Mapping[str, Any]]:
        """Return the settings that follow from it."""
        return {
            "features": {"feature_set": self.feature_set},
            "panel": {"models": [self.name], "models_dir": str(models), "alpha": self.alpha},
            "writer": {"rows": 200, "sensor_lanes": self.lanes},
        }


TRAFFIC = {
    traffic.name: traffic
    for traffic in (
        Traffic(
            name="synthetic",
            dataset="synthetic",
            feature_set="conn",
            detector="beaa",
            records=80_000,
            options=("--seed", "7", "--days", "1", "--scale", "8"),
            generated=Generated(seed=7, days=1, scale=8.0),
        ),
        Traffic(
            name="few",
            dataset="synthetic",
            feature_set="conn",
            detector="robust_z",
            records=6_000,
            options=("--seed", "9", "--days", "1", "--scale", "2"),
            generated=Generated(seed=9, days=1, scale=2.0),
        ),
        Traffic(
            name="fatal",
            dataset="synthetic",
            feature_set="conn",
            detector="fatal",
            records=15_000,
            options=("--seed", "8", "--days", "1", "--scale", "4"),
            generated=Generated(seed=8, days=1, scale=4.0),
        ),
        Traffic(
            name="unsw-conn",
            dataset="unsw-conn",
            feature_set="conn",
            detector="bn",
            records=20_000,
            options=("--part", "raw"),
            sensors=("north", "south", "west"),
        ),
        Traffic(
            name="nsl-kdd",
            dataset="nsl-kdd",
            feature_set="nsl-kdd",
            detector="bn",
            records=22_544,
            options=("--part", "test"),
            sensors=("north", "south", "west"),
            alpha=0.001,
        ),
    )
}
"""By name."""
