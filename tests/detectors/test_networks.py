"""Networks in arrays compute what the trained networks do, and their gradients are right."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.attribution import completeness, integrated_gradients, values_at
from detectors.base import State
from detectors.errors import StateError
from detectors.networks import ACTIVATIONS, Layer, Network, softplus

ROWS = 256


def network(*activations: str, seed: int = 0, d: int = 4) -> Network:
    """Return a random network, six wide."""
    rng = np.random.default_rng(seed)
    widths = [d, *(6 for _ in activations)]
    return Network(
        tuple(
            Layer(rng.normal(size=(wide, narrow)) / np.sqrt(narrow), rng.normal(size=wide), name)
            for narrow, wide, name in zip(widths, widths[1:], activations, strict=False)
        )
    )


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gradients_are_those_of_small_steps(name: str) -> None:
    made = network(name, "tanh", name)
    tile = np.random.default_rng(1).normal(size=(4, ROWS))
    weights = np.random.default_rng(2).normal(size=(6, ROWS))
    _, back = made.pullback(tile)
    found = back(weights)

    for column in range(4):
        step = np.zeros_like(tile)
        step[column] = 1e-6
        measured = ((made.on_tile(tile + step) - made.on_tile(tile - step)) * weights).sum(axis=0) / 2e-6
        np.testing.assert_allclose(found[column], measured, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_no_activation_overflows(name: str) -> None:
    y, back = network(name).pullback(np.array([[1e6, -1e6]] * 4))

    assert np.isfinite(y).all()
    assert np.isfinite(back(np.ones_like(y))).all()


def test_softplus_is_exact_where_it_is_small_and_large() -> None:
    np.testing.assert_allclose(softplus(np.array([-50.0, 0.0, 800.0])), [np.exp(-50), np.log(2), 800.0])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_contributions_sum_to_what_a_value_gained(seed: int) -> None:
    rng = np.random.default_rng(seed)
    made = network("tanh", "softplus", seed=seed)
    rows, baseline = rng.normal(size=(3, 4)), rng.normal(size=4)
    values, parts = integrated_gradients(made, rows, baseline)

    np.testing.assert_allclose(
        parts.sum(axis=2), values - values_at(made, baseline[None]), rtol=1e-10, atol=1e-12
    )
    assert completeness(made, rows, baseline).max() < 0.01


def test_a_column_that_a_function_ignores_contributes_nothing() -> None:
    made = Network((Layer(np.array([[1.0, 0.0, -2.0]]), np.zeros(1), "tanh"),))
    _, parts = integrated_gradients(made, np.array([[1.0, 5.0, 0.3]]), np.zeros(3))

    assert parts[0, 0, 1] == 0.0
    assert parts[0, 0, 0] > 0 > parts[0, 0, 2]


def test_contributions_have_the_same_bits_among_other_rows() -> None:
    made = network("leaky_relu", "linear")
    rows = np.random.default_rng(0).normal(size=(40, 4))
    _, together = integrated_gradients(made, rows, np.zeros(4))

    for i in range(0, 40, 7):
        np.testing.assert_array_equal(
            together[i], integrated_gradients(made, rows[i : i + 1], np.zeros(4))[1][0]
        )


def test_a_saved_network_is_the_same() -> None:
    made = network("relu", "linear")
    state = State(parameters={"networks": {"a": made.activations}}, arrays=made.arrays("a"))
    again = Network.restored(state, "a", n_inputs=4, n_outputs=6)
    tile = np.random.default_rng(1).normal(size=(4, ROWS))

    np.testing.assert_array_equal(made.on_tile(tile), again.on_tile(tile))


@pytest.mark.parametrize(
    ("parameters", "inputs", "message"),
    [
        ({}, 4, "lists None as layers of a"),
        ({"networks": {"a": ["relu", "wavelet"]}}, 4, "expected names among"),
        ({"networks": {"a": ["relu", "relu", "relu"]}}, 4, r"a\.2\.weights' is missing"),
        ({"networks": {"a": ["relu", "relu"]}}, 5, r"a\.0\.weights"),
    ],
)
def test_a_state_that_is_no_network_is_refused(
    parameters: dict[str, object], inputs: int, message: str
) -> None:
    state = State(parameters=parameters, arrays=network("relu", "relu").arrays("a"))

    with pytest.raises(StateError, match=message):
        Network.restored(state, "a", n_inputs=inputs)
