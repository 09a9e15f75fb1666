"""ALAD: adversarially learned anomaly detection, by a discriminator of rows and their rebuilt selves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from detectors.bidirectional import Bidirectional
from detectors.networks import Network
from detectors.parts.confidence import Outside
from detectors.parts.distance import Beside, the_row
from detectors.parts.sum import Part

if TYPE_CHECKING:
    from torch import nn


@dataclass(kw_only=True, eq=False)
class ALAD(Bidirectional):
    """Score a flow by how a discriminator's features of it and of its rebuilt self differ.

    Generator G and encoder E learn against three discriminators: of rows with noise, (x, E(x)) against
    (G(z), z); of rows with rows, (x, x) against (x, G(E(x))); of noise with noise, (z, z) against
    (z, E(G(z))). The last two make G and E each other's inverse. The score [1]_ is
    ||f(x, x) - f(x, G(E(x)))||_1, f the last hidden layer of the second discriminator. A column's term
    is its part of that distance: its gradient integrated from the row to the rebuilt row.

    Its weakness: a discriminator that sees no difference scores none, whatever G(E(x)) is, and its
    features have no scale: they grow and fade as training goes on. The remedies: the layers of encoder
    and discriminators have a largest singular value of 1 (`spectral`, advised by the authors), the
    error of rebuilt rows is part of the loss (`cycle`), training stops where held-out rows are rebuilt
    best (not where their score is least: a discriminator that sees nothing makes it zero), and the
    score counts in its mean over held-out rows.

    `variant="paper"` is the public code for KDD99: 100 epochs of 50 rows at a learning rate of 1e-5,
    dropout and batch norm. That code takes a switch for spectral norms and builds its KDD networks
    without them all the same; so does this variant. Its parameters are written for 121 columns and
    some 200,000 rows.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    latent : int or None
        Values of the noise; None: a quarter of the columns, as 32 are of the paper's 121.
    encoder, generator : sequence of int
        Widths of the hidden layers, in order.
    judge : int
        Width of the layers of the discriminators that see rows; that of noise with noise is as wide
        as the noise.
    spectral : bool
        Whether the layers of encoder and discriminators have a largest singular value of 1; with it
        there is neither dropout nor batch norm.
    cycle : float
        Weight of the mean squared error of rebuilt rows in training. 10: the losses of the
        discriminators stay at about 1, and the error shall still count when it is down to a tenth.
    scaled : bool
        Whether the score is counted in its mean over held-out rows.
    learning_rate : float
        Of Adam (beta1 0.5), for all networks. Stable: three hundred times the paper's, whose 400,000
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
        Least spread of a residual, in units of its column: for what explanations call its deviation.
    cap : float
        How far beyond the range of the training rows the networks are asked, in units of the column.

    References
    ----------
    .. [1] Zenati et al. (2018), Adversarially learned anomaly detection, ICDM, arXiv 1812.02288,
       equations 1-5 and table of the KDD99 networks, whose last layer of E is printed as 1; the
       authors' code (alad/kdd_utilities.py) has 32.
    """

    name = "alad"
    asked = "xx"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "latent": None,
            "spectral": True,
            "cycle": 10.0,
            "scaled": True,
            "learning_rate": 3e-3,
            "decay": 0.99,
            "batch": 256,
            "epochs": 40,
            "patience": 6,
        },
        "paper": {
            "latent": 32,
            "spectral": False,
            "cycle": 0.0,
            "scaled": False,
            "learning_rate": 1e-5,
            "decay": 0.999,
            "batch": 50,
            "epochs": 100,
            "patience": 0,
        },
    }

    @property
    def featured(self) -> float:
        """Features alone make the score."""
        return 1.0

    def judges(self, d: int, k: int) -> "dict[str, nn.Module]":
        """Return the three discriminators."""
        from detectors.neural.bigan import PairJudge
        from detectors.neural.build import mlp

        plain = not self.spectral
        drop = 0.2 if plain else 0.0
        of_pairs = PairJudge(
            d,
            k,
            width=self.judge,
            hidden="leaky_relu",
            spectral=self.spectral,
            row_norm=plain,
            dropout=(0.0, 0.5, 0.5) if plain else (0.0, 0.0, 0.0),
        )
        return {
            "xz": of_pairs,
            "xx": mlp([2 * d, self.judge, 1], hidden="leaky_relu", spectral=self.spectral, dropout=drop),
            "zz": mlp([2 * k, k, 1], hidden="leaky_relu", spectral=self.spectral, dropout=drop),
        }

    def beside(self, encoder: Network) -> tuple[Beside, int]:
        """Give it the row itself."""
        return the_row, encoder.n_inputs

    def others(self) -> Sequence[Part]:
        """Return what lies outside the bounds: no discriminator is asked there."""
        return (Outside(),)
