"""Datasets as the tests of the stream send them, and the panels that judge them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stream import Stream


@dataclass(frozen=True, kw_only=True)
class Case:
    """A dataset as it is streamed, and the panel that judges it."""

    dataset: str
    feature_set: str
    part: str
    n_records: int
    detectors: tuple[str, ...]

    @property
    def models(self) -> list[str]:
        return [f"{self.dataset}-{detector}" for detector in self.detectors]


CASES = {
    case.dataset: case
    for case in (
        Case(
            dataset="unsw-nb15",
            feature_set="unsw-nb15",
            part="raw",
            n_records=20_000,
            detectors=("beaa", "robust_z"),
        ),
        Case(dataset="unsw-conn", feature_set="conn", part="raw", n_records=20_000, detectors=("bn",)),
        Case(dataset="nsl-kdd", feature_set="nsl-kdd", part="test", n_records=22_544, detectors=("bn",)),
    )
}

Trained = Callable[[str], Path]
Offline = Callable[[str], dict[str, list[tuple[float, float]]]]
MakeStream = Callable[..., Stream]
