"""Stage 2: a recurrent generator against a recurrent discriminator; then the encoder of its noise."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss, softplus

from detectors.base import Matrix, Progress
from detectors.inputs import Inputs
from detectors.neural.build import array_of, tensor
from detectors.neural.distances import mmd
from detectors.neural.negatives import Corruption
from detectors.neural.recurrent import LSTM
from detectors.neural.training import Average, Schedule, descend, train
from detectors.pu_gan.inversion import Networks
from detectors.pu_gan.windows import Components, Sequences

if TYPE_CHECKING:
    from detectors.pu_gan.detector import PUGAN

PROBES = 500
"""Held-out windows that the objectives are measured on."""

STRANGE = 20_000
"""Rows that are not normal, made for the discriminator."""

SHUFFLED = 0.5
"""Share of them that break dependencies alone."""


class Windows:
    """Windows of rows that follow one another."""

    def __init__(self, sequences: Sequences) -> None:
        self.places = torch.from_numpy(sequences.windows)
        self._points = tensor(sequences.rows)

    def at(self, places: torch.Tensor) -> torch.Tensor:
        """Return the windows of these rows, (n, L, p)."""
        return self._points[places]

    def some(self, most: int) -> torch.Tensor:
        """Return at most so many windows, evenly spaced."""
        return self.at(self.places[:: -(-len(self.places) // most)])


class Game:
    """Generator and discriminator, with a step of each."""

    def __init__(
        self,
        settings: "PUGAN",
        n_points: int,
        generator: torch.Generator,
        strange: torch.Tensor | None = None,
    ) -> None:
        hidden, rate = settings.hidden, settings.learning_rate
        self.maker = LSTM(
            settings.latent, n_points, hidden=hidden, depth=settings.depth, last=settings.output
        )
        self.judge = LSTM(n_points, 1, hidden=hidden)
        self.average = Average(self.maker, settings.average)
        self._making = torch.optim.Adam(self.maker.parameters(), lr=rate, betas=(settings.beta, 0.999))
        judged = self.judge.parameters()
        self._judging: torch.optim.Optimizer = (
            torch.optim.SGD(judged, lr=settings.discriminator_rate)
            if settings.descent == "sgd"
            else torch.optim.Adam(judged, lr=settings.discriminator_rate, betas=(settings.beta, 0.999))
        )
        self._settings, self._generator, self._strange = settings, generator, strange

    @property
    def modules(self) -> list[nn.Module]:
        """All that is trained."""
        return [self.maker, self.judge, self.average]

    @property
    def trained(self) -> LSTM:
        """The generator that is used: the average."""
        network = self.average.network
        assert isinstance(network, LSTM)
        return network

    def distance(self, probe: torch.Tensor) -> Callable[[], torch.Tensor]:
        """Return how to measure the discrepancy between made windows and some held-out ones."""
        noise = self.noise(len(probe))
        return lambda: mmd(self.trained(noise).flatten(1), probe.flatten(1))

    def noise(self, n: int) -> torch.Tensor:
        """Return noise for n windows, (n, L, q)."""
        return torch.randn(n, self._settings.length, self._settings.latent, generator=self._generator)

    def step(self, real: torch.Tensor) -> None:
        """Change both networks by a minibatch of real windows."""
        with torch.no_grad():
            made = self.maker(self.noise(len(real)))
        descend(self._judging, self.judged(real, made))
        for _ in range(self._settings.generator_steps):
            descend(self._making, softplus(-self.judge(self.maker(self.noise(len(real))))).mean())
        self.average.update()

    def judged(self, real: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        """Return the discriminator's loss, averaged over steps: cross-entropy, and what the remedies add."""
        penalty, smoothing = self._settings.penalty, self._settings.smoothing
        real = real.clone().requires_grad_()
        logits = self.judge(real)
        loss = smoothing * softplus(-logits).mean() + (1.0 - smoothing) * softplus(logits).mean()
        loss = loss + softplus(self.judge(made)).mean()
        if self._strange is not None:
            loss = loss + self._settings.negatives * self._mistaken(real.detach(), self._strange)
        if penalty:
            (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
            loss = loss + 0.5 * penalty * slope.square().sum(dim=(1, 2)).mean()
        return loss

    def _mistaken(self, real: torch.Tensor, strange: torch.Tensor) -> torch.Tensor:
        """Return the loss on windows in which some rows are strange: on each for what it is itself.

        So a row is not suspected because one before it was odd.
        """
        n, length, _ = real.shape
        odd = torch.rand(n, length, generator=self._generator) < torch.rand(n, 1, generator=self._generator)
        rows = strange[torch.randint(len(strange), (n, length), generator=self._generator)]
        logits = self.judge(torch.where(odd[:, :, None], rows, real))[:, :, 0]
        return softplus(torch.where(odd, logits, -logits)).mean()


def train_networks(
    settings: "PUGAN",
    normal: Sequences,
    held_out: Sequences,
    strange: torch.Tensor | None,
    generator: torch.Generator,
    progress: Progress,
) -> tuple[Networks, dict[str, Any]]:
    """Return the trained networks and how training went.

    Parameters
    ----------
    settings : PUGAN
    normal, held_out : Sequences
        Components of rows.
    strange : Tensor of shape (n, p) or None
        Components of rows that are not normal.
    generator : torch.Generator
    progress : Progress
    """
    windows, probe = Windows(normal), Windows(held_out).some(PROBES)
    course = Course(settings, windows, generator, progress)
    game = Game(settings, probe.shape[2], generator, strange)
    report = {"gan": course.run(game.step, game.distance(probe), game.modules)}
    maker = game.trained
    encoder = LSTM(probe.shape[2], settings.latent, hidden=settings.hidden)
    coding = Coding(settings, maker, encoder, game.noise)
    report["encoder"] = course.run(coding.step, lambda: coding.error(probe), [encoder])
    networks = Networks(
        generator=maker.arrays(),
        discriminator=game.judge.arrays(),
        encoder=encoder.arrays(),
        start=array_of(game.noise(1)[0]),
    )
    return networks, report


def strange_rows(
    inputs: Inputs, components: Components, rows: Matrix, generator: torch.Generator
) -> torch.Tensor:
    """Return the components of rows that are made from normal ones and are not normal, (n, p)."""
    normal, low, high = tensor(rows), tensor(inputs.low), tensor(inputs.high)
    corrupt = Corruption(normal, low, high, generator, shuffled=SHUFFLED)
    drawn = torch.randint(len(normal), (STRANGE,), generator=generator)
    made = corrupt(normal[drawn]).numpy().astype(np.float64)
    return tensor(components.on_tile(made.T).T)


class Coding:
    """The encoder that says from which noise the generator would make a window.

    It learns from pairs of noise and what is made of it, and, weighted, from how well real windows are
    rebuilt from what it says: they may lie where the generator seldom goes.
    """

    def __init__(
        self, settings: "PUGAN", maker: LSTM, encoder: LSTM, noise: Callable[[int], torch.Tensor]
    ) -> None:
        self._maker, self._encoder, self._noise = maker, encoder, noise
        self._weight = settings.real_weight
        self._optimiser = torch.optim.Adam(encoder.parameters(), lr=settings.encoder_rate)

    def step(self, real: torch.Tensor) -> None:
        """Change the encoder by a minibatch of real windows and as many made ones."""
        noise = self._noise(len(real))
        loss = mse_loss(self._encoder(self._maker(noise)), noise)
        if self._weight:
            loss = loss + self._weight * self.error(real)
        descend(self._optimiser, loss)

    def error(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of windows that are rebuilt."""
        return mse_loss(self._maker(self._encoder(windows)), windows)


class Course:
    """Training on all windows, several times."""

    def __init__(
        self, settings: "PUGAN", windows: Windows, generator: torch.Generator, progress: Progress
    ) -> None:
        self._schedule = Schedule(
            epochs=settings.epochs, patience=settings.patience, batch=settings.batch, least_steps=20
        )
        self._windows, self._generator, self._progress = windows, generator, progress

    def run(
        self,
        step: Callable[[torch.Tensor], None],
        objective: Callable[[], torch.Tensor],
        modules: Sequence[nn.Module],
    ) -> dict[str, Any]:
        """Train until the held-out objective stops falling; see `train`."""
        return train(
            self._windows.places,
            lambda places: step(self._windows.at(places)),
            objective,
            modules,
            self._schedule,
            self._generator,
            self._progress,
        )
