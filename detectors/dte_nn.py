"""How much noise a flow looks to have on it: the expected diffusion time."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from detectors.base import Matrix, State
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.networks import Network, Pullback
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.confidence import Confidence
from detectors.parts.sum import Arrays, SumOfParts

if TYPE_CHECKING:
    import torch

KIND = "diffusion_time"

PROBE_ROWS = 4000
"""Noisy rows, at least, that the held-out objective is measured on: fewer, and it is noise itself."""


@dataclass(frozen=True, slots=True, eq=False)
class ExpectedTime:
    """The log-odds of the diffusion time that a classifier expects, as a share of the longest.

    With bins 0 .. k - 1 the classifier expects the bin m = sum of j p_j; this is log(m / (k - 1 - m)). It
    ranks rows as m does, but still tells those apart that are surely in the last bin.
    """

    classifier: Network

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the value of each row, (1, 256)."""
        return _log_odds(self.classifier.on_tile(tile))[0]

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the values, and the way back."""
        logits, back = self.classifier.pullback(tile)
        value, slope = _log_odds(logits)
        return value, lambda gradient: back(slope * gradient)

    def arrays(self) -> Arrays:
        """Return the classifier's numbers."""
        return self.classifier.arrays("classifier")

    def networks(self) -> Mapping[str, list[str]]:
        """Return the classifier's activations."""
        return {"classifier": self.classifier.activations}


def _log_odds(logits: Matrix) -> tuple[Matrix, Matrix]:
    """Return log(sum of j p_j) - log(sum of (k - 1 - j) p_j), (1, n), and its gradient, (k, n)."""
    late = np.log(np.arange(1.0, len(logits)))[:, None]
    above, share_above = _log_sum(logits[1:] + late)
    below, share_below = _log_sum(logits[:-1] + late[::-1])
    slope = np.zeros_like(logits)
    slope[1:] += share_above
    slope[:-1] -= share_below
    return above - below, slope


def _log_sum(values: Matrix) -> tuple[Matrix, Matrix]:
    """Return log(sum of exp(values)) of each column, and its gradient."""
    most = values.max(axis=0, keepdims=True)
    parts = np.exp(values - most)
    whole_: Matrix = np.add.reduce(parts, axis=0, keepdims=True)
    return most + np.log(whole_), parts / whole_


@dataclass(kw_only=True, eq=False)
class DiffusionTime(ModelDetector):
    """Score a flow by the diffusion time that it seems to have come from.

    Normal rows get Gaussian noise whose standard deviation grows with a time drawn uniformly; a classifier
    learns to tell from the noisy row in which of a few bins the time lay [1]_ (DTE-C). The score is the time
    that it expects for the row as it came: far from all normal rows, much noise must have been added. It is
    one pass through a network, however many rows that was trained on, and ranks much as kNN does.

    The score is in log-odds, which rank rows as the expected time itself does and do not saturate; it is
    counted from a typical normal row, in standard deviations over held-out rows. What lies further out than
    any noise of the training, `cap` beyond the range of the normal rows, adds its square.

    `variant="paper"` is the setting of the authors' code [2]_, from which the published figures come: 400
    epochs, and a softmax before a cross-entropy that takes one itself (the paper says cross-entropy alone).
    The defaults train with the plain cross-entropy, faster, and until held-out rows are told no better.

    Known weakness: the noise is alike in all columns, so that columns must be standardised, and its largest
    deviation is 0.93: how far beyond that a row lies, the classifier has never had to tell.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    hidden : sequence of int
        Widths of the hidden layers.
    bins : int
        Classes that the times fall into.
    times : int
        Number of diffusion times.
    least_noise, most_noise : float
        Variance added by the first and by the last of the times, linear in between.
    dropout : float
        Share of hidden values dropped in training, behind the first layer none.
    double_softmax : bool
        Whether the loss takes the softmax of probabilities, as the authors' code does.
    learning_rate, weight_decay : float
        Of Adam.
    batch : int
        Rows of a minibatch.
    epochs, patience : int
        Most epochs; epochs without a smaller held-out loss before training stops (0: never).
    cap : float
        How far beyond the range of the training rows the network is asked, in units of the column. 3: about
        three standard deviations of the largest noise (0.93), so further out no noisy row ever was.

    References
    ----------
    .. [1] Livernoche, Jain, Hezaveh & Ravanbakhsh (2024), On diffusion modeling for anomaly detection, ICLR,
       section 4.
    .. [2] github.com/vicliv/DTE, diffusion/dte.py: DTECategorical.
    """

    variant: str = "stable"
    hidden: tuple[int, ...] = BY_VARIANT
    bins: int = 7
    times: int = 400
    least_noise: float = 1e-4
    most_noise: float = 1e-2
    dropout: float = BY_VARIANT
    double_softmax: bool = BY_VARIANT
    learning_rate: float = BY_VARIANT
    weight_decay: float = 5e-4
    batch: int = BY_VARIANT
    epochs: int = BY_VARIANT
    patience: int = BY_VARIANT
    cap: float = 3.0

    name = "dte_nn"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "hidden": (256, 512, 256),
            "dropout": 0.0,
            "double_softmax": False,
            "learning_rate": 1e-3,
            "batch": 256,
            "epochs": 15,
            "patience": 5,
        },
        "paper": {
            "hidden": (256, 512, 256),
            "dropout": 0.5,
            "double_softmax": True,
            "learning_rate": 1e-4,
            "batch": 64,
            "epochs": 400,
            "patience": 0,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        self.hidden = wholes("hidden", self.hidden, least=1)
        one_of("double_softmax", self.double_softmax, [True, False])
        between("least_noise", self.least_noise, 0.0, 0.5)
        between("most_noise", self.most_noise, self.least_noise - 1e-300, 0.5)
        between("dropout", self.dropout, -1e-300, 0.9)
        between("learning_rate", self.learning_rate, 0.0, 1.0)
        between("weight_decay", self.weight_decay, -1e-300, 1.0)
        between("cap", self.cap, 0.0, 1e12)
        for name, least in (("bins", 2), ("times", 2), ("batch", 2), ("epochs", 1), ("patience", 0)):
            whole(name, getattr(self, name), least=least)

    def deviations(self) -> Matrix:
        """Return the standard deviation of the noise at each time, (times,)."""
        added = np.linspace(self.least_noise, self.most_noise, self.times)
        result: Matrix = np.sqrt(1.0 - np.cumprod(1.0 - added))
        return result

    def learn(self, data: Training) -> SumOfParts:
        """Train the classifier on noisy normal rows; scale its answer by held-out ones."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        classifier, report = self._trained(normal, held_out, data)
        part = Confidence.of(ExpectedTime(classifier), typical(normal), held_out)
        return SumOfParts(inputs, [part], KIND, report)

    def _trained(self, normal: Matrix, held_out: Matrix, data: Training) -> tuple[Network, dict[str, Any]]:
        import torch
        from torch.nn.functional import cross_entropy

        from detectors.neural.build import arrays_of, tensor
        from detectors.neural.training import Schedule, descend, repeatable, train

        with repeatable(data.rng) as generator:
            network = self._network(normal.shape[1])
            optimiser = torch.optim.Adam(
                network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
            )
            deviations = tensor(self.deviations())

            def noisy(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
                times = torch.randint(self.times, (len(rows),), generator=generator)
                noise = torch.randn(rows.shape, generator=generator)
                return rows + deviations[times, None] * noise, times * self.bins // self.times

            def loss(rows: torch.Tensor, bins: torch.Tensor) -> torch.Tensor:
                logits = network(rows)
                return cross_entropy(torch.softmax(logits, dim=1) if self.double_softmax else logits, bins)

            probe = noisy(tensor(held_out).repeat(-(-PROBE_ROWS // len(held_out)), 1))
            schedule = Schedule(epochs=self.epochs, patience=self.patience, batch=self.batch, least_steps=60)
            report = train(
                tensor(normal),
                lambda rows: descend(optimiser, loss(*noisy(rows))),
                lambda: loss(*probe),
                [network],
                schedule,
                generator,
                data.progress,
            )
            return arrays_of(network), report

    def _network(self, n_columns: int) -> "torch.nn.Sequential":
        from torch import nn

        from detectors.neural.build import mlp

        modules = list(mlp([n_columns, *self.hidden, self.bins], dropout=self.dropout).children())
        dropouts = [number for number, module in enumerate(modules) if isinstance(module, nn.Dropout)]
        if dropouts:
            del modules[dropouts[0]]  # the authors' code drops nothing of the first layer
        return nn.Sequential(*modules)

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        d = inputs.n_columns
        classifier = Network.restored(state, "classifier", n_inputs=d, n_outputs=self.bins)
        part = Confidence.restored(state, ExpectedTime(classifier), d)
        return SumOfParts(inputs, [part], KIND, state.parameters.get("report", {}))
