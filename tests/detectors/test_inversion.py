"""The noise behind a row is found, and what is told about it is right."""

import numpy as np
import pytest

from detectors.base import Matrix
from detectors.inversion import Descent, Guessed, Inverted, Squares, descend, projections
from detectors.networks import Layer, Network
from detectors.tiles import ROWS

PLAIN = Descent(steps=400, rate=0.1)


def linear(d: int = 5, k: int = 2) -> Network:
    """Return a generator that makes rows of a plane."""
    rng = np.random.default_rng(0)
    return Network((Layer(rng.normal(size=(d, k)), rng.normal(size=d), "linear"),))


def bent(d: int = 5, k: int = 2) -> Network:
    rng = np.random.default_rng(1)
    inner = Layer(rng.normal(size=(8, k)), rng.normal(size=8), "tanh")
    return Network((inner, Layer(rng.normal(size=(d, 8)), rng.normal(size=d), "linear")))


def rows(d: int = 5) -> Matrix:
    return np.random.default_rng(2).normal(size=(d, ROWS))


def gaps(inverted: Inverted, tile: Matrix) -> Matrix:
    return np.square(inverted.on_tile(tile) - tile).sum(axis=0)


def test_the_noise_found_makes_the_nearest_row() -> None:
    """For a generator of a plane that is the orthogonal projection, which is known."""
    generator, tile = linear(), rows()
    B, b = generator.layers[0].weights, generator.layers[0].bias[:, None]
    nearest = b + B @ np.linalg.lstsq(B, tile - b, rcond=None)[0]

    found = Inverted(generator, np.zeros((1, 2)), Squares(), PLAIN).on_tile(tile)

    np.testing.assert_allclose(found, nearest, atol=2e-3)


def test_more_steps_and_more_starts_never_leave_a_row_further_away() -> None:
    generator, tile = bent(), rows()
    starts = np.random.default_rng(3).normal(size=(4, 2))
    few, more = (
        gaps(Inverted(generator, starts[:1], Squares(), Descent(steps=n, rate=0.1)), tile) for n in (5, 40)
    )
    many = gaps(Inverted(generator, starts, Squares(), Descent(steps=40, rate=0.1)), tile)

    assert np.all(more <= few)
    assert np.any(more < few)
    assert np.all(many <= more)
    assert np.mean(many < more - 1e-3) > 0.05  # restarts are worth something: some descents end in a dale


def test_an_encoder_s_guess_is_a_start_too() -> None:
    generator, tile = linear(), rows()
    B, b = generator.layers[0].weights, generator.layers[0].bias
    inverse = np.linalg.pinv(B)
    exact = Network((Layer(inverse, -inverse @ b, "linear"),))
    far, one = np.full((1, 2), 50.0), Descent(steps=1, rate=1e-3)

    guessed = gaps(Inverted(generator, far, Squares(), one, exact), tile)
    alone = gaps(Inverted(generator, far, Squares(), one), tile)

    np.testing.assert_allclose(
        guessed, gaps(Inverted(generator, far, Squares(), PLAIN, exact), tile), rtol=1e-3
    )
    assert np.all(guessed < alone)


def test_noise_stays_within_its_bound() -> None:
    """Without one, a row far away is met by noise that the generator never saw in training."""
    generator, tile = linear(), 30.0 * rows()
    start = np.zeros((2, ROWS))
    free, _ = descend(generator, Squares().towards(tile), start, PLAIN)
    held, _ = descend(generator, Squares().towards(tile), start, Descent(steps=400, rate=0.1, bound=3.0))

    assert np.abs(free).max() > 5.0
    assert np.abs(held).max() == 3.0


def test_the_rate_falls_as_in_the_public_code() -> None:
    descent = Descent(steps=500, rate=0.01)

    assert [descent.rate_at(step) for step in (0, 299, 300, 399, 400, 499)] == pytest.approx(
        [0.01, 0.01, 0.001, 0.001, 0.0005, 0.0005]
    )


def test_contributions_are_those_of_the_nearest_row() -> None:
    """A column adds to a rebuilt value what the projection onto the generator's plane carries over."""
    generator, x = linear(), rows().T[:7]
    baseline = np.ones(5)
    B = generator.layers[0].weights
    wanted = (B @ np.linalg.pinv(B)) * (x - baseline)[:, None, :]

    found = Inverted(generator, np.zeros((1, 2)), Squares(), PLAIN).contributions(x, baseline)

    np.testing.assert_allclose(found, wanted, atol=1e-2)


@pytest.mark.parametrize("generator", [linear(), bent()])
def test_contributions_sum_to_what_a_rebuilt_value_gained(generator: Network) -> None:
    inverted = Inverted(generator, np.zeros((1, 2)), Squares(), Descent(steps=20, rate=0.1))
    tile = rows()
    rebuilt = inverted.on_tile(tile)

    found = inverted.contributions(tile.T, tile[:, 0])

    np.testing.assert_allclose(found.sum(axis=2), (rebuilt - rebuilt[:, :1]).T, atol=1e-9)


def test_a_generator_that_stands_still_projects_onto_nothing() -> None:
    still = Network((Layer(np.zeros((3, 2)), np.ones(3), "linear"),))

    np.testing.assert_array_equal(projections(still, np.zeros((2, ROWS))), 0.0)


def test_a_row_s_noise_has_the_same_bits_beside_other_rows() -> None:
    inverted = Inverted(bent(), np.zeros((1, 2)), Squares(), Descent(steps=30, rate=0.1))
    tile = rows()
    other = np.zeros_like(tile)
    other[:, 7] = tile[:, 3]

    np.testing.assert_array_equal(inverted.on_tile(tile)[:, 3], inverted.on_tile(other)[:, 7])


def test_guessed_rows_are_those_of_both_networks() -> None:
    encoder, generator = Network((Layer(np.ones((2, 5)), np.zeros(2), "tanh"),)), bent()
    guessed, tile = Guessed(encoder, generator), rows()
    found = guessed.on_tile(tile)

    np.testing.assert_array_equal(found, generator.on_tile(encoder.on_tile(tile)))
    np.testing.assert_allclose(
        guessed.contributions(tile.T[:9], tile[:, 0]).sum(axis=2), (found[:, :9] - found[:, :1]).T, atol=1e-9
    )
