"""Recurrent networks in arrays compute what torch's LSTM does, and their gradients are right."""

import numpy as np
import pytest

from detectors.base import State
from detectors.errors import FitError, StateError
from detectors.networks import Layer, Network
from detectors.recurrent import Cell, Recurrent, Steps

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from detectors.neural.build import tensor  # noqa: E402 - torch may be missing
from detectors.neural.recurrent import LSTM  # noqa: E402

LENGTH, COLUMNS, HIDDEN, OUTPUTS = 6, 4, 5, 3


def network(depth: int = 2, last: str = "tanh", seed: int = 0) -> Recurrent:
    rng = np.random.default_rng(seed)
    widths = [COLUMNS, *(HIDDEN for _ in range(depth))]
    cells = tuple(
        Cell(
            rng.normal(size=(4 * HIDDEN, width)),
            rng.normal(size=(4 * HIDDEN, HIDDEN)),
            rng.normal(size=4 * HIDDEN),
        )
        for width in widths[:-1]
    )
    readout = Layer(rng.normal(size=(OUTPUTS, HIDDEN)), rng.normal(size=OUTPUTS), last)
    return Recurrent(cells, Network((readout,)))


def windows(m: int = 256, seed: int = 1) -> Steps:
    return np.random.default_rng(seed).normal(size=(LENGTH, COLUMNS, m))


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("last", ["linear", "tanh"])
def test_arrays_compute_what_torch_does(depth: int, last: str) -> None:
    """Values and gradients of a network that torch made, to float32's digits."""
    torch.manual_seed(depth)
    made = LSTM(COLUMNS, OUTPUTS, hidden=HIDDEN, depth=depth, last=last)
    steps = windows()
    rows = tensor(steps.transpose(2, 0, 1)).requires_grad_()
    weights = np.random.default_rng(2).normal(size=(LENGTH, OUTPUTS, 256))
    wanted = made(rows)
    (slope,) = torch.autograd.grad((wanted * tensor(weights.transpose(2, 0, 1))).sum(), rows)
    exported = made.arrays()
    found, back = exported.pullback(steps)

    np.testing.assert_allclose(found.transpose(2, 0, 1), wanted.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(back(weights).transpose(2, 0, 1), slope.numpy(), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(found, exported.on_steps(steps))


def test_gradients_are_those_of_small_steps() -> None:
    made, steps = network(), windows(8)
    weights = np.random.default_rng(2).normal(size=(LENGTH, OUTPUTS, 8))
    found = made.pullback(steps)[1](weights)

    for t, column in ((0, 0), (2, 3), (LENGTH - 1, 1)):
        step = np.zeros_like(steps)
        step[t, column] = 1e-6
        change = made.on_steps(steps + step) - made.on_steps(steps - step)
        np.testing.assert_allclose(
            found[t, column], (change * weights).sum(axis=(0, 1)) / 2e-6, rtol=1e-5, atol=1e-7
        )


def test_a_step_depends_on_those_before_it_alone() -> None:
    """What comes later changes nothing; what came first does."""
    made, steps = network(), windows()
    late, early = steps.copy(), steps.copy()
    late[-1] += 1.0
    early[0] += 1.0

    np.testing.assert_array_equal(made.on_steps(late)[:-1], made.on_steps(steps)[:-1])
    assert np.all(made.on_steps(early)[-1] != made.on_steps(steps)[-1])


def test_a_window_has_the_same_bits_in_every_place() -> None:
    made, steps = network(), windows()
    order = np.random.default_rng(3).permutation(256)

    np.testing.assert_array_equal(made.on_steps(steps)[..., order], made.on_steps(steps[..., order].copy()))


def test_no_value_overflows() -> None:
    outputs, back = network().pullback(np.full((LENGTH, COLUMNS, 4), 1e200))

    assert np.isfinite(outputs).all()
    assert np.isfinite(back(np.ones_like(outputs))).all()


def test_a_saved_network_is_the_same() -> None:
    made = network()
    state = State(parameters={"networks": {"a": made.activations}}, arrays=made.arrays("a"))
    again = Recurrent.restored(state, "a", n_inputs=COLUMNS, depth=2, n_outputs=OUTPUTS)

    np.testing.assert_array_equal(made.on_steps(windows()), again.on_steps(windows()))


@pytest.mark.parametrize(
    ("inputs", "depth", "message"), [(COLUMNS, 3, r"a\.cell2\.bias' is missing"), (9, 2, r"a\.cell0\.inputs")]
)
def test_a_state_that_is_no_such_network_is_refused(inputs: int, depth: int, message: str) -> None:
    made = network()
    state = State(parameters={"networks": {"a": made.activations}}, arrays=made.arrays("a"))

    with pytest.raises(StateError, match=message):
        Recurrent.restored(state, "a", n_inputs=inputs, depth=depth)


def test_a_network_that_diverged_is_refused() -> None:
    made = LSTM(2, 1, hidden=3)
    with torch.no_grad():
        made.cells.weight_hh_l0[0, 0] = float("nan")

    with pytest.raises(FitError, match="diverged"):
        made.arrays()
