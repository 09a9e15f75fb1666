"""GANomaly: what an encoder sees in a flow, and what it sees in the rebuilt flow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, State
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.networks import Network, Pullback
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.confidence import Outside
from detectors.parts.directions import Directions, Whitening
from detectors.parts.sum import SumOfParts
from detectors.state import array
from detectors.tiles import by_tiles

if TYPE_CHECKING:
    from detectors.neural.ganomaly import GanomalyPlan


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """E1(x) - E2(G(E1(x))): how the code of a row and that of its rebuilt self differ."""

    encoder: Network
    decoder: Network
    again: Network

    @property
    def n_outputs(self) -> int:
        """Width of a code."""
        return self.encoder.n_outputs

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the differences, (k, 256)."""
        code = self.encoder.on_tile(tile)
        result: Matrix = code - self.again.on_tile(self.decoder.on_tile(code))
        return result

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the differences, and the way back through all three networks."""
        code, from_code = self.encoder.pullback(tile)
        rebuilt, from_rebuilt = self.decoder.pullback(code)
        again, from_again = self.again.pullback(rebuilt)

        def back(gradient: Matrix) -> Matrix:
            return from_code(gradient - from_rebuilt(from_again(gradient)))

        return code - again, back

    def rebuilt(self, tile: Matrix) -> Matrix:
        """Return G(E1(x))."""
        return self.decoder.on_tile(self.encoder.on_tile(tile))

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return the numbers of the networks, the first one's under the name."""
        parts = {name: self.encoder, "decoder": self.decoder, "again": self.again}
        return {key: value for own, part in parts.items() for key, value in part.arrays(own).items()}

    def networks(self, name: str) -> dict[str, list[str]]:
        """Return the activations of the networks."""
        parts = {name: self.encoder, "decoder": self.decoder, "again": self.again}
        return {own: part.activations for own, part in parts.items()}

    @classmethod
    def restored(cls, state: State, d: int) -> "Disagreement":
        """Return what a state holds."""
        encoder = Network.restored(state, "encoder", n_inputs=d)
        k = encoder.n_outputs
        decoder = Network.restored(state, "decoder", n_inputs=k, n_outputs=d)
        return cls(encoder, decoder, Network.restored(state, "again", n_inputs=d, n_outputs=k))


@dataclass(kw_only=True, eq=False)
class GANomaly(ModelDetector):
    """Score a flow by how the code of its rebuilt self differs from its own code.

    Encoder, decoder and a second encoder learn to rebuild normal rows and their codes, against a
    discriminator whose features of a row and of the rebuilt row they match. The score is the squared
    difference of the codes z - z' [1]_, not the reconstruction's error. Its terms are noise directions:
    with `whitened` those of the differences' covariance on held-out rows, otherwise the codes' own.

    This is the form for tables: dense layers without batch norms, where the paper has convolutions.
    The public code keeps the epoch with the best ROC on test rows, and scales scores by their least
    and largest on the test set: here neither is done.

    Its weaknesses: the score sees a row through the first encoder alone. What the code does not hold
    cannot count, and where the code is as narrow as the causes behind normal rows, the better the
    networks are, the less is left of any row (a test shows it). Nothing but the contextual loss gives
    the codes a scale, and one loud direction drowns all others. The remedies: a wide code, differences
    counted in their spread on held-out rows, training stopped by held-out rows, and a discriminator
    whose layers have a bounded slope.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    hidden : sequence of int
        Widths of the encoders' layers before the code; decoder and discriminator follow them. For
        tables: the paper has convolutions only. None narrower than the code by default.
    latent : int or None
        Width of the code; None: half of the columns, in the paper's variant a third. The paper's 100
        is for images.
    adversarial, contextual, latent_weight : float
        Weights of the losses: squared difference of the discriminator's last hidden layer, absolute
        error of the rebuilt row, squared difference of the codes; all of them means. The paper's are
        1, 50 and 1.
    whitened : bool
        Whether the score is the squared Mahalanobis distance of the difference from those of held-out
        rows rather than the mean square of the code's differences.
    spectral : bool
        Whether the discriminator's layers have a largest singular value of 1.
    learning_rate : float
        Of Adam (beta1 0.5), for all networks. Stable: five times the paper's, for batches four times
        as large.
    batch : int
        Rows of a minibatch.
    epochs, patience : int
        Most epochs; epochs without a smaller held-out loss before training stops (0: never).
    cap : float
        How far beyond the range of the training rows the networks are asked, in units of the column.

    References
    ----------
    .. [1] Akcay, Atapour-Abarghouei & Breckon (2018), GANomaly, ACCV, arXiv 1805.06725, equations 1-5
       and section 4 (weights, rates); the authors' code (batch 64, 15 epochs).
    """

    variant: str = "stable"
    hidden: tuple[int, ...] = BY_VARIANT
    latent: int | None = None
    adversarial: float = 1.0
    contextual: float = 50.0
    latent_weight: float = 1.0
    whitened: bool = BY_VARIANT
    spectral: bool = BY_VARIANT
    learning_rate: float = BY_VARIANT
    batch: int = BY_VARIANT
    epochs: int = BY_VARIANT
    patience: int = BY_VARIANT
    cap: float = 10.0

    name = "ganomaly"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "hidden": (128,),
            "whitened": True,
            "spectral": True,
            "learning_rate": 1e-3,
            "batch": 256,
            "epochs": 60,
            "patience": 6,
        },
        "paper": {
            "hidden": (64, 32),
            "whitened": False,
            "spectral": False,
            "learning_rate": 2e-4,
            "batch": 64,
            "epochs": 15,
            "patience": 0,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        self.hidden = wholes("hidden", self.hidden, least=1, many=1)
        if self.latent is not None:
            whole("latent", self.latent, least=1)
        for name in ("whitened", "spectral"):
            one_of(name, getattr(self, name), [True, False])
        for name in ("adversarial", "contextual", "latent_weight"):
            between(name, getattr(self, name), -1e-300, 1e6)
        for name, most in (("learning_rate", 1.0), ("cap", 1e12)):
            between(name, getattr(self, name), 0.0, most)
        for name, least in (("batch", 2), ("epochs", 1), ("patience", 0)):
            whole(name, getattr(self, name), least=least)

    def learn(self, data: Training) -> SumOfParts:
        """Train the networks on normal rows; stop and whiten the differences by held-out ones."""
        from detectors.neural.build import tensor
        from detectors.neural.ganomaly import train_ganomaly
        from detectors.neural.training import repeatable

        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        d = inputs.n_columns
        with repeatable(data.rng) as random:
            plan = self._plan(d)
            found = train_ganomaly(tensor(normal), tensor(held_out), plan, random, data.progress)
        differs = Disagreement(found.encoder, found.decoder, found.again)
        k = differs.n_outputs
        apart = by_tiles(held_out, lambda tile: differs.on_tile(tile[:d]), k)
        whitening = Whitening.of(apart) if self.whitened else Whitening(np.zeros(k), np.eye(k))
        return self._model_of(inputs, differs, whitening, typical(normal), found.report)

    def _plan(self, d: int) -> "GanomalyPlan":
        from detectors.neural.ganomaly import GanomalyPlan
        from detectors.neural.training import Schedule

        return GanomalyPlan(
            hidden=self.hidden,
            latent=self.latent or max(1, d // (3 if self.variant == "paper" else 2)),
            spectral=self.spectral,
            adversarial=self.adversarial,
            contextual=self.contextual,
            latent_weight=self.latent_weight,
            learning_rate=self.learning_rate,
            schedule=Schedule(epochs=self.epochs, patience=self.patience, batch=self.batch, least_steps=20),
        )

    def _model_of(
        self, inputs: Inputs, differs: Disagreement, whitening: Whitening, baseline: Any, report: Any
    ) -> SumOfParts:
        weight = 1.0 if self.whitened else 1.0 / differs.n_outputs
        directions = Directions(differs, whitening, baseline, weight, differs.rebuilt)
        return SumOfParts(inputs, [directions, Outside()], KIND[self.whitened], report)

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        differs = Disagreement.restored(state, inputs.n_columns)
        whitening = Whitening.restored(state, differs.n_outputs)
        baseline = array(state, "baseline", inputs.n_columns)
        return self._model_of(inputs, differs, whitening, baseline, state.parameters.get("report", {}))


KIND = {True: "latent_mahalanobis", False: "latent_mean_square"}
