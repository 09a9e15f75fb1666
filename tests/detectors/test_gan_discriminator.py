"""What is particular to a GAN's discriminator as a detector: when it knows anomalies, when it does not."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detectors.base import Matrix, State
from detectors.errors import ParameterError, StateError
from detectors.gan_discriminator import GanDiscriminator
from detectors.networks import Layer, Network
from detectors.parts.confidence import Confidence, Doubt

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")


def ring(n: int, rng: np.random.Generator) -> Matrix:
    """Return rows on a circle of radius 1.4: each column of variance 1, nothing in the middle."""
    angle = rng.uniform(0.0, 2.0 * np.pi, n)
    return np.sqrt(2.0) * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.1 * rng.normal(size=(n, 2))


def trained(**parameters: object) -> GanDiscriminator:
    rng = np.random.default_rng(0)
    detector = GanDiscriminator(**parameters)
    return detector.fit(ring(1500, rng), held_out=ring(500, rng), rng=np.random.default_rng(1))


@pytest.fixture(scope="module")
def stable() -> GanDiscriminator:
    return trained(discriminator=(64, 32), spectral=False, epochs=5, more_epochs=15)


@pytest.fixture(scope="module")
def paper() -> GanDiscriminator:
    return trained(variant="paper", epochs=30)


def around(distance: float, n: int = 400) -> Matrix:
    """Return rows so far from the middle, in all directions."""
    angle = np.linspace(0.0, 2.0 * np.pi, n, endpoint=False)
    return distance * np.column_stack([np.cos(angle), np.sin(angle)])


def separation(detector: GanDiscriminator, odd: Matrix) -> float:
    normal = ring(400, np.random.default_rng(3))
    labels = np.repeat([0, 1], [len(normal), len(odd)])
    return float(roc_auc_score(labels, detector.score(np.vstack([normal, odd]))))


def test_what_the_generator_never_made_may_pass_for_real(paper: GanDiscriminator) -> None:
    """Twice as far out as any normal row, some directions are more real than most normal rows."""
    normal = paper.score(ring(400, np.random.default_rng(3)))

    assert np.mean(paper.score(around(3.5)) < np.median(normal)) > 0.05


@pytest.mark.parametrize("distance", [0.2, 2.5, 3.5])
def test_replaced_columns_close_the_borders(
    stable: GanDiscriminator, paper: GanDiscriminator, distance: float
) -> None:
    odd = around(distance)

    assert separation(stable, odd) > 0.95
    assert separation(stable, odd) > separation(paper, odd)


def test_the_discriminator_learns_on_until_held_out_rows_are_told_best(stable: GanDiscriminator) -> None:
    """Told at random, held-out rows and others cost twice log 2 together."""
    report = stable.state().parameters["report"]

    assert report["alone"]["objective"] == min(report["alone"]["objectives"])
    assert report["alone"]["objective"] < 0.9 * 2.0 * np.log(2.0)


def test_layers_are_held_at_a_largest_singular_value_of_one() -> None:
    """To within what its estimate has converged to in so few steps."""
    arrays = trained(discriminator=(16, 8), spectral=True, epochs=1, more_epochs=3).state().arrays
    sizes = [np.linalg.norm(arrays[f"discriminator0.{i}.weights"], 2) for i in range(3)]

    assert max(sizes) < 1.3


def test_the_paper_s_setting_is_the_article_s_network(paper: GanDiscriminator) -> None:
    arrays = paper.state().arrays

    assert arrays["discriminator0.0.weights"].shape == (128, 2)
    assert arrays["discriminator0.1.weights"].shape == (1, 128)
    assert paper.state().parameters["networks"] == {"discriminator0": ["relu", "linear"]}
    assert "alone" not in paper.state().parameters["report"]
    assert (paper.latent, paper.generator, paper.batch, paper.learning_rate) == (10, (128,), 32, 1e-3)


def test_the_score_ranks_rows_as_one_minus_the_probability_does(paper: GanDiscriminator) -> None:
    rows = ring(100, np.random.default_rng(4))
    model = paper._model
    doubt = model.parts[0].function.on_tile(model.inputs.matrix(rows).T)[0]
    probability = 1.0 / (1.0 + np.exp(doubt))

    np.testing.assert_array_equal(np.argsort(1.0 - probability), np.argsort(paper.score(rows)))


def answering(weight: float) -> Network:
    return Network((Layer(np.array([[weight, 0.0]]), np.zeros(1), "linear"),))


def test_doubt_is_minus_the_mean_logit() -> None:
    tile = np.array([[1.0, -2.0], [5.0, 5.0]])
    value, back = Doubt((answering(1.0), answering(3.0))).pullback(tile)

    np.testing.assert_array_equal(value, [[-2.0, 4.0]])
    np.testing.assert_array_equal(back(np.ones((1, 2))), [[-2.0, -2.0], [0.0, 0.0]])


def test_confidence_is_counted_from_the_baseline_in_deviations_of_held_out_rows() -> None:
    held_out = np.array([[-1.0, 0.0], [1.0, 0.0]])
    part = Confidence.of(Doubt((answering(2.0),)), np.array([0.5, 0.0]), held_out)

    assert (part.at_baseline, part.spread) == (-1.0, 2.0)


def test_a_function_without_spread_does_not_divide_by_zero() -> None:
    part = Confidence.of(Doubt((answering(0.0),)), np.zeros(2), np.zeros((5, 2)))

    assert part.spread == 1e-3


def test_a_saved_spread_must_be_positive() -> None:
    state = State(arrays={"scale": np.array([0.0, 0.0]), "baseline": np.zeros(2)})

    with pytest.raises(StateError, match="spread of 0"):
        Confidence.restored(state, Doubt((answering(1.0),)), 2)


@pytest.mark.parametrize(
    "parameters", [{"latent": 0}, {"decay": 1.0}, {"spectral": 2}, {"generator": [0]}, {"corrupted": False}]
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        GanDiscriminator(**parameters)
