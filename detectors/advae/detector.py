"""The variational autoencoder that plays against itself, as a detector."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from detectors.base import Progress
from detectors.errors import ParameterError
from detectors.model import BY_VARIANT
from detectors.parameters import between, whole
from detectors.vae import VAE

if TYPE_CHECKING:
    import torch

    from detectors.advae.training import Game, Players, Weights
    from detectors.neural.variational import Pair, Probe

ROW_MARGIN = 2.0
"""m_x of the article, whose tables have 16 to 64 columns."""

LEAST_ROW_MARGIN = 1e-3
"""Least margin of the rows that is found: where all of them are equal."""

LEAST_MARGIN = 1.0
"""Least margin of the codes, in nats: where nothing depends on anything, codes carry nothing."""


@dataclass(kw_only=True, eq=False)
class AdVAE(VAE):
    """Score a flow by what a self-adversarial variational autoencoder misses of it.

    A variational autoencoder may rebuild anomalies as well as normal rows. Here a Gaussian transformer
    makes, from the codes of normal rows, codes of anomalous rows near them; the generator learns to
    rebuild the two apart, and the encoder to give everything that was generated a code far from the
    prior [1]_. Training is Algorithm 1 of the article (`detectors.advae.training`). The score is the
    squared error of the mean of `n_draws` reconstructions (not the mean of their errors), over draws that
    are the same for every row.

    Known weaknesses: more than some 3 % of anomalies among the training rows spoil it ([1]_, figure 9f);
    the transformer learns to copy where `kl_weight` is large; and margins that are too small switch the
    game off. The article chooses `kl_weight` and `code_margin` for each dataset and does not say by what.
    By default both are found without labels: a plain variational autoencoder is trained first, for
    `warmup` minibatches; the weight is the one that its error implies [2]_, the margin lies a little above
    its divergence on held-out normal rows, and its networks are where the game begins. Held-out normal
    rows end the training. How often each hinge was active (20 to 80 % are wanted), and how far the
    transformer's codes lie from the rows' (near 0 it copies), is told in the report.

    `variant="paper"` is the article's setting: no warm-up, given weight and margin, plain squared error,
    1,000 independent draws (which makes scoring some fifteen times slower), all minibatches.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    hidden : sequence of int or None
        Widths of the encoder's layers before the code; the generator mirrors them. None: twice half the
        columns [1]_, or `least_width`.
    least_width : int
        Layers of a few units may die in training, and then rebuild the mean alone.
    code : int or None
        Latent values; None: a third of the columns, about what [1]_ has.
    kl_weight : float or None
        lambda, of the divergences from the prior and of the transformer's, beside the squared error, in
        units of the columns' ranges; None: found in the warm-up. [1]_ has 0.003 to 0.1; 0.01 is in the
        middle and the one that it has twice.
    n_draws : int
        Latent draws that the mean reconstruction is over.
    in_pairs : bool
        Whether every draw is followed by its opposite.
    scaled : bool
        Whether residuals are scaled by their spread on held-out rows.
    learning_rate : float
        Of Adam, in every step.
    batch : int
        Rows of a minibatch.
    steps : int
        Most minibatches of the game.
    patience : int
        Epochs without a smaller held-out error and divergence before training stops (0: never). Twenty: at
        first the game makes them larger.
    residual_floor : float
        Least spread of a residual, in ranges of its column.
    cap : float
        How far beyond the range of the training rows the encoder is asked, in such ranges.
    adversarial_weight : float
        gamma, of what the networks play for ([1]_, table 2; a caption there says 0.01: figure 9b does not).
    row_margin : float or None
        m_x, squared distance that the generator keeps between the two reconstructions [1]_; None: that of
        two normal rows, on average, and at most the article's: a few columns cannot be further apart.
    code_margin : float or None
        m_z, divergence from the prior that the encoder gives to generated rows; None: found in the
        warm-up. [1]_ has 40 for three datasets and 20 for two.
    warmup : int
        Minibatches of plain training before the game.
    margin_factor : float
        A margin that is found is so many times the plain autoencoder's divergence: [1]_ has margins "a
        little above".

    References
    ----------
    .. [1] Wang et al. (2019), adVAE: a self-adversarial variational autoencoder with Gaussian anomaly
       prior knowledge for anomaly detection, arXiv 1903.00904, Algorithm 1 and table 2.
    .. [2] Rybkin, Daniilidis & Levine (2021), Simple and effective VAE training with calibrated
       decoders, ICML.
    """

    adversarial_weight: float = 1e-3
    row_margin: float | None = BY_VARIANT
    code_margin: float | None = BY_VARIANT
    warmup: int = BY_VARIANT
    margin_factor: float = 1.25

    name = "advae"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            **VAE.variants["stable"],
            "patience": 20,
            "row_margin": None,
            "code_margin": None,
            "warmup": 3000,
        },
        "paper": {**VAE.variants["paper"], "row_margin": ROW_MARGIN, "code_margin": 40.0, "warmup": 0},
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        super().check()
        for name in ("adversarial_weight", "margin_factor"):
            between(name, getattr(self, name), 0.0, 1e6)
        for name in ("row_margin", "code_margin"):
            if getattr(self, name) is not None:
                between(name, getattr(self, name), 0.0, 1e6)
        whole("warmup", self.warmup, least=0)
        if not self.warmup and (self.kl_weight is None or self.code_margin is None):
            raise ParameterError(
                "warmup is 0, expected minibatches to find kl_weight and code_margin by, or both given"
            )

    def train(
        self,
        pair: "Pair",
        normal: "torch.Tensor",
        held_out: "torch.Tensor",
        generator: "torch.Generator",
        progress: Progress,
    ) -> dict[str, Any]:
        """Find the weights, then play; return how it went."""
        from detectors.advae.training import Game, Players, report_of
        from detectors.neural.variational import Probe

        probe = Probe(pair, held_out, generator)
        weights, found = self._weights(pair, normal, probe, generator, progress)
        game = Game(pair, weights)
        players = Players(game, self.learning_rate, generator)
        report = self._play(game, players, normal, probe, generator, progress)
        return report_of(game, players, held_out, found | report)

    def _weights(
        self,
        pair: "Pair",
        normal: "torch.Tensor",
        probe: "Probe",
        generator: "torch.Generator",
        progress: Progress,
    ) -> tuple["Weights", dict[str, Any]]:
        """Return the weights, given or found by training the pair without a game, and what was found."""
        from detectors.advae.training import Weights
        from detectors.neural.variational import Balance, for_steps, train_pair

        found: dict[str, Any] = {}
        if self.warmup:
            found = train_pair(
                pair,
                normal,
                probe,
                Balance(self.kl_weight),
                for_steps(self.warmup, len(normal), self.batch, self.patience),
                learning_rate=self.learning_rate,
                generator=generator,
                progress=lambda what, done: progress(f"warm-up: {what}", 0.25 * done),
            )
        weight, rows, codes = self.kl_weight, self.row_margin, self.code_margin
        if weight is None:
            weight = found["kl_weight"]
        if rows is None:
            apart = 2.0 * normal.var(dim=0).sum().item()
            rows = min(ROW_MARGIN, max(LEAST_ROW_MARGIN, apart))
        if codes is None:
            codes = max(LEAST_MARGIN, self.margin_factor * found["divergence"])
        chosen = Weights(kl=weight, adversarial=self.adversarial_weight, row_margin=rows, code_margin=codes)
        return chosen, {"warmup": found}

    def _play(
        self,
        game: "Game",
        players: "Players",
        normal: "torch.Tensor",
        probe: "Probe",
        generator: "torch.Generator",
        progress: Progress,
    ) -> dict[str, Any]:
        from detectors.neural.training import train
        from detectors.neural.variational import Balance, for_steps

        balance = Balance(game.weights.kl)

        def objective() -> "torch.Tensor":
            players.hinges.end_epoch()
            return balance.bound(*probe(), normal.shape[1])

        start = 0.25 if self.warmup else 0.0
        report = train(
            normal,
            players.step,
            objective,
            game.modules,
            for_steps(self.steps, len(normal), self.batch, self.patience),
            generator,
            lambda what, done: progress(what, start + (1.0 - start) * done),
        )
        return report | probe.told(balance)
