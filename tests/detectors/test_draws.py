"""Reconstructions are means over fixed draws, and their gradients are right."""

from itertools import pairwise

import numpy as np
import pytest

from detectors.attribution import completeness
from detectors.base import Matrix, State
from detectors.errors import StateError
from detectors.networks import Layer, Network
from detectors.parts.draws import SLOPES, MeanOfDraws, fixed_noise

D, K = 5, 2


def network(*widths: int, last: str = "linear", seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    made = [
        Layer(0.5 * rng.normal(size=(wide, narrow)), 0.2 * rng.normal(size=wide), "tanh")
        for narrow, wide in pairwise(widths)
    ]
    return Network((*made[:-1], Layer(made[-1].weights, made[-1].bias, last)))


def rebuild(n_draws: int, *, last: str = "sigmoid", in_pairs: bool = True) -> MeanOfDraws:
    noise = fixed_noise(K, n_draws, np.random.default_rng(3), in_pairs=in_pairs)
    return MeanOfDraws(network(D, 6, 2 * K), network(K, 6, D, last=last, seed=1), noise)


def rows(n: int = 256) -> Matrix:
    return np.random.default_rng(5).normal(size=(n, D))


@pytest.mark.parametrize("n_draws", [1, 7, 100])
def test_a_row_is_rebuilt_as_the_mean_of_its_decoded_draws(n_draws: int) -> None:
    """One draw after the other gives what the tiles give."""
    made = rebuild(n_draws)
    outputs = made.encoder.on_tile(rows().T)
    draws = [outputs[:K] + np.exp(0.5 * outputs[K:]) * noise[:, None] for noise in made.noise.T]
    wanted = np.mean([made.decoder.on_tile(z) for z in draws], axis=0)

    np.testing.assert_allclose(made.on_tile(rows().T), wanted, rtol=1e-12)


def test_log_variances_are_cut() -> None:
    """An encoder that goes astray does not make numbers that are not finite."""
    made = rebuild(4)
    wild = MeanOfDraws(
        Network((Layer(1e6 * np.ones((2 * K, D)), np.zeros(2 * K), "linear"),)), made.decoder, made.noise
    )
    y, back = wild.pullback(rows().T)

    assert np.isfinite(y).all()
    assert np.isfinite(back(np.ones_like(y))).all()


def test_gradients_are_those_of_small_steps() -> None:
    """With no more draws than gradients are taken at, they are exact."""
    made, tile = rebuild(SLOPES), rows().T
    weights = np.random.default_rng(2).normal(size=tile.shape)
    _, back = made.pullback(tile)
    found = back(weights)

    for column in range(D):
        step = np.zeros_like(tile)
        step[column] = 1e-6
        measured = ((made.on_tile(tile + step) - made.on_tile(tile - step)) * weights).sum(axis=0) / 2e-6
        np.testing.assert_allclose(found[column], measured, rtol=1e-4, atol=1e-6)


def test_the_gradients_of_a_few_draws_speak_for_many() -> None:
    """What the gradients leave open of the change of a reconstruction is little."""
    assert np.median(completeness(rebuild(64), rows(40), np.zeros(D))) < 0.1


def test_contributions_sum_to_what_the_reconstruction_gained() -> None:
    made, some = rebuild(64), rows(7)
    gained = made.on_tile(some.T).T - made.on_tile(np.zeros((D, 1))).T

    np.testing.assert_allclose(
        made.contributions(some, np.zeros(D)).sum(axis=2), gained, rtol=1e-9, atol=1e-12
    )


def test_opposite_draws_leave_nothing_of_what_is_linear() -> None:
    """The mean over pairs of a linear decoder is exact, that over other draws is not."""
    tile = rows().T

    def gap(*, in_pairs: bool) -> float:
        made = rebuild(8, in_pairs=in_pairs)
        linear = MeanOfDraws(made.encoder, network(K, D), made.noise)
        exact = linear.decoder.on_tile(made.encoder.on_tile(tile)[:K])
        return float(np.abs(linear.on_tile(tile) - exact).max())

    assert gap(in_pairs=True) < 1e-12
    assert gap(in_pairs=False) > 1e-3


def test_odd_numbers_of_paired_draws_are_kept() -> None:
    assert fixed_noise(3, 5, np.random.default_rng(0), in_pairs=True).shape == (3, 5)


def test_saved_draws_rebuild_the_same_bits() -> None:
    made = rebuild(9)
    again = MeanOfDraws.restored(State(parameters={"networks": made.networks()}, arrays=made.arrays()), D)

    np.testing.assert_array_equal(made.on_tile(rows().T), again.on_tile(rows().T))


def test_a_state_without_draws_or_with_half_a_code_is_refused() -> None:
    made = rebuild(4)
    odd = MeanOfDraws(network(D, 6, 2 * K + 1), made.decoder, made.noise)
    empty = MeanOfDraws(made.encoder, made.decoder, made.noise[:, :0])

    for broken in (odd, empty):
        state = State(parameters={"networks": broken.networks()}, arrays=broken.arrays())
        with pytest.raises(StateError, match="expected half as many rows, and draws"):
            MeanOfDraws.restored(state, D)
