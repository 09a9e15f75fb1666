"""AnoGAN: how near a GAN can come to a flow, and what its discriminator makes of the difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from detectors.base import Matrix, State
from detectors.inputs import Inputs, typical
from detectors.inversion import Descent, Gap, Inverted
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.networks import Network
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.distance import Distance, Judge, nothing
from detectors.parts.sum import SumOfParts, summed

if TYPE_CHECKING:
    from detectors.neural.gan import GanPlan


@dataclass(frozen=True, slots=True, eq=False)
class Matching:
    """(1 - w) ||x - G(z)||_1 + w ||f(x) - f(G(z))||_1: what the noise is sought by."""

    judge: Judge
    weight: float

    def towards(self, target: Matrix) -> Gap:
        """Return the gap between made rows and a tile."""
        apart, w = self.judge.gap(target), self.weight

        def gap(made: Matrix) -> tuple[Matrix, Matrix]:
            away = made - target
            value, back = apart.pullback(made)
            total = (1.0 - w) * summed(np.abs(away)) + w * value
            return total, (1.0 - w) * np.sign(away) + w * back(np.ones_like(value))

        return gap


@dataclass(kw_only=True, eq=False)
class AnoGAN(ModelDetector):
    """Score a flow by the best that a GAN's generator can make of it.

    A GAN learns to make normal rows from noise. For each row the noise z is sought by gradient descent
    that minimises (1 - w) ||x - G(z)||_1 + w ||f(x) - f(G(z))||_1, f the discriminator's last hidden
    layer; what is left is the score [1]_. A column's term is its absolute residual and its part of the
    features' distance. Offline: a descent takes hundreds of passes through both networks for a row.

    Equal rows score alike: starts of the descents are drawn in training and kept.

    Its weaknesses: a descent ends where it ends (another start, another score), and a generator that
    makes few kinds of rows makes the other kinds anomalies. The remedies: an encoder guesses the noise
    (f-AnoGAN [2]_), and the best of several descents counts; noise is kept where the generator was
    trained; the discriminator's layers have a bounded slope; training stops where generated rows are
    nearest to held-out ones; residuals count in units of held-out rows.

    `variant="paper"` is the public code for KDD99 [3]_ with none of them: one start, 500 steps. Its
    rates of learning and descent are the code's; the text of the paper names none for tables.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    latent : int or None
        Values of the noise; None: a quarter of the columns, as 32 are of the public code's 121.
    generator, discriminator : sequence of int
        Widths of the hidden layers, in order.
    weight : float
        w, the share of the features in the score; the paper's 0.1 (lambda). The ALAD authors' code
        gives it to the residuals instead.
    encoder : bool
        Whether one descent starts at the noise that an encoder guesses.
    starts : int
        Descents from other noise, the same for all rows. Two beside the guess: three in all.
    steps : int
        Of each descent. Stable: a fifth of the paper's, as the guess is near.
    rate : float
        Of a descent, at its beginning; see `detectors.inversion.Descent`. Stable: five times the
        paper's, so that a fifth of the steps reach as far.
    bound : float or None
        Noise is kept within +-bound; None: anywhere. 3: of a thousand draws of training noise three
        lie outside.
    spectral : bool
        Whether the discriminator's layers have a largest singular value of 1.
    dropout : float
        Of its hidden values in training.
    scaled : bool
        Whether residuals are counted in their spread on held-out rows, and both sums of the score in
        their means there: w then means the same on every dataset.
    learning_rate : float
        Of Adam (beta1 0.5), for generator and discriminator. The public code's 1e-5 is for hundreds
        of thousands of steps. The encoder learns at Adam's usual 1e-3.
    decay : float
        Of the moving average of the generator's weights; the average scores.
    batch : int
        Rows of a minibatch.
    epochs, patience : int
        Most epochs; epochs without rows nearer to held-out ones before training stops (0: never).
        Stable: patient, as the distance to held-out rows rises for some epochs before it falls again.
    scale_rows : int
        Held-out rows, at most, that the score is scaled by: each is a descent.
    residual_floor : float
        Least spread of a residual, in units of its column: what is rebuilt almost exactly must not
        make a score of rounding.
    cap : float
        How far beyond the range of the training rows the networks are asked, in units of the column.

    References
    ----------
    .. [1] Schlegl et al. (2017), Unsupervised anomaly detection with generative adversarial networks to
       guide marker discovery, arXiv 1703.05921, equations 3-6.
    .. [2] Schlegl et al. (2019), f-AnoGAN, Medical Image Analysis 54.
    .. [3] Zenati et al. (2018), Efficient GAN-based anomaly detection, the authors' code
       (gan/kdd_utilities.py, gan/run_kdd.py).
    """

    variant: str = "stable"
    latent: int | None = BY_VARIANT
    generator: tuple[int, ...] = (64, 128)
    discriminator: tuple[int, ...] = (256, 128, 128)
    weight: float = 0.1
    encoder: bool = BY_VARIANT
    starts: int = BY_VARIANT
    steps: int = BY_VARIANT
    rate: float = BY_VARIANT
    bound: float | None = BY_VARIANT
    spectral: bool = BY_VARIANT
    dropout: float = BY_VARIANT
    scaled: bool = BY_VARIANT
    learning_rate: float = BY_VARIANT
    decay: float = BY_VARIANT
    batch: int = BY_VARIANT
    epochs: int = BY_VARIANT
    patience: int = BY_VARIANT
    scale_rows: int = 1000
    residual_floor: float = 0.05
    cap: float = 10.0

    name = "anogan"
    mode = "offline"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "latent": None,
            "encoder": True,
            "starts": 2,
            "steps": 100,
            "rate": 0.05,
            "bound": 3.0,
            "spectral": True,
            "dropout": 0.0,
            "scaled": True,
            "learning_rate": 5e-4,
            "decay": 0.99,
            "batch": 256,
            "epochs": 60,
            "patience": 10,
        },
        "paper": {
            "latent": 32,
            "encoder": False,
            "starts": 1,
            "steps": 500,
            "rate": 0.01,
            "bound": None,
            "spectral": False,
            "dropout": 0.2,
            "scaled": False,
            "learning_rate": 1e-5,
            "decay": 0.999,
            "batch": 50,
            "epochs": 100,
            "patience": 0,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        self.generator = wholes("generator", self.generator, least=1)
        self.discriminator = wholes("discriminator", self.discriminator, least=1, many=1)
        if self.latent is not None:
            whole("latent", self.latent, least=1)
        if self.bound is not None:
            between("bound", self.bound, 0.0, 1e6)
        for name in ("encoder", "spectral", "scaled"):
            one_of(name, getattr(self, name), [True, False])
        for name, most in (("rate", 10.0), ("learning_rate", 1.0), ("residual_floor", 10.0), ("cap", 1e12)):
            between(name, getattr(self, name), 0.0, most)
        for name, most in (("weight", 1.0), ("dropout", 0.99), ("decay", 0.999999)):
            between(name, getattr(self, name), -1e-300, most)
        leasts = {"starts": 0 if self.encoder else 1, "batch": 2, "patience": 0}
        for name in ("starts", "steps", "batch", "epochs", "patience", "scale_rows"):
            whole(name, getattr(self, name), least=leasts.get(name, 1))

    @property
    def _descent(self) -> Descent:
        return Descent(steps=self.steps, rate=self.rate, bound=self.bound)

    def learn(self, data: Training) -> SumOfParts:
        """Train the networks on normal rows; stop by held-out ones, and scale the score by them."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        latent = self.latent or max(1, normal.shape[1] // 4)
        starts = data.rng.normal(size=(self.starts, latent))
        generator, features, encoder, report = self._trained(normal, held_out, latent, data)
        judge = Judge(features)
        rebuild = Inverted(generator, starts, Matching(judge, self.weight), self._descent, encoder)
        some = data.rng.permutation(len(held_out))[: self.scale_rows]
        part = Distance.of(
            rebuild,
            judge,
            held_out[some],
            typical(normal),
            weight=self.weight,
            scaled=self.scaled,
            floor=self.residual_floor,
        )
        return SumOfParts(inputs, [part], KIND[self.scaled], report)

    def _trained(
        self, normal: Matrix, held_out: Matrix, latent: int, data: Training
    ) -> tuple[Network, Network, Network | None, dict[str, Any]]:
        """Return generator, discriminator without its logit, encoder, and how training went."""
        from detectors.neural.build import arrays_of, mlp, tensor
        from detectors.neural.gan import train_gan, train_inverse
        from detectors.neural.training import repeatable

        rows, probe, d = tensor(normal), tensor(held_out), normal.shape[1]
        with repeatable(data.rng) as random:
            plan = self._plan(latent)
            gan = train_gan(rows, probe, plan, random, data.progress)
            generator, judge = arrays_of(gan.generator), arrays_of(gan.discriminator)
            features = judge.head(len(judge.layers) - 1)
            if not self.encoder:
                return generator, features, None, gan.report
            encoder = mlp([d, *reversed(self.generator), latent], hidden="leaky_relu")
            inverse = train_inverse(gan, rows, probe, encoder, plan.schedule, random, data.progress)
            return generator, features, arrays_of(encoder), {**gan.report, "encoder": inverse}

    def _plan(self, latent: int) -> "GanPlan":
        from detectors.neural.gan import GanPlan
        from detectors.neural.training import Schedule

        return GanPlan(
            latent=latent,
            generator=self.generator,
            discriminator=self.discriminator,
            hidden="leaky_relu_0.1",
            spectral=self.spectral,
            dropout=self.dropout,
            learning_rate=self.learning_rate,
            decay=self.decay,
            glorot=self.variant == "paper",
            schedule=Schedule(epochs=self.epochs, patience=self.patience, batch=self.batch, least_steps=20),
        )

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        d = inputs.n_columns
        judge = Judge(Network.restored(state, "judge", n_inputs=d))
        loss = Matching(judge, self.weight)
        rebuild = Inverted.restored(state, d, loss, self._descent, encoder=self.encoder)
        part = Distance.restored(state, rebuild, nothing, 0)
        return SumOfParts(inputs, [part], KIND[self.scaled], state.parameters.get("report", {}))


KIND = {True: "relative_distance", False: "distance"}
