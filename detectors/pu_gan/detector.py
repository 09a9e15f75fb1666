"""PU-GAN: pseudo-normal rows by bagging, a recurrent GAN over windows, a mixed score."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from detectors.base import Matrix, Scores, State
from detectors.errors import FitError
from detectors.histories import Places, laid_out
from detectors.inputs import Inputs, typical
from detectors.inversion import Descent
from detectors.model import BY_VARIANT, ModelDetector, Training
from detectors.parameters import between, one_of, whole
from detectors.parts.residuals import Scaled
from detectors.pu_gan.bagging import Bags, bagged, kept, share_of_normal
from detectors.pu_gan.inversion import Amortised, Descended, Inversion, Networks, errors
from detectors.pu_gan.model import Mixture, SequenceModel, whitening
from detectors.pu_gan.settings import CHOICES, LEAST, RANGES, VARIANTS
from detectors.pu_gan.windows import Components, Sequences
from detectors.state import array
from detectors.tiles import by_tiles

LEAST_SPREAD = 1e-3
"""Least spread of either half of the score on held-out rows: below it lies rounding."""


def usual_spread(values: Scores) -> float:
    """Return the spread of the middle half of values; it is their standard deviation if they are Gaussian.

    A few odd rows among the held-out ones make the standard deviation of sums of squares a thousand
    times what it is otherwise, and one half of a score would not count any more.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return max(LEAST_SPREAD, float(high - low) / 1.349)


@dataclass(kw_only=True, eq=False)
class PUGAN(ModelDetector):
    """Score a flow, with the flows before it, by what a recurrent GAN can neither make nor believe.

    Three stages [1]_. First, unlabelled rows are told apart by classifiers that learn normal rows
    against bags of them; those that look normal to classifiers which have not seen them join the normal
    rows. Without unlabelled rows this stage is skipped, and the report says so. Second, an LSTM
    generator learns to make windows of rows (their principal components) out of noise, against an LSTM
    discriminator. Third, a window is mapped back into the noise; the score of the row at its end mixes
    what the generator does not rebuild of it with the discriminator's loss, -log D.

    The way back into the noise is an encoder's word (`inversion="encoder"`, live), trained on noise and
    what the generator makes of it and on real windows; or gradient descent for every window
    (`inversion="gradient"`, offline). The report has the errors of both on held-out windows.

    `variant="stable"` differs from the paper where its lineage is known to be unstable [2]_: both
    networks learn by Adam at small rates; the discriminator's slope at real windows is penalised, its
    labels are smoothed, and it also sees windows with odd rows in them (one that knows nothing but made
    windows may take attacks for the most real of all); the generator is a moving average; training stops
    by the discrepancy between made and held-out windows; the two halves of the score are measured by
    how far apart the middle half of held-out rows has them; and residuals are read in the columns,
    because an anomaly across the few components is otherwise not seen at all.

    `variant="paper"` has the paper's three layers of 100 in the generator, one in the discriminator, six
    components. What it leaves open is as in the code that it follows [2]_: windows of 30 rows with a
    stride of 10, 15 noise values a row, batches of 500, 100 epochs, three steps of the generator for each
    of the discriminator, which learns by plain gradient descent at 0.1, residuals by their absolute
    values, 0.8 of the score the discriminator's. In that code the discriminator's half is 1 - D, which
    saturates; the paper says "loss". Descent in the noise is Adam's on the squared error, where that code
    has RMSProp on a kernel of it, whose gradient vanishes far away. At the paper's widths 1,000 rows take
    seconds in either form.

    Known weakness: a row that follows an anomaly within the window is judged by what the networks
    remember of it, and rows whose order means nothing give windows that mean nothing more than rows.

    Parameters
    ----------
    variant : {"stable", "paper"}
        What the parameters below are where they are not given.
    inversion : {"encoder", "gradient"}
        The way back into the noise.
    length : int
        Rows of a window; a row's score depends on `length - 1` rows before it.
    history_of : {"lane", "source"}
        Whose rows a window holds: those of the lane, or only those of the flow's source (its address, at
        its sensor; flows without addresses are all of one source of their sensor), as far as they are
        among the 100,000 rows of the lane before the flow. Where there are fewer, the first of them stands
        for what was before. Scoring flows of many sources takes up to `length` times as long.
    stride : int
        Rows from the start of one training window to that of the next.
    components : int
        Principal components of the columns, at most one a column.
    latent : int
        Noise values a row.
    hidden, depth : int
        Width of the LSTM layers, and how many the generator has.
    output : {"linear", "tanh"}
        What the generator's outputs pass; with "tanh" components are scaled into [-1, 1].
    residuals : {"whitened", "columns", "components"}
        Along what residuals are read. "whitened": the columns, without the correlations that residuals
        of held-out rows have; so the networks' own errors hide little.
    scaled : bool
        Whether residuals and both halves of the score are scaled by held-out rows, residuals entering by
        their squares; otherwise they enter by the mean of their absolute values.
    discriminator_share : float
        Of the discriminator's loss in the score; the rest is the residuals'. Stable: a tenth, for of rows
        unlike all that it has been shown a discriminator says anything.
    start : {"encoder", "random"}
        Where the gradient form starts: at the encoder's word, or at one noise drawn in training.
    steps, step_size : int, float
        Of the gradient form's descent.
    generator_steps : int
        For each step of the discriminator.
    learning_rate, discriminator_rate, encoder_rate, beta : float
        Of Adam; beta is its first one in the GAN.
    descent : {"adam", "sgd"}
        How the discriminator learns.
    smoothing : float
        What real windows are labelled with for the discriminator.
    penalty : float
        Weight of the squared gradient of the discriminator at real windows; 0 for none.
    negatives : float
        Weight, in the discriminator's loss, of windows in which some rows are made to be odd (columns
        from other rows, rare values, values far outside); 0 for none.
    average : float
        Decay of the generator's moving average; 0 for the generator as it is.
    real_weight : float
        Weight of real windows' squared error in the encoder's loss; with 0 it learns from made ones alone.
    batch, epochs, patience : int
        Windows of a minibatch; most epochs; epochs without a better held-out objective before
        training stops (0: never).
    n_bags : int
        Classifiers of the first stage; the paper does not say how many.
    bag_rows : int
        Most rows of either kind in a bag; 0: all normal ones, as the paper, which costs time.
    classifier : {"tree", "boosting"}
        Of the first stage; the paper leaves it open.
    residual_floor : float
        Least spread of residuals in any direction, in units of the columns.
    cap : float
        How far beyond the range of the training rows the networks are asked, in units of the column.

    References
    ----------
    .. [1] PU-GAN: positive and unlabelled learning with generative adversarial networks for anomaly
       detection, sections 3.2 to 3.4 and 4.1.
    .. [2] Li et al. (2019), MAD-GAN: multivariate anomaly detection for time series data with generative
       adversarial networks, ICANN; its public code for KDD Cup 1999.
    """

    variant: str = "stable"
    inversion: str = BY_VARIANT
    length: int = BY_VARIANT
    history_of: Literal["lane", "source"] = "lane"
    stride: int = BY_VARIANT
    components: int = BY_VARIANT
    latent: int = BY_VARIANT
    hidden: int = BY_VARIANT
    depth: int = BY_VARIANT
    output: str = BY_VARIANT
    residuals: str = BY_VARIANT
    scaled: bool = BY_VARIANT
    discriminator_share: float = BY_VARIANT
    start: str = BY_VARIANT
    steps: int = BY_VARIANT
    step_size: float = BY_VARIANT
    generator_steps: int = BY_VARIANT
    learning_rate: float = BY_VARIANT
    discriminator_rate: float = BY_VARIANT
    encoder_rate: float = 1e-3
    beta: float = BY_VARIANT
    descent: str = BY_VARIANT
    smoothing: float = BY_VARIANT
    penalty: float = BY_VARIANT
    negatives: float = BY_VARIANT
    average: float = BY_VARIANT
    real_weight: float = 1.0
    batch: int = BY_VARIANT
    epochs: int = BY_VARIANT
    patience: int = BY_VARIANT
    n_bags: int = BY_VARIANT
    bag_rows: int = BY_VARIANT
    classifier: str = "tree"
    residual_floor: float = 0.05
    cap: float = 10.0

    name = "pu_gan"
    columns = frozenset({"numeric", "binary", "categorical"})
    uses = frozenset({"unlabelled"})
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = VARIANTS

    def check(self) -> None:
        """Refuse parameters out of their range; only the encoder's form is live."""
        for name, choices in CHOICES.items():
            one_of(name, getattr(self, name), choices)
        for name, least in LEAST.items():
            whole(name, getattr(self, name), least=least)
        for name, low, high in RANGES:
            between(name, getattr(self, name), low, high)
        self.mode = "live" if self.inversion == "encoder" else "offline"

    @property
    def history(self) -> int:
        """Rows before a row in its window."""
        return self.length - 1

    def learn(self, data: Training) -> SequenceModel:
        """Go through the three stages; weigh the halves of the score by held-out rows."""
        self._check_lengths(data)
        inputs = Inputs.of(data.normal, cap=self.cap)
        normal, report = self._reliable(inputs, data)
        components = Components.of(normal.rows, self.components, largest=self.output == "tanh")
        held_out = self._sequences(inputs.matrix(data.held_out), data.sources and data.sources.held_out)
        held_out = held_out.made(components.on_tile(held_out.rows.T).T)
        networks, told = self._trained(inputs, components, normal, held_out, data)
        report |= told | {"inversion": errors(networks, held_out, self._descent)}
        model = self._assembled(inputs, components, networks, typical(inputs.matrix(data.normal)), report)
        return replace(model, mixture=self._weighed(model, self._read(model, data)))

    def _sequences(self, rows: Matrix, sources: Places | None) -> Sequences:
        """Return rows with their windows: of them all, or within each source."""
        return Sequences.of(rows, self.length, self._numbers(len(rows), sources))

    def _numbers(self, n_rows: int, sources: Places | None) -> Places | None:
        """Return the sources of rows; None where windows do not heed them."""
        if self.history_of == "source" and sources is None:
            return np.zeros(n_rows, dtype=np.int64)
        return sources if self.history_of == "source" else None

    def _read(self, model: SequenceModel, data: Training) -> Matrix:
        """Return what `model.read` says of held-out rows behind their history."""
        sources = self._numbers(len(data.held_out), data.sources and data.sources.held_out)
        if sources is None:
            return model.read(data.held_out)
        laid = laid_out(sources, self.history)
        return model.read(data.held_out[laid.steps])[laid.ends - self.history]

    def _check_lengths(self, data: Training) -> None:
        for what, rows in (("normal", data.normal), ("held-out normal", data.held_out)):
            if len(rows) < self.length:
                raise FitError(
                    f"{self.name}.fit: {len(rows)} {what} rows, expected at least {self.length}, the length "
                    "of a window; give it more traffic or a smaller length"
                )

    def _reliable(self, inputs: Inputs, data: Training) -> tuple[Sequences, dict[str, Any]]:
        """Return the rows that count as normal, with the windows to learn from: stage 1."""
        normal = inputs.matrix(data.normal)
        sequences = self._sequences(normal, data.sources and data.sources.normal).every(self.stride)
        if data.unlabelled is None or not len(data.unlabelled):
            return sequences, {"bagging": "skipped: no unlabelled rows"}
        unlabelled = inputs.matrix(data.unlabelled)
        bags = Bags(n_bags=self.n_bags, rows=self.bag_rows or None, classifier=self.classifier)
        held_out = inputs.matrix(data.held_out)
        found = bagged(normal, held_out, unlabelled, bags, data.rng, data.progress)
        share = share_of_normal(found)
        chosen = kept(found, share)
        told = {"unlabelled": len(unlabelled), "normal_share": share, "kept": len(chosen)}
        if len(chosen) >= self.length:
            sources = data.sources and data.sources.unlabelled
            reliable = self._sequences(unlabelled[chosen], None if sources is None else sources[chosen])
            sequences = sequences.beside(reliable.every(self.stride))
        return sequences, {"bagging": told}

    def _trained(
        self,
        inputs: Inputs,
        components: Components,
        normal: Sequences,
        held_out: Sequences,
        data: Training,
    ) -> tuple[Networks, dict[str, Any]]:
        """Return the networks: stage 2, and the encoder."""
        from detectors.neural.training import repeatable
        from detectors.pu_gan.training import strange_rows, train_networks

        with repeatable(data.rng) as generator:
            strange = strange_rows(inputs, components, normal.rows, generator) if self.negatives else None
            points = normal.made(components.on_tile(normal.rows.T).T)
            return train_networks(self, points, held_out, strange, generator, data.progress)

    def _assembled(
        self,
        inputs: Inputs,
        components: Components,
        networks: Networks,
        baseline: Matrix,
        report: Mapping[str, Any],
        mixture: Mixture | None = None,
    ) -> SequenceModel:
        return SequenceModel(
            length=self.length,
            inputs=inputs,
            components=components,
            networks=networks,
            inversion=self._inversion(networks),
            mixture=mixture or Mixture.plain(inputs.n_columns),
            baseline=baseline,
            report=report,
        )

    def _inversion(self, networks: Networks) -> Inversion:
        if self.inversion == "encoder":
            return Amortised(networks.encoder, networks.generator)
        encoder = networks.encoder if self.start == "encoder" else None
        return Descended(networks.generator, self._descent, encoder, networks.start)

    @property
    def _descent(self) -> Descent:
        return Descent(steps=self.steps, rate=self.step_size)

    def _weighed(self, model: SequenceModel, read: Matrix) -> Mixture:
        """Return how the halves of the score are measured and weighted, by held-out rows as read."""
        residuals = by_tiles(read, model.residuals, model.n_columns)
        loss = by_tiles(read, model.loss, 1)[:, 0]
        axes = self._axes(model.components, residuals)
        along, share = residuals @ axes.T, self.discriminator_share
        told = {"loss_mean": float(loss.mean()), "loss_spread": max(LEAST_SPREAD, float(loss.std()))}
        if not self.scaled:
            scale, weights = Scaled.none(len(axes)), ((1.0 - share) / len(axes), share)
        else:
            scale = Scaled.of(along, floor=self.residual_floor)
            sizes = np.sum(((along - scale.mean) / scale.spread) ** 2, axis=1)
            weights = (1.0 - share) / usual_spread(sizes), share / usual_spread(loss)
        return Mixture(axes, self._by_column, scale, self.scaled, *weights, **told)

    @property
    def _by_column(self) -> bool:
        return self.residuals != "components"

    def _axes(self, components: Components, residuals: Matrix) -> Matrix:
        """Return along what residuals are read, (k, d)."""
        if self.residuals == "components":
            return components.axes
        if self.residuals == "columns":
            return np.eye(residuals.shape[1])
        return whitening(residuals, floor=self.residual_floor)

    def revive(self, state: State) -> SequenceModel:
        """Return the model that a state holds."""
        inputs = Inputs.restored(state)
        components = Components.restored(state, inputs.n_columns)
        networks = Networks.restored(
            state,
            length=self.length,
            n_points=components.n_points,
            latent=self.latent,
            depth=self.depth,
        )
        mixture = Mixture.restored(state, inputs.n_columns, by_column=self._by_column, squared=self.scaled)
        baseline = array(state, "baseline", inputs.n_columns)
        report = state.parameters.get("report", {})
        return self._assembled(inputs, components, networks, baseline, report, mixture)
