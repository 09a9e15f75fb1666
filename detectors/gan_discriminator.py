"""The discriminator of a GAN, asked how far a flow is from real."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from detectors.base import Matrix, State
from detectors.errors import ParameterError
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.confidence import Confidence, Doubt
from detectors.parts.sum import SumOfParts

if TYPE_CHECKING:
    import torch

    from detectors.neural.gan import Gan, GanPlan, Negatives

KIND = "discriminator_logit"


@dataclass(kw_only=True, eq=False)
class GanDiscriminator(ModelDetector):
    """Score a flow by how sure the discriminator of a GAN is that it was not real.

    The article's score is 1 - D(x) [1]_; this is minus D's logit, which ranks rows alike and never saturates.

    As it stands that is no score of anomalies [2]_: where the generator has learned its task, the
    discriminator cannot tell its rows from normal ones; and of an attack, which neither of them ever showed
    it, it was never asked: it may well call it real. `variant="paper"` shows it. The defaults remedy that:

    - The discriminator is also shown normal rows with some of their columns replaced, by any values of the
      column or uniformly up to the bounds of what it is asked, so that it learns where normal rows end.
    - The generator stops early, where its rows are nearest to held-out ones. Then the discriminator learns
      on alone, from replaced columns: most of the generator's rows are of the most usual kinds by now, and
      seeing more of them would only make it call these less real than rare ones.
    - It ends where held-out rows are told best, and its weights are averaged over these steps, so that the
      score does not depend on the last one.

    What lies further than `cap` outside the range of the normal rows adds its square.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given; "paper" is the article's networks, trained
        as its autoencoder is (Adam, 1e-3, batches of 32, 100 epochs): of the GAN's training it says nothing.
    latent : int
        Values of the generator's noise.
    generator, discriminator : sequence of int
        Widths of their hidden layers.
    spectral : bool
        Whether the discriminator's layers are held at a largest singular value of 1: it cannot turn about
        between two rows then, but is blunt: a hole among normal rows, narrower than they are wide, is not
        seen.
    learning_rate : float
        Of Adam, for both networks.
    beta1 : float
        Of Adam: 0.5 is usual for GANs.
    batch : int
        Rows of a minibatch.
    epochs, patience : int
        Most epochs of the game; epochs in which the generator comes no nearer to held-out rows before it
        stops (0: never).
    corrupted : bool
        Whether normal rows with replaced columns are shown as not real.
    shuffled : float
        Share of these rows whose new values are those of other rows, by which dependencies are learned; the
        rest are any values of the column, each as likely as any other, or uniform. With 1 alone, rows that
        are rare but in order, as most of a flood's are, are rarer still among shuffled rows, and pass for
        real.
    more_epochs, more_patience : int
        The same for the discriminator alone; 0 epochs: it is used as the game has left it.
    made : float
        Rows of the generator that are shown then, per normal row.
    decay : float
        Of the moving average of the discriminator's weights while it learns alone.
    cap : float
        How far beyond the range of the training rows the discriminator is asked, in units of the column.

    References
    ----------
    .. [1] How can GANs be used for anomaly detection?, third example.
    .. [2] Casajús-Setién, Bielza & Larrañaga, Bayesian network evolutive autoencoder for anomaly detection,
       section 2: the discriminator "as a rudimentary anomaly detector".
    """

    variant: str = "stable"
    latent: int = BY_VARIANT
    generator: tuple[int, ...] = BY_VARIANT
    discriminator: tuple[int, ...] = BY_VARIANT
    spectral: bool = BY_VARIANT
    learning_rate: float = BY_VARIANT
    beta1: float = BY_VARIANT
    batch: int = BY_VARIANT
    epochs: int = BY_VARIANT
    patience: int = BY_VARIANT
    corrupted: bool = BY_VARIANT
    shuffled: float = 0.5
    more_epochs: int = BY_VARIANT
    more_patience: int = 5
    made: float = 0.0
    decay: float = 0.99
    cap: float = 3.0

    name = "gan_discriminator"
    columns = frozenset({"numeric", "binary", "categorical"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "latent": 32,
            "generator": (64, 128),
            "discriminator": (128, 64),
            "spectral": False,
            "learning_rate": 1e-3,
            "beta1": 0.5,
            "batch": 256,
            "epochs": 5,
            "patience": 3,
            "corrupted": True,
            "more_epochs": 30,
        },
        "paper": {
            "latent": 10,
            "generator": (128,),
            "discriminator": (128,),
            "spectral": False,
            "learning_rate": 1e-3,
            "beta1": 0.9,
            "batch": 32,
            "epochs": 100,
            "patience": 0,
            "corrupted": False,
            "more_epochs": 0,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        for name in ("generator", "discriminator"):
            setattr(self, name, wholes(name, getattr(self, name), least=1))
        for name in ("spectral", "corrupted"):
            one_of(name, getattr(self, name), [True, False])
        between("learning_rate", self.learning_rate, 0.0, 1.0)
        for name in ("beta1", "decay"):
            between(name, getattr(self, name), -1e-300, 0.99999)
        between("shuffled", self.shuffled, -1e-300, 1.0)
        between("made", self.made, -1e-300, 100.0)
        if self.more_epochs and not (self.corrupted or self.made):
            raise ParameterError(
                "made is 0, expected more where corrupted is False: nothing is left to be told"
            )
        between("cap", self.cap, 0.0, 1e12)
        for name, least in (("latent", 1), ("batch", 2), ("epochs", 1)):
            whole(name, getattr(self, name), least=least)
        for name in ("patience", "more_epochs", "more_patience"):
            whole(name, getattr(self, name), least=0)

    def learn(self, data: Training) -> SumOfParts:
        """Let the networks play on normal rows; scale the discriminator's answer by held-out ones."""
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, held_out = inputs.matrix(data.normal), inputs.matrix(data.held_out)
        doubt, report = self._played(normal, held_out, inputs, data)
        part = Confidence.of(doubt, typical(normal), held_out)
        return SumOfParts(inputs, [part], KIND, report)

    def _played(
        self, normal: Matrix, held_out: Matrix, inputs: Inputs, data: Training
    ) -> tuple[Doubt, dict[str, Any]]:
        from detectors.neural.build import arrays_of, tensor
        from detectors.neural.gan import train_gan
        from detectors.neural.negatives import Corruption
        from detectors.neural.training import repeatable

        with repeatable(data.rng) as generator:
            rows, probe = tensor(normal), tensor(held_out)
            low, high = tensor(inputs.low), tensor(inputs.high)
            negatives = (
                Corruption(rows, low, high, generator, shuffled=self.shuffled) if self.corrupted else None
            )
            gan = train_gan(rows, probe, self._plan(), generator, data.progress, negatives=negatives)
            report = {"game": gan.report}
            discriminator: torch.nn.Module = gan.discriminator
            if self.more_epochs:
                discriminator, report["alone"] = self._alone(gan, rows, probe, negatives, generator, data)
            return Doubt((arrays_of(discriminator),)), report

    def _plan(self) -> "GanPlan":
        from detectors.neural.gan import GanPlan
        from detectors.neural.training import Schedule

        return GanPlan(
            latent=self.latent,
            generator=self.generator,
            discriminator=self.discriminator,
            hidden="leaky_relu" if self.variant == "stable" else "relu",
            spectral=self.spectral,
            learning_rate=self.learning_rate,
            beta1=self.beta1,
            schedule=Schedule(epochs=self.epochs, patience=self.patience, batch=self.batch, least_steps=20),
        )

    def _alone(
        self,
        gan: "Gan",
        rows: "torch.Tensor",
        probe: "torch.Tensor",
        negatives: "Negatives | None",
        generator: "torch.Generator",
        data: Training,
    ) -> tuple["torch.nn.Module", dict[str, Any]]:
        """Let the discriminator learn on, the generator resting; return the average of its weights."""
        import torch

        from detectors.neural.gan import adversary, called_made, called_real, noise
        from detectors.neural.training import Average, Schedule, descend, train

        judge = gan.discriminator
        average = Average(judge, self.decay)
        optimiser = adversary(judge.parameters(), self.learning_rate, beta1=self.beta1)

        def others(batch: torch.Tensor) -> torch.Tensor:
            n = round(self.made * len(batch))
            with torch.no_grad():
                made = gan.generator(noise(n, self.latent, generator))
            return made if negatives is None else torch.cat([made, negatives(batch)])

        def step(batch: torch.Tensor) -> None:
            descend(optimiser, called_real(judge(batch)) + called_made(judge(others(batch))))
            average.update()

        fixed = others(probe)

        def objective() -> torch.Tensor:
            return called_real(average.network(probe)) + called_made(average.network(fixed))

        plan = Schedule(
            epochs=self.more_epochs, patience=self.more_patience, batch=self.batch, least_steps=20
        )
        report = train(rows, step, objective, [judge, average], plan, generator, data.progress)
        return average.network, report

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        doubt = Doubt.restored(state, inputs.n_columns, 1)
        part = Confidence.restored(state, doubt, inputs.n_columns)
        return SumOfParts(inputs, [part], KIND, state.parameters.get("report", {}))
