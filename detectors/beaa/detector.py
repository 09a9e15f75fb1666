"""The detector: parameters, fit, scores, explanations."""

from dataclasses import dataclass, field
from typing import Any

from detectors.base import Matrix, State, fitted
from detectors.beaa.model import Model
from detectors.beaa.plan import Plan
from detectors.beaa.training import fit_model
from detectors.model import ModelDetector, Training


@dataclass(kw_only=True, eq=False)
class BEAA(Plan, ModelDetector):
    """Bayesian evolutive adversarial autoencoder [1]_: explained by noise directions.

    A static discriminator D learns the normal rows; a generator G (noise nodes to attributes)
    evolves until D takes its rows for normal; its inverse R gives the noise expected for a row. A
    row is anomalous if its noise is unusual, or if G cannot rebuild it from that noise.

    `selection="truncation"` is the paper's Algorithm 2. It is unstable, as the paper says: keeping
    the rows that D likes best shrinks G towards the mode of D, where every column depends on all
    others and PC tests ever more subsets of them (64 columns: more than ten minutes). The default,
    `selection="importance"`, weighs rows by p_D / p_G, starts from the data, stops by held-out
    normal rows and lets an ensemble vote.

    An ensemble's squared norms are the means of its members'. The first member, which has seen all
    normal rows, is published: directions, deviations and contributions are its own, and the terms
    are the ensemble's score in the proportions of its own squares. So the members vote on how
    anomalous a row is, one of them says why, and the terms sum to the score.

    The parameters are those of `Plan`.

    References
    ----------
    .. [1] Casajús-Setién, Bielza & Larrañaga, Bayesian network evolutive autoencoder for anomaly
       detection, sections 4 and 5.
    """

    name = "beaa"

    _model: Model | None = field(default=None, init=False, repr=False)

    def learn(self, data: Training) -> Model:
        """Train D, G and R on normal rows; stop, choose m and whiten by held-out normal rows."""
        return fit_model(self, data.normal, data.held_out, data.rng, data.progress)

    def revive(self, state: State) -> Model:
        """Return the model that a state holds."""
        return Model.restored(state, self)

    @property
    def report(self) -> dict[str, Any]:
        """How training went: m, and for each member epochs, likelihoods, spread, why it stopped."""
        return fitted(self, self._model, "report").report

    @property
    def loadings(self) -> Matrix:
        """What one standard deviation of each noise direction does to the columns, (d, m), in units of x."""
        return fitted(self, self._model, "loadings").loadings
