"""Which detectors the contract suite runs over, in settings that train in a second or two.

A detector of another package is in the suite as soon as it is installed; those listed here are trained
smaller than by default, or in several settings.
"""

from dataclasses import dataclass, field
from typing import Any

from detectors.registry import names


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A detector in one setting, and the promises that it cannot keep, each with its reason.

    The promises: `dependencies` (rows that break the columns' dependencies score higher), `columns` (a
    deviation planted in one column is named), `distinct` (no two rows score alike), `constant` (far rows
    score higher where every training row is the same). The list may only shrink.

    `anomalies` asks for a few known anomalies beside the normal rows.
    """

    detector: str
    parameters: dict[str, Any] = field(default_factory=dict)
    anomalies: bool = False
    waived: dict[str, str] = field(default_factory=dict)


_BEAA = {"n_noise": 3, "n_members": 2, "n_generated": 1000}
_NO_NOISE = "without dependencies there is no noise to read, and a product with it is zero"

SETTINGS: dict[str, Variant] = {
    "autoencoder": Variant(detector="autoencoder", parameters={"hidden": [16], "epochs": 15}),
    "autoencoder paper": Variant(detector="autoencoder", parameters={"variant": "paper", "epochs": 5}),
    "beaa": Variant(detector="beaa", parameters={"max_noise": 4, "n_members": 2, "n_generated": 1000}),
    "beaa full whitening": Variant(detector="beaa", parameters={"whitening": "full", **_BEAA}),
    "beaa noise": Variant(
        detector="beaa",
        parameters={"measure": "noise", **_BEAA},
        waived={
            "dependencies": "the noise alone grows only along the dependencies",
            "columns": "only the shadow of a column on the noise counts",
            "constant": _NO_NOISE,
        },
    ),
    "beaa reconstruction": Variant(
        detector="beaa", parameters={"measure": "reconstruction", "whitening": "none", **_BEAA}
    ),
    "beaa combined": Variant(
        detector="beaa",
        parameters={"measure": "combined", "whitening": "none", **_BEAA},
        waived={"constant": _NO_NOISE},
    ),
    "beaa truncation": Variant(
        detector="beaa", parameters={"selection": "truncation", "n_noise": 3, "max_epochs": 4}
    ),
    "bn hill-climbing": Variant(detector="bn", parameters={"structure": "hc"}),
    "knn third": Variant(detector="knn", parameters={"k": 3}),
    "robust_z": Variant(detector="robust_z", waived={"dependencies": "it looks at each column alone"}),
}

VARIANTS: dict[str, Variant] = {name: Variant(detector=name) for name in names()} | SETTINGS
