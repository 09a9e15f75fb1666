"""The one-class support vector machine: what lies outside the region that holds most normal flows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from detectors.base import Matrix, State
from detectors.inputs import Inputs, typical
from detectors.kernels import Expansion, Landmarks, check_width, width
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, whole
from detectors.parts.confidence import Confidence
from detectors.parts.sum import SumOfParts

KIND = "one_class_margin"


@dataclass(kw_only=True, eq=False)
class OneClassSVM(ModelDetector):
    """Score a flow by how far it lies outside the region that a one-class support vector machine learned.

    The machine finds the smallest region, in the space of a Gaussian kernel, that leaves out at most a
    share `nu` of the normal rows [1]_. The score is the distance of a row from its border, counted from a
    typical normal row in standard deviations over held-out rows; a column's term is its integrated gradient
    from that row. scikit-learn finds the support vectors; they are kept and asked as arrays.

    Training takes the square of the number of rows. Above `exact_rows`, kernels are seen from
    `n_landmarks` of the rows (Nystroem's method, [2]_) and the machine is trained by stochastic gradient
    descent; the score has the same form, an expansion in kernels.

    Known weakness: far from all normal rows every kernel is zero, so that the function is flat there: the
    square of how far a column lies outside `cap` beyond the training rows is added.

    `variant="paper"` is the baseline of the paper on AnoEAN [3]_: nu = 0.0001. It says no more of the kernel
    than that it is Gaussian; scikit-learn's width is taken. So few rows are left out then that the region is
    drawn by the oddest of the normal rows, and in so wide a kernel clusters with gaps between them are one;
    the defaults leave out more, in a narrower one.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    nu : float
        Most of the normal rows that are left out, and least that become support vectors.
    gamma : {"scale", "median", "local"} or float
        Factor of the squared distance in the kernel: one over the variance of the rows (scikit-learn's),
        one over the median squared distance of two of them, or over a tenth of it, or a number.
    exact_rows : int
        Up to so many normal rows the machine is trained exactly.
    n_landmarks : int
        Above: rows from which kernels are seen.
    epochs : int
        Above: passes over the rows.
    cap : float
        How far beyond the range of the training rows the function is asked, in units of the column.

    References
    ----------
    .. [1] Schölkopf, Platt, Shawe-Taylor, Smola & Williamson (2001), Estimating the support of a
       high-dimensional distribution, Neural Computation 13(7), 1443-1471.
    .. [2] Williams & Seeger (2001), Using the Nyström method to speed up kernel machines, NIPS 13.
    .. [3] Gherbi et al. (2019), An encoding adversarial network for anomaly detection, ACML, section 4.
    """

    variant: str = "stable"
    nu: float = BY_VARIANT
    gamma: str | float = BY_VARIANT
    exact_rows: int = 20_000
    n_landmarks: int = 500
    epochs: int = 20
    cap: float = 3.0

    name = "ocsvm"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {"nu": 0.1, "gamma": "local"},
        "paper": {"nu": 1e-4, "gamma": "scale"},
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        between("nu", self.nu, 0.0, 1.0)
        check_width(self.gamma)
        for name, least in (("exact_rows", 0), ("n_landmarks", 1), ("epochs", 1)):
            whole(name, getattr(self, name), least=least)
        between("cap", self.cap, 0.0, 1e12)

    def learn(self, data: Training) -> SumOfParts:
        """Find the region of the normal rows; scale the distance from its border by held-out ones."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal = inputs.matrix(data.normal)
        gamma = width(self.gamma, normal, data.rng)
        data.progress("support vectors", 0.0)
        exact = len(normal) <= self.exact_rows
        function = self._exact(normal, gamma) if exact else self._approximate(normal, gamma, data)
        data.progress("support vectors", 1.0)
        part = Confidence.of(function, typical(normal), inputs.matrix(data.held_out))
        return SumOfParts(inputs, [part], KIND, {"kernels": len(function.centres), "gamma": gamma})

    def _exact(self, normal: Matrix, gamma: float) -> Expansion:
        from sklearn import svm

        machine = svm.OneClassSVM(nu=self.nu, gamma=gamma, cache_size=500).fit(normal)
        constant = -float(machine.intercept_[0])
        return Expansion.of(machine.support_vectors_, -machine.dual_coef_[0], constant, gamma)

    def _approximate(self, normal: Matrix, gamma: float, data: Training) -> Expansion:
        from sklearn.linear_model import SGDOneClassSVM

        landmarks = Landmarks.of(normal, gamma, self.n_landmarks, data.rng)
        data.progress("kernels", 0.3)
        machine = SGDOneClassSVM(
            nu=self.nu,
            max_iter=self.epochs,
            tol=None,  # a fixed number of passes
            average=True,  # the mean over the steps, steadier than the last one
            random_state=int(data.rng.integers(2**31)),
        ).fit(landmarks.features(normal))
        return landmarks.expansion(-np.ravel(machine.coef_), float(machine.offset_[0]))

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        function = Expansion.restored(state, inputs.n_columns)
        part = Confidence.restored(state, function, inputs.n_columns)
        return SumOfParts(inputs, [part], KIND, state.parameters.get("report", {}))
