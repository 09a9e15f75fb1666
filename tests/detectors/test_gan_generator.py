"""What is particular to the distance to what a generator can make."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detectors.base import Matrix
from detectors.errors import ParameterError
from detectors.gan_generator import GanGenerator, Nearest
from detectors.inversion import Descent, Squares
from detectors.networks import Layer, Network

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")


FIXED = np.random.default_rng(7).normal(size=(12, 3))


def draw(rng: np.random.Generator, n: int) -> Matrix:
    """Return rows whose columns hang together by three hidden causes."""
    return rng.normal(size=(n, 3)) @ FIXED.T + 0.3 * rng.normal(size=(n, 12))


def trained(**parameters: object) -> GanGenerator:
    rng = np.random.default_rng(0)
    detector = GanGenerator(**parameters)
    return detector.fit(draw(rng, 1500), held_out=draw(rng, 500), rng=np.random.default_rng(1))


@pytest.fixture(scope="module")
def stable() -> GanGenerator:
    return trained(latent=3, epochs=15, cached=2000, steps=20)


def separation(detector: GanGenerator) -> float:
    """Return how well rows are told whose columns do not hang together any more."""
    rng = np.random.default_rng(3)
    normal = draw(rng, 300)
    broken = np.column_stack([rng.permutation(column) for column in normal.T])
    return float(roc_auc_score(np.repeat([0, 1], 300), detector.score(np.vstack([normal, broken]))))


def line(steps: int = 0) -> Nearest:
    """Return rows rebuilt on the line x = y, three of which are made beforehand."""
    maker = Network((Layer(np.array([[1.0], [1.0]]), np.zeros(2), "linear"),))
    return Nearest(maker, np.array([[-1.0], [0.0], [1.0]]), Squares(), Descent(steps=steps, rate=0.05))


def test_the_nearest_of_the_rows_made_beforehand_is_taken() -> None:
    tile = np.zeros((2, 256))
    tile[:, :3] = np.array([[0.9, 0.4], [-0.1, 0.2], [-9.0, 1.0]]).T

    np.testing.assert_array_equal(line().on_tile(tile)[:, :3].T, [[1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]])


def test_a_descent_goes_on_from_there() -> None:
    tile = np.full((2, 256), 0.3)

    np.testing.assert_allclose(line(steps=200).on_tile(tile), tile, atol=0.02)


def test_a_descent_never_leaves_a_row_further_away() -> None:
    tile = np.random.default_rng(0).normal(size=(2, 256))
    gaps = [((line(steps).on_tile(tile) - tile) ** 2).sum(axis=0) for steps in (0, 1, 5, 20)]

    assert all((after <= gaps[0]).all() for after in gaps[1:])
    assert gaps[3].mean() < gaps[0].mean()


def test_noise_must_be_sought(stable: GanGenerator) -> None:
    """The article's random made row has nothing to do with the row that it is compared with."""
    assert separation(stable) > 0.85
    assert abs(separation(trained(variant="paper", epochs=5)) - 0.5) < 0.15


def test_training_stops_where_made_rows_are_nearest_to_held_out_ones(stable: GanGenerator) -> None:
    report = stable.state().parameters["report"]

    assert report["objective"] == min(report["objectives"])
    assert report["objective"] < 0.5 * report["objectives"][0]


def test_noise_is_sought_where_it_was_in_training(stable: GanGenerator) -> None:
    tile = 10.0 * np.random.default_rng(0).normal(size=(12, 256))
    noise = stable._model.parts[0].rebuild.noise(tile)

    assert np.abs(noise).max() <= 3.0


def test_the_paper_s_setting_is_the_article_s_network() -> None:
    paper = trained(variant="paper", epochs=1)
    arrays = paper.state().arrays

    assert arrays["generator.0.weights"].shape == (128, 10)
    assert arrays["generator.1.weights"].shape == (12, 128)
    assert arrays["starts"].shape == (1, 10)
    assert (paper.steps, paper.scaled, paper.batch, paper.epochs) == (0, False, 32, 1)
    np.testing.assert_array_equal(arrays["residual_spread"], 1.0)


def test_it_is_for_evaluation_only() -> None:
    assert GanGenerator.mode == "offline"


@pytest.mark.parametrize("parameters", [{"latent": 0}, {"cached": 0}, {"rate": 0.0}, {"discriminator": [0]}])
def test_parameters_out_of_range_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        GanGenerator(**parameters)
