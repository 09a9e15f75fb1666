"""AnoEAN: an encoder that puts normal flows where noise is, and odd ones elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from detectors.attribution import values_at
from detectors.base import State
from detectors.errors import FitError
from detectors.inputs import Inputs, typical
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.networks import Network
from detectors.parameters import between, one_of, whole, wholes
from detectors.parts.confidence import Outside
from detectors.parts.directions import Directions, Whitening
from detectors.parts.sum import SumOfParts


@dataclass(kw_only=True, eq=False)
class AnoEAN(ModelDetector):
    """Score a flow by how far an adversarial encoder puts it from where it puts normal flows.

    The encoder learns against a discriminator of latent values: codes of normal flows shall pass for
    Gaussian noise, codes of known anomalies shall not [1]_. The score is the squared Mahalanobis
    distance of a code from those of held-out normal flows (the paper's is its root, which ranks alike;
    squares add up by direction), with the covariance shrunk by Ledoit and Wolf, plus the squares of how
    far a flow lies outside all that the encoder was asked in training.

    Known weakness: the encoder repels what it has seen. Anomalies unlike the known ones may be put among
    normal flows, and without any anomaly every encoder will do whose codes look Gaussian. So in
    `variant="stable"` it is also exposed to odd rows made from normal ones (columns permuted among rows,
    rare values, values uniform in a box, mixtures with known anomalies), and it needs no known anomaly;
    a light head has to rebuild rows from codes, so that codes tell rows apart; labels of noise are
    smoothed and the discriminator's layers are spectrally normalised, so that it cannot become sure of
    itself; odd rows are pushed no further than a margin, so that codes do not drift away.

    `variant="paper"` is the paper's training, and needs known anomalies. What the paper leaves open are
    the parameters `latent` (it tries several), `discriminator_steps`, the activations (here: leaky ReLU)
    and how a minibatch is divided; its text gives Adam the rate 1e-3, its algorithm 2e-4, which is
    taken. It stops training, and selects all else, by anomalies in a validation set; here held-out
    normal rows decide: how far their codes are from noise, or in the stable variant how many odd rows
    made from them look more normal than they do.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    latent : int
        Width of the code.
    hidden, discriminator : sequence of int
        Widths of the hidden layers of the encoder and of the discriminator.
    known_share : float
        Share of a minibatch that is drawn from the known anomalies, if there are any; the paper has a
        tenth of anomalies in training.
    made_share : float
        Share of a minibatch that are odd rows made from normal ones; 0 for none.
    smoothing : float
        What noise is labelled with for the discriminator; 1 is no smoothing.
    spectral : bool
        Whether the largest singular value of each layer of the discriminator is held at 1.
    margin : float
        Odd rows are pushed until their logit of being noise is below minus this; 0 pushes for ever.
    reconstruction : float
        Weight of the head's mean squared error in the encoder's loss.
    discriminator_steps : int
        Steps of the discriminator for each of the encoder.
    learning_rate, beta : float
        Of Adam; beta is its first one.
    batch : int
        Rows of a minibatch, odd ones included.
    epochs, patience : int
        Most epochs; epochs without a better held-out objective before training stops (0: never).
    cap : float
        How far beyond the range of the training rows the encoder is asked, in units of the column.

    References
    ----------
    .. [1] Gherbi, Hanczar, Janodet & Klaudel (2019), An encoding adversarial network for anomaly
       detection, ACML; equations 1 to 3, algorithm 1, section 4.1.
    """

    variant: str = "stable"
    latent: int = 8
    hidden: tuple[int, ...] = (128, 64, 32)
    discriminator: tuple[int, ...] = (32, 16)
    known_share: float = 0.1
    made_share: float = BY_VARIANT
    smoothing: float = BY_VARIANT
    spectral: bool = BY_VARIANT
    margin: float = BY_VARIANT
    reconstruction: float = BY_VARIANT
    discriminator_steps: int = 1
    learning_rate: float = BY_VARIANT
    beta: float = 0.5
    batch: int = 200
    epochs: int = 60
    patience: int = 8
    cap: float = 10.0

    name = "anoean"
    columns = frozenset({"numeric", "binary", "categorical"})
    uses = frozenset({"anomalies"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "stable": {
            "made_share": 0.4,
            "smoothing": 0.9,
            "spectral": True,
            "margin": 3.0,
            "reconstruction": 1.0,
            "learning_rate": 1e-3,
        },
        "paper": {
            "made_share": 0.0,
            "smoothing": 1.0,
            "spectral": False,
            "margin": 0.0,
            "reconstruction": 0.0,
            "learning_rate": 2e-4,
        },
    }

    def check(self) -> None:
        """Refuse parameters out of their range."""
        for name in ("hidden", "discriminator"):
            setattr(self, name, wholes(name, getattr(self, name), least=1))
        one_of("spectral", self.spectral, [True, False])
        for name, least in (("latent", 1), ("discriminator_steps", 1), ("batch", 10)):
            whole(name, getattr(self, name), least=least)
        whole("epochs", self.epochs, least=1)
        whole("patience", self.patience, least=0)
        for name, low, high in RANGES:
            between(name, getattr(self, name), low, high)
        between("known_share + made_share", self.known_share + self.made_share, 0.0, 0.9)

    def learn(self, data: Training) -> SumOfParts:
        """Train the encoder on normal and odd rows; learn by held-out ones where their codes lie."""
        if not self.made_share and (data.anomalies is None or not len(data.anomalies)):
            raise FitError(
                f"{self.name}.fit: no known anomalies, expected at least 1; give some, or let odd rows be "
                'made from normal ones: variant="stable" or made_share=0.4'
            )
        inputs = Inputs.of(data.normal, cap=self.cap)
        encoder, report = self._trained(inputs, data)
        whitening = Whitening.of(values_at(encoder, inputs.matrix(data.held_out)))
        directions = Directions(encoder, whitening, typical(inputs.matrix(data.normal)))
        return SumOfParts(inputs, [directions, Outside()], KIND, report)

    def _trained(self, inputs: Inputs, data: Training) -> tuple[Network, dict[str, Any]]:
        from detectors.neural.build import arrays_of
        from detectors.neural.encoding import train_encoder
        from detectors.neural.training import repeatable

        with repeatable(data.rng) as generator:
            encoder, report = train_encoder(self, inputs, data, generator)
            n_known = 0 if data.anomalies is None else len(data.anomalies)
            return arrays_of(encoder), {**report, "known_anomalies": n_known}

    def revive(self, state: State) -> SumOfParts:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        directions = Directions.restored(state, inputs.n_columns)
        return SumOfParts(inputs, [directions, Outside()], KIND, state.parameters.get("report", {}))


KIND = "squared_deviations"

RANGES = (
    ("known_share", 0.0, 0.9),
    ("made_share", -1e-300, 0.9),
    ("smoothing", 0.5, 1.0),
    ("margin", -1e-300, 1e3),
    ("reconstruction", -1e-300, 1e6),
    ("learning_rate", 0.0, 1.0),
    ("beta", -1e-300, 0.999),
    ("cap", 0.0, 1e12),
)
"""Parameter, and the ends of its range; the first does not belong to it."""
