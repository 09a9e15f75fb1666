"""A discriminator taught by many generators, each of which makes another kind of outlier."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from detectors.base import Matrix, State
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.confidence import Confidence, Doubt
from detectors.parts.sum import SumOfParts

if TYPE_CHECKING:
    import torch

    from detectors.neural.gaal import Game

KIND = "discriminator_logit"

STOP_STEPS = 300
"""Minibatches after which the authors' settings for their datasets stop the generators: 171 to 350."""


@dataclass(kw_only=True, eq=False)
class ManyGenerators(ModelDetector):
    """Score a flow by how sure a discriminator is that it is no normal row (MO-GAAL).

    Several generators make potential outliers; the discriminator learns to tell normal rows from them. Each
    generator aims at a quantile of the probabilities that normal rows are given, not at 1: so together
    they surround the normal rows instead of all imitating the same few [1]_. After `stop_epochs` the
    generators rest, before they make what is normal, and the discriminator learns on. The score is minus its
    logit: it ranks rows as the paper's 1 - D(x) does, and does not saturate. (PyOD's `decision_function`
    returns D(x) itself, which ranks normal rows above outliers.)

    What the generators never made, the discriminator cannot know: they start as the identity, on noise that
    is uniform over the normal rows' range, and where there are many columns hardly any such row looks like
    traffic. So by default normal rows with some of their columns replaced are shown beside what the
    generators make, and the discriminator ends where held-out normal rows are told best. `variant="paper"`
    does without.

    Columns are scaled to [0, 1], as the generators' noise and their outputs are; what lies further than `cap`
    outside adds its square.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given; "paper" is the setting of [2]_.
    generators : int
        Number of generators; number i of k aims at the i / k quantile.
    hidden : sequence of int
        Widths of the discriminator's hidden layers; none: one, the square root of the number of rows.
    spectral : bool
        Whether the discriminator's layers are held at a largest singular value of 1: it cannot turn about
        between two rows then, and cannot follow narrow borders either.
    stop_epochs : int or None
        Epochs in which the generators learn; None: those of about 300 minibatches. The authors chose it for
        each dataset (9 on PenDigits to 300 on Ionosphere), which comes to 171 to 350 minibatches on most.
    more_epochs, patience : int
        Most epochs of the discriminator alone; epochs without a smaller held-out loss before it stops
        (0: never).
    momentum : float or None
        Of stochastic gradient descent; None: Adam.
    rate_discriminator, rate_generators : float
        Learning rates.
    corrupted : bool
        Whether normal rows with replaced columns are shown as not normal.
    target_rows : int or None
        Normal rows, drawn once, that the quantiles are taken of at each step; None: all of them.
    batch : int
        Rows of a minibatch.
    least_steps : int
        With few rows an epoch is repeated until it has so many minibatches.
    cap : float
        How far beyond the range of the training rows the discriminator is asked, in ranges of the column; the
        replaced values reach as far.

    References
    ----------
    .. [1] Liu, Li, Zhou, Jiang, Sun, Wang & He (2020), Generative adversarial active learning for
       unsupervised outlier detection, IEEE TKDE 32(8), section 4.
    .. [2] github.com/leibinghe/GAAL-based-outlier-detection, MO-GAAL.
    """

    variant: str = "stable"
    generators: int = 10
    hidden: tuple[int, ...] = BY_VARIANT
    spectral: bool = BY_VARIANT
    stop_epochs: int | None = BY_VARIANT
    more_epochs: int = BY_VARIANT
    patience: int = BY_VARIANT
    momentum: float | None = BY_VARIANT
    rate_discriminator: float = BY_VARIANT
    rate_generators: float = BY_VARIANT
    corrupted: bool = BY_VARIANT
    target_rows: int | None = BY_VARIANT
    batch: int = 500
    least_steps: int = BY_VARIANT
    cap: float = 2.0

    name = "mo_gaal"
    columns = frozenset({"numeric", "binary", "categorical"})
    scaling = "minmax"
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "hidden": (128, 64),
            "spectral": False,
            "stop_epochs": None,
            "more_epochs": 30,
            "patience": 5,
            "momentum": None,
            "rate_discriminator": 1e-3,
            "rate_generators": 1e-4,
            "corrupted": True,
            "target_rows": 2000,
            "least_steps": 20,
        },
        "paper": {
            "hidden": (),
            "spectral": False,
            "stop_epochs": 25,
            "more_epochs": 50,
            "patience": 0,
            "momentum": 0.9,
            "rate_discriminator": 1e-2,
            "rate_generators": 1e-4,
            "corrupted": False,
            "target_rows": None,
            "least_steps": 1,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        self.hidden = wholes("hidden", self.hidden, least=1)
        if self.momentum is not None:
            between("momentum", self.momentum, -1e-300, 0.999)
        if self.target_rows is not None:
            whole("target_rows", self.target_rows, least=1)
        for name in ("rate_discriminator", "rate_generators"):
            between(name, getattr(self, name), 0.0, 1.0)
        for name in ("corrupted", "spectral"):
            one_of(name, getattr(self, name), [True, False])
        between("cap", self.cap, 0.0, 1e12)
        if self.stop_epochs is not None:
            whole("stop_epochs", self.stop_epochs, least=1)
        for name in ("generators", "more_epochs", "least_steps"):
            whole(name, getattr(self, name), least=1)
        whole("patience", self.patience, least=0)
        whole("batch", self.batch, least=2)

    def learn(self, data: Training) -> SumOfParts:
        """Let the networks play on normal rows; scale the discriminator's answer by held-out ones."""
        inputs = Inputs.of(data.normal, scaling="minmax", cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        doubt, report = self._played(normal, held_out, inputs, data)
        part = Confidence.of(doubt, typical(normal), held_out)
        return SumOfParts(inputs, [part], KIND, report)

    def _played(
        self, normal: Matrix, held_out: Matrix, inputs: Inputs, data: Training
    ) -> tuple[Doubt, dict[str, Any]]:
        import torch

        from detectors.neural.build import arrays_of, tensor
        from detectors.neural.gaal import discrimination
        from detectors.neural.training import Schedule, repeatable, train

        with repeatable(data.rng) as generator:
            rows, probe = tensor(normal), tensor(held_out)
            game = self._game(rows, inputs, generator)
            some = rows[torch.randperm(len(rows), generator=generator)[: self.target_rows]]
            noise, corrupted = game.noise(probe), [] if game.corruption is None else [game.corruption(probe)]

            def together(batch: torch.Tensor) -> None:
                game.teach_discriminator(batch)
                game.teach_generators(game.noise(batch), game.targets(some))

            def objective() -> torch.Tensor:
                return discrimination(game.discriminator, probe, torch.cat([game.made(noise), *corrupted]))

            def phase(step: Callable[[torch.Tensor], None], epochs: int, patience: int) -> dict[str, Any]:
                plan = Schedule(
                    epochs=epochs, patience=patience, batch=self.batch, least_steps=self.least_steps
                )
                modules = [game.discriminator, *game.generators]
                return train(rows, step, objective, modules, plan, generator, data.progress)

            first = phase(together, self._stop_epochs(len(rows)), 0)
            alone = phase(game.teach_discriminator, self.more_epochs, self.patience)
            return Doubt((arrays_of(game.discriminator),)), {"together": first, "alone": alone}

    def _stop_epochs(self, n_rows: int) -> int:
        steps = max(self.least_steps, math.ceil(n_rows / self.batch))
        return self.stop_epochs or max(1, round(STOP_STEPS / steps))

    def _game(self, rows: "torch.Tensor", inputs: Inputs, generator: "torch.Generator") -> "Game":
        import torch

        from detectors.neural.build import mlp, tensor
        from detectors.neural.gaal import Game, scaled_start, sub_generator
        from detectors.neural.negatives import Corruption

        d = inputs.n_columns
        low, high = tensor(inputs.low), tensor(inputs.high)
        hidden = self.hidden or (math.ceil(math.sqrt(len(rows))),)
        discriminator = mlp([d, *hidden, 1], spectral=self.spectral)
        if not self.spectral:
            scaled_start(discriminator)
        generators = torch.nn.ModuleList(sub_generator(d) for _ in range(self.generators))
        return Game(
            discriminator=discriminator,
            generators=generators,
            optimise_discriminator=self._optimiser(discriminator, self.rate_discriminator),
            optimise_generators=self._optimiser(generators, self.rate_generators),
            corruption=Corruption(rows, low, high, generator) if self.corrupted else None,
            generator=generator,
        )

    def _optimiser(self, module: "torch.nn.Module", rate: float) -> "torch.optim.Optimizer":
        import torch

        if self.momentum is None:
            return torch.optim.Adam(module.parameters(), lr=rate)
        return torch.optim.SGD(module.parameters(), lr=rate, momentum=self.momentum)

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        doubt = Doubt.restored(state, inputs.n_columns, 1)
        part = Confidence.restored(state, doubt, inputs.n_columns)
        return SumOfParts(inputs, [part], KIND, state.parameters.get("report", {}))
