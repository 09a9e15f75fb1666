"""EGBAD: a bidirectional GAN, so that nobody has to search for the noise behind a flow."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from detectors.bidirectional import Bidirectional
from detectors.model import BY_VARIANT
from detectors.networks import Network
from detectors.parameters import between
from detectors.parts.distance import Beside

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True, eq=False)
class EGBAD(Bidirectional):
    """Score a flow by how a BiGAN rebuilds it, and by what the BiGAN's discriminator makes of both.

    Generator G and encoder E learn to confuse a discriminator of pairs, of rows with E(row) and of
    G(noise) with the noise. The score is AnoGAN's [1]_ with z = E(x):
    (1 - w) ||x - G(z)||_1 + w ||f(x, z) - f(G(z), z)||_1, f the discriminator's last hidden layer.
    A column's term is its absolute residual and its part of the features' distance.

    Its weakness: at the optimum alone E and G are each other's inverse. On the way there the
    reconstruction comes and goes: users of the public code report an F1 on KDD of 0.95 after 100
    epochs and of 0.32 after 100 more [2]_. The remedies: the error of rebuilt rows is part of the
    loss (`cycle`), the discriminator's layers have a bounded slope (`spectral`), training stops where
    held-out rows are rebuilt best, and residuals count in units of held-out rows (`scaled`).

    `variant="paper"` is the public code for KDD99 with none of them: 100 epochs of 50 rows at a
    learning rate of 1e-5, dropout. Its parameters are written for 121 columns and some 200,000 rows.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    latent : int or None
        Values of the noise; None: a quarter of the columns, as 32 are of the paper's 121.
    encoder, generator : sequence of int
        Widths of the hidden layers, in order.
    judge : int
        Width of the discriminator's layers.
    weight : float
        w, the share of the features in the score; the paper's 0.1.
    spectral : bool
        Whether the layers of discriminator and encoder have a largest singular value of 1.
    dropout : float
        Of the discriminator's hidden values in training.
    cycle : float
        Weight of the mean squared error of rebuilt rows in training. 10: the losses of the
        discriminators stay at about 1, and the error shall still count when it is down to a tenth.
    scaled : bool
        Whether residuals are counted in their spread on held-out rows, and both sums of the score in
        their means there: w then means the same on every dataset.
    learning_rate : float
        Of Adam (beta1 0.5), for all networks. Stable: a hundred times the paper's, whose 400,000
        steps become some ten thousand larger ones, which spectral norms and the cycle term bear.
    decay : float
        Of the moving averages of the weights; the averages score. Stable: over a hundred steps, as
        there are no ten thousand to spare for forgetting the start.
    batch : int
        Rows of a minibatch.
    epochs, patience : int
        Most epochs; epochs without a smaller held-out error before training stops (0: never). Stable:
        the error hardly falls any more after 30 epochs of 40,000 flows.
    residual_floor : float
        Least spread of a residual, in units of its column: what is rebuilt almost exactly must not
        make a score of rounding.
    cap : float
        How far beyond the range of the training rows the networks are asked, in units of the column.

    References
    ----------
    .. [1] Zenati et al. (2018), Efficient GAN-based anomaly detection, arXiv 1802.06222, section 3, and
       the authors' code for KDD99 (bigan/kdd_utilities.py, bigan/run_kdd.py), which has the widths.
    .. [2] houssamzenati/Efficient-GAN-Anomaly-Detection, its users on longer training.
    """

    weight: float = 0.1
    dropout: float = BY_VARIANT

    name = "egbad"
    asked = "xz"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "latent": None,
            "spectral": True,
            "dropout": 0.0,
            "cycle": 10.0,
            "scaled": True,
            "learning_rate": 1e-3,
            "decay": 0.99,
            "batch": 256,
            "epochs": 40,
            "patience": 6,
        },
        "paper": {
            "latent": 32,
            "spectral": False,
            "dropout": 0.2,
            "cycle": 0.0,
            "scaled": False,
            "learning_rate": 1e-5,
            "decay": 0.9999,
            "batch": 50,
            "epochs": 100,
            "patience": 0,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        super().check()
        between("weight", self.weight, -1e-300, 1.0)
        between("dropout", self.dropout, -1e-300, 0.99)

    @property
    def featured(self) -> float:
        """Weight of the features in the score."""
        return self.weight

    def judges(self, d: int, k: int) -> "dict[str, nn.Module]":
        """Return the discriminator of rows and noise."""
        from detectors.neural.bigan import PairJudge

        drop = (self.dropout, self.dropout, self.dropout)
        judge = PairJudge(
            d,
            k,
            width=self.judge,
            hidden="leaky_relu_0.1",
            spectral=self.spectral,
            row_norm=False,
            dropout=drop,
        )
        return {"xz": judge}

    def beside(self, encoder: Network) -> tuple[Beside, int]:
        """Give it the noise that the encoder guesses."""
        return encoder.on_tile, encoder.n_outputs
