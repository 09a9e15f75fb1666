"""How near a GAN's generator can come to a flow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from detectors.base import Matrix, Scores, State
from detectors.inputs import Inputs, typical
from detectors.inversion import Descent, Inverted, Squares
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.networks import Network
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.residuals import Residuals, Scaled, residuals_of, restored_residuals
from detectors.parts.sum import SumOfParts
from detectors.state import array
from detectors.tiles import by_tiles

KIND = {True: "squared_deviations", False: "squared_error"}


@dataclass(frozen=True, slots=True, eq=False)
class Nearest(Inverted):
    """Rows rebuilt from the nearest of many rows made beforehand, and by a descent from its noise.

    `starts` is the noise of the rows made beforehand.
    """

    made: Matrix = field(init=False, repr=False)  # (r, d)
    half_squares: Scores = field(init=False, repr=False)  # (r,), |row|^2 / 2

    def __post_init__(self) -> None:
        k, d = self.generator.n_inputs, self.generator.n_outputs
        made = by_tiles(self.starts, lambda tile: self.generator.on_tile(tile[:k]), d)
        object.__setattr__(self, "made", made)
        object.__setattr__(self, "half_squares", 0.5 * np.einsum("ij,ij->i", made, made))

    def _starts(self, tile: Matrix) -> list[Matrix]:
        # |x|^2 is the same for all of them: it is left out of the comparison.
        closeness = self.half_squares - np.matmul(np.ascontiguousarray(tile.T), self.made.T)
        return [np.ascontiguousarray(self.starts[closeness.argmin(axis=1)].T)]


@dataclass(kw_only=True, eq=False)
class GanGenerator(ModelDetector):
    """Score a flow by its distance to the nearest row that the generator of a GAN can make.

    The article's example compares a flow with what the generator makes of noise that has nothing to do with
    it [1]_: that is the distance to a random normal row and says little; `variant="paper"` shows it, with
    the one draw of noise kept. By default the noise is sought: of `cached` rows made beforehand the nearest
    is taken, and its noise improved by `steps` of gradient descent on the squared distance, as in [2]_
    without its discriminator.

    Residuals are scaled by their spread on held-out normal rows before they are squared and summed: what the
    generator makes badly anyway says little. A descent for every row: for evaluation, not for the stream.

    Known weakness: where the generator leaves out a rare kind of normal rows, these score as anomalies do;
    and as it is continuous, it can nearly make what lies between two kinds of normal rows.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given; "paper" is the article's generator, trained
        as its autoencoder is (Adam, 1e-3, batches of 32, 100 epochs): of the GAN's training it says nothing.
    latent : int or None
        Values of the noise; None: a third of the columns, at most 32, the width of public codes for KDD data.
        With as many as columns the generator could make anything.
    generator, discriminator : sequence of int
        Widths of their hidden layers.
    spectral : bool
        Whether the discriminator's layers are held at a largest singular value of 1.
    learning_rate, beta1 : float
        Of Adam, for both networks.
    decay : float
        Of the moving average of the generator's weights, which is what is used; 0: the last ones.
    batch : int
        Rows of a minibatch.
    epochs, patience : int
        Most epochs; epochs in which the generator comes no nearer to held-out rows before training stops
        (0: never).
    cached : int
        Rows made beforehand.
    steps, rate : int, float
        Of the descent: steps, and how far one goes.
    bound : float
        Noise is sought within +-bound: almost none was further out in training.
    scaled : bool
        Whether residuals are scaled by their spread on held-out rows.
    residual_floor : float
        Least spread of a residual, in units of its column.
    cap : float
        How far beyond the range of the training rows a flow is sought, in units of the column; what lies
        further is a residual.

    References
    ----------
    .. [1] How can GANs be used for anomaly detection?, second example.
    .. [2] Schlegl et al. (2017), Unsupervised anomaly detection with generative adversarial networks to guide
       marker discovery, IPMI, section 2.2.
    """

    variant: str = "stable"
    latent: int | None = BY_VARIANT
    generator: tuple[int, ...] = BY_VARIANT
    discriminator: tuple[int, ...] = BY_VARIANT
    spectral: bool = BY_VARIANT
    learning_rate: float = BY_VARIANT
    beta1: float = BY_VARIANT
    decay: float = BY_VARIANT
    batch: int = BY_VARIANT
    epochs: int = BY_VARIANT
    patience: int = BY_VARIANT
    cached: int = BY_VARIANT
    steps: int = BY_VARIANT
    rate: float = 0.05
    bound: float = 3.0
    scaled: bool = BY_VARIANT
    residual_floor: float = 0.05
    cap: float = 10.0

    name = "gan_generator"
    mode = "offline"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "latent": None,
            "generator": (64, 128),
            "discriminator": (128, 64),
            "spectral": True,
            "learning_rate": 1e-3,
            "beta1": 0.5,
            "decay": 0.99,
            "batch": 256,
            "epochs": 60,
            "patience": 10,
            "cached": 10_000,
            "steps": 50,
            "scaled": True,
        },
        "paper": {
            "latent": 10,
            "generator": (128,),
            "discriminator": (128,),
            "spectral": False,
            "learning_rate": 1e-3,
            "beta1": 0.9,
            "decay": 0.0,
            "batch": 32,
            "epochs": 100,
            "patience": 0,
            "cached": 1,
            "steps": 0,
            "scaled": False,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        for name in ("generator", "discriminator"):
            setattr(self, name, wholes(name, getattr(self, name), least=1))
        if self.latent is not None:
            whole("latent", self.latent, least=1)
        for name in ("spectral", "scaled"):
            one_of(name, getattr(self, name), [True, False])
        for name in ("learning_rate", "rate"):
            between(name, getattr(self, name), 0.0, 1.0)
        for name in ("beta1", "decay"):
            between(name, getattr(self, name), -1e-300, 0.99999)
        for name, high in (("bound", 1e6), ("residual_floor", 10.0), ("cap", 1e12)):
            between(name, getattr(self, name), 0.0, high)
        for name, least in (("batch", 2), ("epochs", 1), ("patience", 0), ("cached", 1), ("steps", 0)):
            whole(name, getattr(self, name), least=least)

    def learn(self, data: Training) -> SumOfParts:
        """Train the GAN on normal rows; scale the residuals by held-out ones."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        rebuild, report = self._trained(normal, held_out, data)
        data.progress("distances of held-out rows", 0.0)
        residuals = residuals_of(rebuild, held_out, held_out)
        floor = self.residual_floor
        scale = Scaled.of(residuals, floor=floor) if self.scaled else Scaled.none(inputs.n_columns)
        return SumOfParts(inputs, [Residuals(rebuild, scale, typical(normal))], KIND[self.scaled], report)

    def _trained(self, normal: Matrix, held_out: Matrix, data: Training) -> tuple[Nearest, dict[str, Any]]:
        from detectors.neural.build import arrays_of, tensor
        from detectors.neural.gan import GanPlan, noise, train_gan
        from detectors.neural.training import Schedule, repeatable

        latent = self.latent or min(32, max(1, normal.shape[1] // 3))
        plan = GanPlan(
            latent=latent,
            generator=self.generator,
            discriminator=self.discriminator,
            spectral=self.spectral,
            learning_rate=self.learning_rate,
            beta1=self.beta1,
            decay=self.decay,
            schedule=Schedule(epochs=self.epochs, patience=self.patience, batch=self.batch, least_steps=20),
        )
        with repeatable(data.rng) as generator:
            gan = train_gan(tensor(normal), tensor(held_out), plan, generator, data.progress)
            starts = noise(self.cached, latent, generator).numpy().astype(np.float64)
            return self._nearest(arrays_of(gan.generator), starts), gan.report

    def _nearest(self, generator: Network, starts: Matrix) -> Nearest:
        descent = Descent(steps=self.steps, rate=self.rate, bound=self.bound)
        return Nearest(generator, descent.within(starts), Squares(), descent)

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        starts = array(state, "starts", None, None)
        generator = Network.restored(state, "generator", n_inputs=starts.shape[1], n_outputs=inputs.n_columns)
        part = restored_residuals(state, self._nearest(generator, starts), inputs.n_columns)
        return SumOfParts(inputs, [part], KIND[self.scaled], state.parameters.get("report", {}))
