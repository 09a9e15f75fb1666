"""PU-GAN: bagging finds the normal rows, windows end with their row, both ways back into the noise work."""

from typing import Any

import numpy as np
import pytest

from detectors.base import Matrix, Sources, no_progress
from detectors.errors import FitError, ParameterError, ShapeError
from detectors.histories import laid_out
from detectors.inputs import Inputs
from detectors.inversion import Descent
from detectors.model import Training
from detectors.pu_gan import PUGAN
from detectors.pu_gan.bagging import Bagged, Bags, bagged, kept, share_of_normal
from detectors.pu_gan.inversion import Amortised, Descended
from detectors.pu_gan.windows import Components, Sequences, by_windows, windows_of
from detectors.tiles import by_tiles

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from detectors.pu_gan.training import Game, Windows  # noqa: E402 - torch may be missing

RNG = np.random.default_rng
LENGTH = 5
SMALL: dict[str, Any] = {
    "length": LENGTH,
    "stride": 2,
    "components": 3,
    "latent": 2,
    "hidden": 8,
    "batch": 64,
    "epochs": 10,
    "steps": 30,
    "n_bags": 10,
}


def waves(n: int, seed: int = 0) -> Matrix:
    """Return a stream: two columns turn a circle, a third is noise; each row alone may be anywhere on it."""
    rng = RNG(seed)
    angle = rng.uniform(0, 6.28) + 0.5 * np.arange(n)
    circle = np.column_stack([np.sin(angle), np.cos(angle)]) + 0.05 * rng.normal(size=(n, 2))
    return np.column_stack([circle, rng.normal(size=n)])


def fitted(*, unlabelled: Matrix | None = None, **parameters: object) -> PUGAN:
    detector = PUGAN(**{**SMALL, **parameters})
    return detector.fit(waves(1500), held_out=waves(400, 1), unlabelled=unlabelled, rng=RNG(0))


@pytest.fixture(scope="module")
def detector() -> PUGAN:
    return fitted(epochs=25)


def mixed(n_normal: int, n_odd: int) -> tuple[Matrix, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Return unlabelled rows, and which of them are normal: odd ones lie five to the side."""
    rng = RNG(3)
    x = np.concatenate([rng.normal(size=(n_normal, 4)), rng.normal(size=(n_odd, 4)) + np.eye(4)[0] * 5.0])
    order = rng.permutation(len(x))
    return x[order], (np.arange(len(x)) < n_normal)[order]


@pytest.mark.parametrize(
    ("classifier", "n_bags", "share"), [("tree", 30, 0.5), ("tree", 30, 1.0), ("boosting", 6, 0.8)]
)
def test_bagging_tells_normal_rows_among_unlabelled_ones(classifier: str, n_bags: int, share: float) -> None:
    """The share of normal rows is estimated, and few odd rows are kept."""
    unlabelled, is_normal = mixed(round(600 * share), round(600 * (1 - share)))
    rng = RNG(0)
    bags = Bags(n_bags=n_bags, rows=None, classifier=classifier)
    normal, held_out = rng.normal(size=(600, 4)), rng.normal(size=(300, 4))
    found = bagged(normal, held_out, unlabelled, bags, rng, no_progress)
    chosen = kept(found, share_of_normal(found))

    assert share_of_normal(found) == pytest.approx(share, abs=0.05)
    assert is_normal[chosen].mean() > 0.94
    assert len(chosen) > 0.9 * is_normal.sum()


def test_the_score_of_a_row_is_the_mean_of_the_bags_it_was_not_in() -> None:
    """Drawn for every bag or never: neither leaves a hole."""
    normal, one = RNG(0).normal(size=(50, 2)), np.zeros((1, 2))
    found = bagged(normal, normal, one, Bags(n_bags=3, rows=None, classifier="tree"), RNG(0), no_progress)

    assert found.unlabelled.tolist() == [-1.0]  # the only row there is to draw
    assert kept(found, 1.0).size == 0


def test_the_share_is_that_of_the_mean_scores() -> None:
    """Held-out normal rows score 0.6; half of the unlabelled ones do, the others score nothing."""
    held_out = np.full(9, 0.6)

    assert share_of_normal(Bagged(np.array([0.6, 0.0, 0.6, 0.0, -1.0]), held_out)) == pytest.approx(0.5)
    assert share_of_normal(Bagged(np.array([0.7, 0.6]), held_out)) == 1.0
    assert share_of_normal(Bagged(np.array([-1.0]), held_out)) == 0.0
    assert share_of_normal(Bagged(np.array([0.5]), np.zeros(3))) == 0.0


def test_kept_rows_are_the_surest_in_their_order() -> None:
    found = Bagged(np.array([0.1, 0.9, 0.5, 0.9, 0.0]), np.ones(1))

    assert kept(found, 0.6).tolist() == [1, 2, 3]


def test_odd_unlabelled_rows_do_not_spoil_the_model() -> None:
    """Rows that are not normal are left out of training, and the report tells of it."""
    odd = waves(300, 5)
    odd[:, 2] += 8.0
    unlabelled = np.concatenate([waves(700, 4), odd])
    detector = fitted(unlabelled=unlabelled)
    told = detector.state().parameters["report"]["bagging"]

    assert told["unlabelled"] == 1000
    assert told["kept"] == pytest.approx(700, rel=0.15)
    assert np.median(detector.score(odd)) > np.quantile(detector.score(waves(400, 6)), 0.99)


def test_without_unlabelled_rows_the_first_stage_is_skipped(detector: PUGAN) -> None:
    """And so is it with none of them."""
    assert detector.state().parameters["report"]["bagging"] == "skipped: no unlabelled rows"
    assert fitted(unlabelled=waves(0), epochs=1).state().parameters["report"]["bagging"].startswith("skip")


def test_a_row_is_judged_by_its_window(detector: PUGAN) -> None:
    """A row that is fine by itself is odd where it stands: the circle jumps to its other side."""
    x = waves(3000, 7)
    jumped = x.copy()
    at = np.arange(20, 2900, 20)
    jumped[at, :2] *= -1.0  # still on the circle
    shuffled = RNG(0).permutation(x)
    plain, odd = detector.score(x), detector.score(jumped)

    assert np.mean(odd[at - LENGTH + 1][:, None] > plain) > 0.8
    assert np.mean(detector.score(shuffled)[:, None] > plain) > 0.6


def test_only_rows_of_the_window_count(detector: PUGAN) -> None:
    x = waves(60, 7)
    changed = x.copy()
    changed[30] += 3.0
    differs = np.flatnonzero(detector.score(x) != detector.score(changed)) + LENGTH - 1

    assert differs.tolist() == list(range(30, 30 + LENGTH))


def test_the_odd_row_itself_leads_not_those_after_it(detector: PUGAN) -> None:
    x = waves(60, 7)
    x[30, 2] += 10.0
    scores = detector.score(x)

    assert scores.argmax() + LENGTH - 1 == 30
    explanation = detector.explain(x[30 - LENGTH + 1 : 31])
    assert explanation.labels[int(explanation.terms[0, :-1].argmax())].id == "c2"


def test_training_brings_made_windows_nearer_to_real_ones(detector: PUGAN) -> None:
    report = detector.state().parameters["report"]

    assert report["gan"]["objective"] < 0.5 * report["gan"]["objectives"][0]
    assert report["encoder"]["objective"] < 0.5 * report["encoder"]["objectives"][0]


def test_the_report_has_the_errors_of_both_ways_back(detector: PUGAN) -> None:
    """Descent from the encoder's word never ends above it; what is told is per value of variance 1."""
    told = detector.state().parameters["report"]["inversion"]

    assert 0 < told["gradient from the encoder"] <= told["encoder"] < 1.0
    assert told["gradient from noise"] < 1.5


def test_both_ways_back_find_what_the_generator_made(detector: PUGAN) -> None:
    """A window out of known noise is rebuilt: by descent almost exactly, by the encoder roughly."""
    networks = detector._model.networks
    noise = 0.7 * RNG(0).normal(size=(LENGTH, 2, 256))
    made = networks.generator.on_steps(noise)
    by_encoder = Amortised(networks.encoder, networks.generator).rebuilt(made)
    descent = Descent(steps=300, rate=0.05)
    by_descent = Descended(networks.generator, descent, networks.encoder, networks.start).rebuilt(made)
    spread = made.var()

    assert np.mean((by_encoder - made) ** 2) < 0.5 * spread
    assert np.mean((by_descent - made) ** 2) < 0.05 * spread
    assert np.mean((by_descent - made) ** 2) < np.mean((by_encoder - made) ** 2)


def test_the_gradient_form_finds_anomalies_too() -> None:
    detector = fitted(inversion="gradient")
    odd = waves(300, 9)
    odd[:, 0] = 2.5

    assert np.median(detector.score(odd)) > np.quantile(detector.score(waves(300, 8)), 0.99)


def test_only_the_encoder_s_form_is_live() -> None:
    assert PUGAN.mode == PUGAN().mode == "live"
    assert PUGAN(inversion="gradient").mode == PUGAN(variant="paper").mode == "offline"
    assert PUGAN(variant="paper", inversion="encoder").mode == "live"


def test_history_is_known_before_training() -> None:
    assert PUGAN().history == PUGAN().length - 1
    assert PUGAN(variant="paper").history == 29


def test_the_paper_s_variant_is_the_paper_s() -> None:
    paper = PUGAN(variant="paper")
    game = Game(paper, 6, torch.Generator())

    assert (game.maker.cells.num_layers, game.maker.cells.hidden_size) == (3, 100)
    assert (game.judge.cells.num_layers, game.judge.cells.hidden_size) == (1, 100)
    assert paper.components == 6
    assert (paper.length, paper.stride, paper.latent, paper.batch, paper.epochs) == (30, 10, 15, 500, 100)
    assert (paper.generator_steps, paper.descent, paper.discriminator_rate) == (3, "sgd", 0.1)
    assert (paper.penalty, paper.smoothing, paper.average) == (0.0, 1.0, 0.0)


def test_the_paper_s_score_is_a_plain_mixture() -> None:
    """0.2 of the mean absolute residual of the components, 0.8 of the discriminator's loss."""
    detector = fitted(variant="paper", depth=1, descent="adam", discriminator_rate=1e-3, inversion="encoder")
    model, x = detector._model, waves(40, 8)
    points = model.points(x)
    steps = windows_of(points, LENGTH).T.reshape(LENGTH, 3, -1)
    away = np.abs(points[LENGTH - 1 :] - model.inversion.rebuilt(steps)[-1].T) * model.components.spread
    believed = 1.0 / (1.0 + np.exp(-model.networks.discriminator.on_steps(steps)[-1][0]))

    np.testing.assert_allclose(detector.score(x), 0.2 * away.mean(axis=1) - 0.8 * np.log(believed), rtol=1e-9)


def test_the_discriminator_s_loss_is_its_cross_entropy_and_the_penalty() -> None:
    """At logits of 0 it is 2 log 2; the penalty is half the squared slope, which here is the weight's."""

    class Line(torch.nn.Module):
        def forward(self, windows: torch.Tensor) -> torch.Tensor:
            return 3.0 * windows[:, :, :1]

    game = Game(PUGAN(**SMALL, penalty=2.0), 3, torch.Generator())
    game.judge = Line()
    loss = game.judged(torch.zeros(4, LENGTH, 3), torch.zeros(4, LENGTH, 3))

    assert loss.item() == pytest.approx(2 * np.log(2) + 9.0 * LENGTH, rel=1e-6)


def test_the_penalty_reaches_the_weights_of_the_lstm() -> None:
    """Its gradient is that of small steps: torch differentiates the recurrence twice."""
    game = Game(PUGAN(**SMALL, penalty=2.0), 3, torch.Generator())
    real, made = torch.randn(16, LENGTH, 3), torch.randn(16, LENGTH, 3)
    game.judge.double()
    weight = game.judge.cells.weight_hh_l0
    real, made = real.double(), made.double()
    (slope,) = torch.autograd.grad(game.judged(real.clone(), made), weight)
    found = []
    for step in (1e-5, -1e-5):
        with torch.no_grad():
            weight[0, 0] += step
        found.append(game.judged(real.clone(), made).item())
        with torch.no_grad():
            weight[0, 0] -= step

    assert slope[0, 0].item() == pytest.approx((found[0] - found[1]) / 2e-5, rel=1e-4)


def test_windows_of_several_stretches_reach_over_no_gap() -> None:
    stretches = [np.arange(7.0)[:, None], 100 + np.arange(5.0)[:, None]]
    one, other = (Sequences.of(rows, 4).every(2) for rows in stretches)
    found = Windows(one.beside(other))

    assert found.at(found.places)[:, :, 0].tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [100, 101, 102, 103]]


def test_windows_within_sources_hold_rows_of_one_source() -> None:
    """There is one behind each row; the first row of a source stands for those before it."""
    found = Windows(Sequences.of(np.array([[0.0], [10.0], [1.0], [2.0]]), 3, np.array([4, 6, 4, 4])))

    assert found.at(found.places)[:, :, 0].tolist() == [[0, 0, 0], [10, 10, 10], [0, 0, 1], [0, 1, 2]]


@pytest.mark.parametrize("n", [3, 4, 5, 255, 259, 260, 700])
def test_windows_in_tiles_are_the_windows(n: int) -> None:
    points = RNG(0).normal(size=(n, 2))
    found = by_windows(points, 4, lambda steps: steps.reshape(8, -1), 8)

    np.testing.assert_array_equal(found, windows_of(points, 4))
    assert len(found) == n - 3
    if n > 3:
        np.testing.assert_array_equal(found[-1], points[-4:].ravel())


def test_components_are_the_principal_ones() -> None:
    """Uncorrelated, of variance 1 or within [-1, 1], and all of them give the rows back."""
    x = RNG(0).normal(size=(500, 4)) @ RNG(1).normal(size=(4, 4)) + 3.0
    deviation, largest = (Components.of(x, 9, largest=flag) for flag in (False, True))
    points = deviation.on_tile(x.T)

    np.testing.assert_allclose(np.cov(points, ddof=0), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(deviation.back(points).T, x, atol=1e-9)
    assert np.abs(largest.on_tile(x.T)).max(axis=1) == pytest.approx(np.ones(4))
    assert Components.of(x, 2, largest=False).axes == pytest.approx(deviation.axes[:2])


def test_fewer_rows_than_a_window_are_refused() -> None:
    with pytest.raises(FitError, match="12 normal rows, expected at least 20"):
        PUGAN(length=20).fit(waves(12), held_out=waves(30), rng=RNG(0))
    with pytest.raises(FitError, match="12 held-out normal rows, expected at least 20"):
        PUGAN(length=20).fit(waves(30), held_out=waves(12), rng=RNG(0))


@pytest.mark.parametrize(
    "parameters",
    [
        {"length": 0},
        {"inversion": "guess"},
        {"history_of": "address"},
        {"output": "relu"},
        {"discriminator_share": 1.5},
        {"classifier": "svm"},
        {"penalty": -1.0},
        {"average": 1.0},
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        PUGAN(**parameters)


def in_turn(n: int, seed: int) -> tuple[Matrix, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return flows of forty sources in turn, by chance: each alone turns the circle of `waves`."""
    rng = RNG(seed)
    sources = rng.integers(0, 40, n)
    rows = np.empty((n, 3))
    for source in range(40):
        rows[sources == source] = waves(int(np.sum(sources == source)), 1000 * seed + source)
    return rows, sources


def test_windows_of_a_source_tell_what_those_of_the_lane_hide() -> None:
    """A jump to the other side of the circle is odd for its source alone; in the lane all flows jump."""
    (normal, of_normal), (held_out, of_held_out) = in_turn(2000, 1), in_turn(500, 2)
    later = waves(600, 7)
    jumped = later.copy()
    at = np.arange(20, 580, 20)
    jumped[at, :2] *= -1.0

    def found(history_of: str) -> float:
        detector = PUGAN(**SMALL, history_of=history_of)
        detector.fit(normal, held_out=held_out, sources=Sources(of_normal, of_held_out), rng=RNG(0))
        plain, odd = detector.score(later), detector.score(jumped)
        return float(np.mean(odd[at - LENGTH + 1][:, None] > plain))

    by_source = found("source")
    assert by_source > 0.8
    assert by_source > found("lane") + 0.2


def test_without_sources_all_rows_are_of_one() -> None:
    rows, held_out = waves(300), waves(100, 1)
    one = Sources(np.full(300, 3), np.full(100, 9))
    told, silent = (
        PUGAN(**{**SMALL, "epochs": 1}, history_of="source").fit(
            rows, held_out=held_out, sources=sources, rng=RNG(0)
        )
        for sources in (one, None)
    )

    np.testing.assert_array_equal(told.score(rows), silent.score(rows))


def test_halves_are_weighed_by_held_out_rows_behind_their_source() -> None:
    """The mean loss is that of each held-out row alone behind its own history."""
    held_out, sources = in_turn(300, 2)
    detector = PUGAN(**{**SMALL, "epochs": 1}, history_of="source").fit(
        held_out, held_out=held_out, sources=Sources(sources, sources), rng=RNG(0)
    )
    windows = laid_out(sources, LENGTH - 1).windows(LENGTH - 1)
    model = detector._model
    losses = [by_tiles(model.read(held_out[window]), model.loss, 1)[0, 0] for window in windows]

    assert model.mixture.loss_mean == pytest.approx(np.mean(losses), rel=1e-12)


def test_unlabelled_rows_are_learned_within_their_sources() -> None:
    """What looks normal of them joins the windows, source by source."""
    (normal, of_normal), (unlabelled, of_unlabelled) = in_turn(600, 1), in_turn(400, 3)
    detector = PUGAN(**{**SMALL, "stride": 1, "epochs": 1}, history_of="source")
    inputs = Inputs.of(normal, cap=10.0)
    data = Training(
        normal=normal,
        held_out=normal,
        rng=RNG(0),
        unlabelled=unlabelled,
        sources=Sources(of_normal, of_normal, of_unlabelled),
    )
    found, told = detector._reliable(inputs, data)
    bags = Bags(n_bags=10, rows=10_000, classifier="tree")
    given = (inputs.matrix(normal), inputs.matrix(normal), inputs.matrix(unlabelled))
    said = bagged(*given, bags, RNG(0), no_progress)
    sources = np.concatenate([of_normal, 100 + of_unlabelled[kept(said, share_of_normal(said))]])

    assert len(found.windows) == len(found.rows) == 600 + told["bagging"]["kept"]
    assert (sources[found.windows] == sources[found.windows[:, -1:]]).all()


def test_sources_that_are_not_one_a_row_are_refused() -> None:
    sources = Sources(np.zeros(300, np.int64), np.zeros(99, np.int64))
    with pytest.raises(ShapeError, match=r"sources of held_out have shape \(99,\), expected \(100,\)"):
        PUGAN(**SMALL).fit(waves(300), held_out=waves(100), sources=sources, rng=RNG(0))
