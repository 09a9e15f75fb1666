"""The cost-sensitive support vector machine: normal flows against a few known anomalies."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from detectors.base import Matrix, Scores, State
from detectors.errors import FitError
from detectors.inputs import Inputs, typical
from detectors.kernels import Expansion, Landmarks, check_width, width
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, whole
from detectors.parts.confidence import Confidence
from detectors.parts.sum import SumOfParts

KIND = "margin"


@dataclass(kw_only=True, eq=False)
class SupportVectors(ModelDetector):
    """Score a flow by the side, and the distance, at which it lies of the border to known anomalies.

    A support vector machine with a Gaussian kernel parts normal rows from anomalies that somebody has told;
    an error on the rarer kind costs as much more as it is rarer [1]_. The score is the distance from the
    border, counted from a typical normal row in standard deviations over held-out rows; a column's term is
    its integrated gradient from that row. scikit-learn finds the support vectors; they are kept and asked as
    arrays.

    Above `exact_rows`, kernels are seen from `n_landmarks` of the rows (Nystroem's method) and the machine
    is a linear one; the score has the same form, an expansion in kernels.

    Known weakness: it knows the anomalies that it was told, and no others. Where it has seen neither kind
    the function is flat, and may say "normal". So the default sees less far, in a narrower kernel, and is
    told rows scattered over the space as well: each column's value is drawn uniformly from the range of all
    rows, which helps the more the more columns there are. And the square of how far a column lies outside
    `cap` is added. `variant="paper"` is the baseline of the paper on AnoEAN [1]_: known anomalies alone; it
    gives neither C nor the width of the kernel, and scikit-learn's are taken.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    cost : float
        C: what errors cost, against the smoothness of the border.
    gamma : {"scale", "median", "local"} or float
        Factor of the squared distance in the kernel: one over the variance of the rows (scikit-learn's),
        one over the median squared distance of two of them, or over a tenth of it, or a number.
    scattered : float
        Rows scattered over the space and told as anomalies, as a share of the normal rows.
    exact_rows : int
        Up to so many rows the machine is trained exactly.
    n_landmarks : int
        Above: rows from which kernels are seen.
    cap : float
        How far beyond the range of the training rows the function is asked, in units of the column.

    References
    ----------
    .. [1] Gherbi et al. (2019), An encoding adversarial network for anomaly detection, ACML, section 4;
       Veropoulos, Campbell & Cristianini (1999), Controlling the sensitivity of support vector machines,
       IJCAI.
    """

    variant: str = "stable"
    cost: float = 1.0
    gamma: str | float = BY_VARIANT
    scattered: float = BY_VARIANT
    exact_rows: int = 20_000
    n_landmarks: int = 500
    cap: float = 3.0

    name = "svm"
    uses = frozenset({"anomalies"})
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {"gamma": "local", "scattered": 0.1},
        "paper": {"gamma": "scale", "scattered": 0.0},
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        between("cost", self.cost, 0.0, 1e12)
        between("scattered", self.scattered, -1e-300, 10.0)
        check_width(self.gamma)
        for name, least in (("exact_rows", 0), ("n_landmarks", 1)):
            whole(name, getattr(self, name), least=least)
        between("cap", self.cap, 0.0, 1e12)

    def learn(self, data: Training) -> SumOfParts:
        """Part normal rows from known anomalies; scale the distance from the border by held-out rows."""
        if data.anomalies is None or not len(data.anomalies):
            raise FitError(
                "svm.fit: no known anomalies, expected at least one; "
                "give it anomalies, or take a detector that learns from normal flows alone, such as ocsvm"
            )
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, told = inputs.matrix(data.normal), inputs.matrix(data.anomalies)
        odd = np.concatenate([told, self._scattered(normal, told, data.rng)])
        rows, kinds = np.concatenate([normal, odd]), np.repeat([0, 1], [len(normal), len(odd)])
        gamma = width(self.gamma, rows, data.rng)
        data.progress("support vectors", 0.0)
        exact = len(rows) <= self.exact_rows
        learn = self._exact if exact else self._approximate
        function = learn(rows, kinds, gamma, data.rng)
        data.progress("support vectors", 1.0)
        part = Confidence.of(function, typical(normal), inputs.matrix(data.held_out))
        return SumOfParts(inputs, [part], KIND, {"kernels": len(function.centres), "gamma": gamma})

    def _scattered(self, normal: Matrix, told: Matrix, rng: np.random.Generator) -> Matrix:
        low = np.minimum(normal.min(axis=0), told.min(axis=0))
        high = np.maximum(normal.max(axis=0), told.max(axis=0))
        many = round(self.scattered * len(normal))
        drawn: Matrix = low + rng.random((many, low.size)) * (high - low)
        return drawn

    def _exact(self, rows: Matrix, kinds: Scores, gamma: float, rng: np.random.Generator) -> Expansion:
        from sklearn.svm import SVC

        del rng
        machine = SVC(C=self.cost, gamma=gamma, class_weight="balanced", cache_size=500).fit(rows, kinds)
        constant = float(machine.intercept_[0])
        return Expansion.of(machine.support_vectors_, machine.dual_coef_[0], constant, gamma)

    def _approximate(self, rows: Matrix, kinds: Scores, gamma: float, rng: np.random.Generator) -> Expansion:
        from sklearn.svm import LinearSVC

        landmarks = Landmarks.of(rows, gamma, self.n_landmarks, rng)
        machine = LinearSVC(C=self.cost, class_weight="balanced", dual=False)
        machine.fit(landmarks.features(rows), kinds)
        return landmarks.expansion(machine.coef_[0], float(machine.intercept_[0]))

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        function = Expansion.restored(state, inputs.n_columns)
        part = Confidence.restored(state, function, inputs.n_columns)
        return SumOfParts(inputs, [part], KIND, state.parameters.get("report", {}))
