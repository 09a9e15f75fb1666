"""The variational autoencoder: what the mean of its reconstructions misses is anomalous."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from detectors.base import Matrix, Progress, State
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.draws import MeanOfDraws, fixed_noise
from detectors.parts.residuals import Residuals, Scaled, residuals_of, restored_residuals
from detectors.parts.sum import SumOfParts

if TYPE_CHECKING:
    import torch

    from detectors.neural.variational import Pair

KIND = {True: "squared_deviations", False: "squared_error"}


@dataclass(kw_only=True, eq=False)
class VAE(ModelDetector):
    """Score a flow by what a variational autoencoder misses of it: the plain baseline of its family.

    An encoder gives a Gaussian over latent values, a decoder rebuilds rows from draws of it [1]_. The
    score is the squared error of the mean of `n_draws` reconstructions [2]_. The draws are taken once, in
    training, and are the same for every row: a row always scores the same.

    Known weaknesses: the weight of the prior decides how much is rebuilt at all; and a decoder that
    generalises rebuilds anomalies too. So, by default, the weight is found from the error itself, without
    labels [3]_; residuals are scaled by their spread on held-out normal rows before they are squared, so
    that a column that is always rebuilt badly says little; the draws come in opposite pairs, of which
    fewer do; and held-out normal rows end the training.

    `variant="paper"` is the baseline of [2]_: same networks, a given weight, plain squared error,
    1,000 independent draws (which makes scoring some fifteen times slower), all minibatches. The article
    gives no weight for it: the default is the one in the middle of those that it gives for its own model.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    hidden : sequence of int or None
        Widths of the encoder's layers before the code; the decoder mirrors them. None: twice half the
        columns [2]_, or `least_width`.
    least_width : int
        Layers of a few units may die in training, and then rebuild the mean alone.
    code : int or None
        Latent values; None: a third of the columns, about what [2]_ has.
    kl_weight : float or None
        Of the divergence from the prior, beside the squared error, in units of the columns' ranges; None:
        found from the error [3]_.
    n_draws : int
        Latent draws that the mean reconstruction is over.
    in_pairs : bool
        Whether every draw is followed by its opposite.
    scaled : bool
        Whether residuals are scaled by their spread on held-out rows.
    learning_rate : float
        Of Adam.
    batch : int
        Rows of a minibatch.
    steps : int
        Most minibatches.
    patience : int
        Epochs without a better held-out bound before training stops (0: never).
    residual_floor : float
        Least spread of a residual, in ranges of its column.
    cap : float
        How far beyond the range of the training rows the encoder is asked, in such ranges. Further out
        it would answer at random and other columns would be blamed.

    References
    ----------
    .. [1] Kingma & Welling (2014), Auto-encoding variational Bayes, ICLR.
    .. [2] Wang et al. (2019), adVAE: a self-adversarial variational autoencoder with Gaussian anomaly
       prior knowledge for anomaly detection, arXiv 1903.00904, section on experiments.
    .. [3] Rybkin, Daniilidis & Levine (2021), Simple and effective VAE training with calibrated
       decoders, ICML.
    """

    variant: str = "stable"
    hidden: tuple[int, ...] | None = None
    least_width: int = BY_VARIANT
    code: int | None = None
    kl_weight: float | None = BY_VARIANT
    n_draws: int = BY_VARIANT
    in_pairs: bool = BY_VARIANT
    scaled: bool = BY_VARIANT
    learning_rate: float = 1e-3
    batch: int = 128
    steps: int = 20_000
    patience: int = BY_VARIANT
    residual_floor: float = 0.05
    cap: float = 1.0

    name = "vae"
    columns = frozenset({"numeric", "binary", "categorical"})
    scaling = "minmax"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "least_width": 32,
            "kl_weight": None,
            "n_draws": 64,
            "in_pairs": True,
            "scaled": True,
            "patience": 5,
        },
        "paper": {
            "least_width": 1,
            "kl_weight": 0.01,
            "n_draws": 1000,
            "in_pairs": False,
            "scaled": False,
            "patience": 0,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        self.hidden = None if self.hidden is None else wholes("hidden", self.hidden, least=1)
        if self.code is not None:
            whole("code", self.code, least=1)
        if self.kl_weight is not None:
            between("kl_weight", self.kl_weight, 0.0, 1e3)
        for name in ("in_pairs", "scaled"):
            one_of(name, getattr(self, name), [True, False])
        between("learning_rate", self.learning_rate, 0.0, 1.0)
        between("residual_floor", self.residual_floor, 0.0, 10.0)
        between("cap", self.cap, 0.0, 1e12)
        leasts = {"least_width": 1, "n_draws": 1, "batch": 2, "steps": 1, "patience": 0}
        for name, least in leasts.items():
            whole(name, getattr(self, name), least=least)

    def learn(self, data: Training) -> SumOfParts:
        """Train the networks on normal rows; stop and scale the residuals by held-out ones."""
        inputs = Inputs.of(data.normal, scaling="minmax", cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        rebuild, report = self._trained(normal, held_out, data)
        residuals = residuals_of(rebuild, held_out, held_out)
        floor = self.residual_floor
        scale = Scaled.of(residuals, floor=floor) if self.scaled else Scaled.none(inputs.n_columns)
        part = Residuals(rebuild, scale, typical(normal))
        return SumOfParts(inputs, [part], KIND[self.scaled], report)

    def _trained(
        self, normal: Matrix, held_out: Matrix, data: Training
    ) -> tuple[MeanOfDraws, dict[str, Any]]:
        from detectors.neural.build import arrays_of, tensor
        from detectors.neural.training import repeatable
        from detectors.neural.variational import Pair

        d = normal.shape[1]
        k = self.code or max(1, d // 3)
        half = max(self.least_width, d // 2)
        noise = fixed_noise(k, self.n_draws, data.rng, in_pairs=self.in_pairs)
        with repeatable(data.rng) as generator:
            pair = Pair.of(d, (half, half) if self.hidden is None else self.hidden, k)
            report = self.train(pair, tensor(normal), tensor(held_out), generator, data.progress)
            return MeanOfDraws(arrays_of(pair.encoder), arrays_of(pair.decoder), noise), report

    def train(
        self,
        pair: "Pair",
        normal: "torch.Tensor",
        held_out: "torch.Tensor",
        generator: "torch.Generator",
        progress: Progress,
    ) -> dict[str, Any]:
        """Train the networks of the pair; return how it went."""
        from detectors.neural.variational import Balance, Probe, for_steps, train_pair

        return train_pair(
            pair,
            normal,
            Probe(pair, held_out, generator),
            Balance(self.kl_weight),
            for_steps(self.steps, len(normal), self.batch, self.patience),
            learning_rate=self.learning_rate,
            generator=generator,
            progress=progress,
        )

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        rebuild = MeanOfDraws.restored(state, inputs.n_columns)
        part = restored_residuals(state, rebuild, inputs.n_columns)
        return SumOfParts(inputs, [part], KIND[self.scaled], state.parameters.get("report", {}))
