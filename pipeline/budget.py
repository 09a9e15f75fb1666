"""Quiet by budget: from so many false alarms an hour to the p-value at which a flow is flagged.

An alarm is a flagged flow, not an alert: grouping makes fewer alerts of them, never more, so the budget
holds for alerts as well, whatever the settings of grouping are. The alpha is static: p-values of normal
traffic are uniform, so alpha times the rate of flows is the rate of false alarms, and nothing that
comes in can raise its own threshold.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from detectors.calibration import Calibration
    from pipeline.bundle import Bundle
    from pipeline.settings_sections import PanelSettings

_HOURS = {"s": 1 / 3600, "min": 1 / 60, "h": 1.0, "d": 24.0}
_RATE = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*/\s*(s|min|h|d)\s*")


def per_hour(text: str) -> float:
    """Return a rate such as `5/h`, `2/d` or `300/s` in 1/h.

    Raises
    ------
    ValueError
        If it is no rate above 0.

    Examples
    --------
    >>> per_hour("5/h"), per_hour("12/d"), per_hour("300/s")
    (5.0, 0.5, 1080000.0)
    """
    match = _RATE.fullmatch(text)
    if match is None or not float(match[1]) > 0:
        raise ValueError(f"{text!r:.40} is no rate; expected a number above 0 /s, /min, /h or /d, as 5/h")
    return float(match[1]) / _HOURS[match[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """False alarms an hour that are acceptable, and the flows that they are spent on."""

    alarms_per_hour: float
    flows_per_hour: float
    measured: bool = False  # the rate of flows is that of the training data

    @property
    def alpha(self) -> float:
        """The p-value at which a flow is flagged: above 0, at most 1."""
        return min(1.0, self.alarms_per_hour / self.flows_per_hour)

    @property
    def stated(self) -> str:
        """The budget in words."""
        whose = ", the rate of the training data" if self.measured else ""
        return (
            f"alpha {self.alpha:.3g}: {self.alarms_per_hour:g} alarms/h at "
            f"{self.flows_per_hour:,.6g} flows/h{whose}"
        )

    def spent(self, bundles: Sequence["Bundle"], fusion: str) -> str:
        """Return the budget in words, with what carries it in the models that decide."""
        told = [
            f"{bundle.name}/{bundle.version} " * (len(bundles) > 1)
            + bundle.calibration.carried(self.alpha / share)
            for bundle, share in zip(bundles, shares(bundles, fusion), strict=True)
            if share
        ]
        return "; ".join([self.stated, *told])

    def to_json(self, calibration: "Calibration") -> dict[str, Any]:
        """Return what the manifest of a model says of a budget that it spends alone."""
        return {
            "alarms_per_hour": self.alarms_per_hour,
            "flows_per_hour": self.flows_per_hour,
            "flows_measured": self.measured,
            "alpha": self.alpha,
            "carried": calibration.carried(self.alpha),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A budget as a person states it: false alarms an hour, and perhaps the rate of flows."""

    alarms_per_hour: float
    flows_per_hour: float | None = None

    def at(self, measured: float | None) -> Budget:
        """Return the budget, at the rate that was stated or else measured in training data.

        Raises
        ------
        SettingsError
            If neither is known.
        """
        flows = self.flows_per_hour or measured
        if not flows:
            raise SettingsError(
                f"a budget of {self.alarms_per_hour:g} alarms/h needs the rate of flows, and the training "
                "data have no times to measure it by; set panel.flow_rate or give --flow-rate, as 300/s"
            )
        return Budget(
            alarms_per_hour=self.alarms_per_hour, flows_per_hour=flows, measured=self.flows_per_hour is None
        )


def shares(bundles: Sequence["Bundle"], fusion: str) -> list[float]:
    """Return by what alpha is divided for each deciding model alone to flag a flow; 0: it never decides.

    Of "mean" it is what the models must reach on average.
    """
    from math import e

    from pipeline.panel import FUSIONS

    if fusion not in FUSIONS:
        return [float(bundle.name == fusion) for bundle in bundles]
    n = len(bundles)
    return [1.0 if n == 1 else {"min": float(n), "mean": e}[fusion]] * n


def panel_budget(settings: "PanelSettings", bundles: Sequence["Bundle"]) -> Budget | None:
    """Return the budget of a panel; None where its settings give alpha.

    Raises
    ------
    SettingsError
        If no rate of flows is given and none of the models knows that of its training data.
    """
    if settings.budget is None:
        return None
    asked = Asked(
        alarms_per_hour=per_hour(settings.budget),
        flows_per_hour=per_hour(settings.flow_rate) if settings.flow_rate else None,
    )
    known = [rate for bundle in bundles if (rate := trained_rate(bundle.manifest))]
    return asked.at(max(known, default=None))


def trained_rate(manifest: Mapping[str, Any]) -> float | None:
    """Return the flows an hour of the normal training data; None where these have no times."""
    rate = manifest.get("data", {}).get("flows_per_hour")
    return float(rate) if rate else None
