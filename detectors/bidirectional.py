"""What the detectors of bidirectional GANs share: an encoder and a generator, inverse to each other."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from detectors.base import Matrix, State
from detectors.inputs import Inputs, typical
from detectors.inversion import Guessed
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.networks import Network
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.distance import Beside, Distance, Judge
from detectors.parts.sum import Part, SumOfParts

if TYPE_CHECKING:
    from torch import nn

    from detectors.neural.bigan import Bigan, BiganPlan


@dataclass(kw_only=True, eq=False)
class Bidirectional(ModelDetector):
    """The frame: parameters, training and score; a subclass says which discriminators there are."""

    variant: str = "stable"
    latent: int | None = BY_VARIANT
    encoder: tuple[int, ...] = (64,)
    generator: tuple[int, ...] = (64, 128)
    judge: int = 128
    spectral: bool = BY_VARIANT
    cycle: float = BY_VARIANT
    scaled: bool = BY_VARIANT
    learning_rate: float = BY_VARIANT
    decay: float = BY_VARIANT
    batch: int = BY_VARIANT
    epochs: int = BY_VARIANT
    patience: int = BY_VARIANT
    residual_floor: float = 0.05
    cap: float = 10.0

    columns = frozenset({"numeric", "binary", "categorical"})

    def check(self) -> None:
        """Refuse parameters out of their range."""
        for name in ("encoder", "generator"):
            setattr(self, name, wholes(name, getattr(self, name), least=1))
        if self.latent is not None:
            whole("latent", self.latent, least=1)
        for name in ("spectral", "scaled"):
            one_of(name, getattr(self, name), [True, False])
        for name, most in (("learning_rate", 1.0), ("residual_floor", 10.0), ("cap", 1e12)):
            between(name, getattr(self, name), 0.0, most)
        between("cycle", self.cycle, -1e-300, 1e6)
        between("decay", self.decay, -1e-300, 0.999999)
        for name, least in (("judge", 1), ("batch", 2), ("epochs", 1), ("patience", 0)):
            whole(name, getattr(self, name), least=least)

    @abstractmethod
    def judges(self, d: int, k: int) -> "dict[str, nn.Module]":
        """Return untrained discriminators of d columns and k values of noise."""

    asked: ClassVar[str]
    """Which of them the score asks, by its name in `detectors.neural.bigan.QUESTIONS`."""

    @abstractmethod
    def beside(self, encoder: Network) -> tuple[Beside, int]:
        """Return what that discriminator is given beside a row's values, and how wide it is."""

    @property
    @abstractmethod
    def featured(self) -> float:
        """Weight of the features in the score, in [0, 1]."""

    def others(self) -> Sequence[Part]:
        """Return the other parts of the score."""
        return ()

    def width(self, d: int) -> int:
        """Return how many values the noise has for d columns: as 32 for 121 in the public code."""
        return self.latent or max(1, d // 4)

    def learn(self, data: Training) -> SumOfParts:
        """Train the networks on normal rows; stop by held-out ones, and scale the score by them."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        bigan = self._trained(normal, held_out, data)
        part = Distance.of(
            Guessed(bigan.encoder, bigan.generator),
            Judge(bigan.judge.head(len(bigan.judge.layers) - 1), self.beside(bigan.encoder)[0]),
            held_out,
            typical(normal),
            weight=self.featured,
            scaled=self.scaled,
            floor=self.residual_floor,
        )
        return self._model_of(inputs, part, bigan.report)

    def _trained(self, normal: Matrix, held_out: Matrix, data: Training) -> "Bigan":
        from detectors.neural.bigan import train_bigan
        from detectors.neural.build import tensor
        from detectors.neural.training import repeatable

        d = normal.shape[1]
        with repeatable(data.rng) as random:
            judges, plan = self.judges(d, self.width(d)), self._plan(d)
            return train_bigan(tensor(normal), tensor(held_out), judges, plan, random, data.progress)

    def _plan(self, d: int) -> "BiganPlan":
        from detectors.neural.bigan import BiganPlan
        from detectors.neural.training import Schedule

        return BiganPlan(
            latent=self.width(d),
            encoder=self.encoder,
            generator=self.generator,
            spectral=self.spectral,
            cycle=self.cycle,
            asked=self.asked,
            learning_rate=self.learning_rate,
            decay=self.decay,
            glorot=self.variant == "paper",
            schedule=Schedule(
                epochs=self.epochs, patience=self.patience, batch=self.batch, least_steps=LEAST_STEPS
            ),
        )

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        rebuild = Guessed.restored(state, inputs.n_columns)
        beside, n_beside = self.beside(rebuild.encoder)
        part = Distance.restored(state, rebuild, beside, n_beside)
        return self._model_of(inputs, part, state.parameters.get("report", {}))

    def _model_of(self, inputs: Inputs, part: Distance, report: Any) -> SumOfParts:
        return SumOfParts(inputs, [part, *self.others()], KIND[self.scaled], report)


LEAST_STEPS = 20
"""Minibatches of an epoch, at least: with few rows the networks would be asked how they do too often."""

KIND = {True: "relative_distance", False: "distance"}
