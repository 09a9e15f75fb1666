"""The plain autoencoder: what it cannot rebuild is anomalous."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from detectors.base import Matrix, State
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.residuals import Residuals, Scaled, Through, residuals_of, restored_residuals
from detectors.parts.sum import SumOfParts


@dataclass(kw_only=True, eq=False)
class Autoencoder(ModelDetector):
    """Score a flow by what a denoising autoencoder cannot rebuild of it.

    The network learns to rebuild normal rows from rows with noise on them, so that it cannot learn
    the identity. Residuals are scaled by their spread on held-out normal rows before they are
    squared and summed: a column that is always rebuilt badly says little.

    `variant="paper"` is the article's network [1]_: one hidden layer of half the columns, no noise,
    plain squared residuals.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    hidden : sequence of int
        Widths of the encoder's layers before the code; the decoder mirrors them.
    code : int or None
        Width of the code; None: a third of the columns, the article's: half.
    noise : float
        Standard deviation of the noise on the rows in training, in units of the columns.
    scaled : bool
        Whether residuals are scaled by their spread on held-out rows.
    learning_rate : float
        Of Adam.
    batch : int
        Rows of a minibatch.
    epochs, patience : int
        Most epochs; epochs without a smaller held-out error before training stops (0: never).
    residual_floor : float
        Least spread of a residual, in units of its column.
    cap : float
        How far beyond the range of the training rows the network is asked, in units of the column.

    References
    ----------
    .. [1] How can GANs be used for anomaly detection?, section on autoencoders.
    """

    variant: str = "stable"
    hidden: tuple[int, ...] = BY_VARIANT
    code: int | None = None
    noise: float = BY_VARIANT
    scaled: bool = BY_VARIANT
    learning_rate: float = 1e-3
    batch: int = BY_VARIANT
    epochs: int = 100
    patience: int = BY_VARIANT
    residual_floor: float = 0.05
    cap: float = 10.0

    name = "autoencoder"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {"hidden": (64, 32), "noise": 0.1, "scaled": True, "batch": 256, "patience": 5},
        "paper": {"hidden": (), "noise": 0.0, "scaled": False, "batch": 32, "patience": 0},
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        self.hidden = wholes("hidden", self.hidden, least=1)
        if self.code is not None:
            whole("code", self.code, least=1)
        one_of("scaled", self.scaled, [True, False])
        between("noise", self.noise, -1e-300, 10.0)
        between("learning_rate", self.learning_rate, 0.0, 1.0)
        between("residual_floor", self.residual_floor, 0.0, 10.0)
        between("cap", self.cap, 0.0, 1e12)
        for name, least in (("batch", 2), ("epochs", 1), ("patience", 0)):
            whole(name, getattr(self, name), least=least)

    def learn(self, data: Training) -> SumOfParts:
        """Train the network on normal rows; stop and scale the residuals by held-out ones."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        rebuild, report = self._trained(normal, held_out, data)
        residuals = residuals_of(rebuild, held_out, held_out)
        floor = self.residual_floor
        scale = Scaled.of(residuals, floor=floor) if self.scaled else Scaled.none(inputs.n_columns)
        part = Residuals(rebuild, scale, typical(normal))
        return SumOfParts(inputs, [part], KIND[self.scaled], report)

    def _trained(self, normal: Matrix, held_out: Matrix, data: Training) -> tuple[Through, dict[str, Any]]:
        import torch
        from torch.nn.functional import mse_loss

        from detectors.neural.build import arrays_of, mlp, tensor
        from detectors.neural.training import Schedule, descend, repeatable, train

        d = normal.shape[1]
        code = self.code or max(1, d // (2 if self.variant == "paper" else 3))
        with repeatable(data.rng) as generator:
            network = mlp([d, *self.hidden, code, *reversed(self.hidden), d])
            optimiser = torch.optim.Adam(network.parameters(), lr=self.learning_rate)
            probe = tensor(held_out)

            def step(batch: torch.Tensor) -> None:
                noisy = batch + self.noise * torch.randn(batch.shape, generator=generator)
                descend(optimiser, mse_loss(network(noisy), batch))

            def objective() -> torch.Tensor:
                return mse_loss(network(probe), probe)

            schedule = Schedule(epochs=self.epochs, patience=self.patience, batch=self.batch, least_steps=20)
            report = train(tensor(normal), step, objective, [network], schedule, generator, data.progress)
            return Through(arrays_of(network)), report

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        rebuild = Through.restored(state, inputs.n_columns)
        part = restored_residuals(state, rebuild, inputs.n_columns)
        return SumOfParts(inputs, [part], KIND[self.scaled], state.parameters.get("report", {}))


KIND = {True: "squared_deviations", False: "squared_error"}
