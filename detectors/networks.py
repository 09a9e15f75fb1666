"""Feed-forward networks as arrays: values and gradients, in fixed tiles, without any library for networks.

A network maps a tile (see `detectors.tiles`), columns first, to another: (d, 256) -> (k, 256). Everything
is float64, so the bits of a row's result do not depend on its neighbours.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Scores, State
from detectors.errors import StateError
from detectors.state import array

Pullback = Callable[[Matrix], Matrix]
"""From the gradient of something by the outputs, (k, 256), to that by the inputs, (d, 256)."""


class Differentiable(Protocol):
    """What gradients can be taken of, tile by tile."""

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the outputs of a tile, and what turns gradients by them into gradients by the inputs."""


class Activation(NamedTuple):
    """A function of one number, and its derivative from argument and value."""

    value: Callable[[Matrix], Matrix]
    slope: Callable[[Matrix, Matrix], Matrix]


def _sigmoid(x: Matrix) -> Matrix:
    # Below -700 exp would overflow, and the result is as good as 0.
    result: Matrix = 1.0 / (1.0 + np.exp(-np.maximum(x, -700.0)))
    return result


def softplus(x: Matrix) -> Matrix:
    """Return log(1 + exp(x)), exact for any x."""
    result: Matrix = np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x)))
    return result


def _leaky(slope: float) -> Activation:
    # max, not where: these functions take as long as the products of narrow networks.
    return Activation(
        (lambda x: np.maximum(x, slope * x)) if slope else (lambda x: np.maximum(x, 0.0)),
        lambda x, _y: np.where(x > 0, 1.0, slope).astype(np.float64),
    )


ACTIVATIONS: Mapping[str, Activation] = {
    "linear": Activation(lambda x: x, lambda x, _y: np.ones_like(x)),
    "relu": _leaky(0.0),
    "leaky_relu": _leaky(0.2),
    "leaky_relu_0.1": _leaky(0.1),
    "tanh": Activation(np.tanh, lambda _x, y: 1.0 - y * y),
    "sigmoid": Activation(_sigmoid, lambda _x, y: y * (1.0 - y)),
    "softplus": Activation(softplus, lambda x, _y: _sigmoid(x)),
}
"""Name -> function. The slope of leaky_relu is 0.2 unless its name says another."""


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """y = activation(W x + b).

    Parameters
    ----------
    weights : ndarray of shape (k, d)
    bias : ndarray of shape (k,)
    activation : str
        One of `ACTIVATIONS`.
    """

    weights: Matrix
    bias: Scores
    activation: str

    def before(self, tile: Matrix) -> Matrix:
        """Return W x + b."""
        result: Matrix = np.matmul(self.weights, tile)
        result += self.bias[:, None]
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Layers, one behind the other.

    Examples
    --------
    >>> double = Network((Layer(np.array([[2.0]]), np.array([1.0]), "relu"),))
    >>> y, back = double.pullback(np.array([[3.0, -3.0]]))
    >>> y, back(np.ones_like(y))
    (array([[7., 0.]]), array([[2., 0.]]))
    """

    layers: tuple[Layer, ...]

    @property
    def n_inputs(self) -> int:
        """Columns it takes."""
        n_inputs: int = self.layers[0].weights.shape[1]
        return n_inputs

    @property
    def n_outputs(self) -> int:
        """Values it gives."""
        return self.layers[-1].bias.size

    def on_tile(self, tile: Matrix) -> Matrix:
        """Return the outputs of a tile: (d, 256) -> (k, 256)."""
        for layer in self.layers:
            tile = ACTIVATIONS[layer.activation].value(layer.before(tile))
        return tile

    def pullback(self, tile: Matrix) -> tuple[Matrix, Pullback]:
        """Return the outputs of a tile, and what turns gradients by them into gradients by the inputs."""
        slopes: list[Matrix] = []
        for layer in self.layers:
            before = layer.before(tile)
            activation = ACTIVATIONS[layer.activation]
            tile = activation.value(before)
            slopes.append(activation.slope(before, tile))

        def back(gradient: Matrix) -> Matrix:
            for layer, slope in zip(reversed(self.layers), reversed(slopes), strict=True):
                gradient = np.matmul(layer.weights.T, gradient * slope)
            return gradient

        return tile, back

    def head(self, n_layers: int) -> "Network":
        """Return the first layers alone: the features that the others judge by."""
        return Network(self.layers[:n_layers])

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return its numbers for a `State`."""
        found: dict[str, npt.NDArray[Any]] = {}
        for number, layer in enumerate(self.layers):
            found[f"{name}.{number}.weights"] = layer.weights
            found[f"{name}.{number}.bias"] = layer.bias
        return found

    @property
    def activations(self) -> list[str]:
        """Names of the activations, for the JSON part of a `State`."""
        return [layer.activation for layer in self.layers]

    def networks(self, name: str) -> dict[str, list[str]]:
        """Return its activations under a name, as parts list those of their networks."""
        return {name: self.activations}

    @classmethod
    def restored(cls, state: State, name: str, *, n_inputs: int, n_outputs: int | None = None) -> Self:
        """Return the network that a state holds under a name.

        Parameters
        ----------
        state : State
            Its `parameters["networks"][name]` lists the activations.
        name : str
            As given to `arrays`.
        n_inputs, n_outputs : int
            What the network must take and give; any number of outputs where left out.

        Raises
        ------
        StateError
            If an array is missing or of another shape, or an activation is unknown.
        """
        activations = _activations(state, name)
        layers: list[Layer] = []
        width = n_inputs
        for number, activation in enumerate(activations):
            last = n_outputs if number == len(activations) - 1 else None
            weights = array(state, f"{name}.{number}.weights", last, width)
            bias = array(state, f"{name}.{number}.bias", len(weights))
            # Products of transposed arrays take other kernels: other bits than before saving.
            layers.append(Layer(np.ascontiguousarray(weights), bias, activation))
            width = len(weights)
        return cls(tuple(layers))


def _activations(state: State, name: str) -> Sequence[str]:
    networks = state.parameters.get("networks")
    found = networks.get(name) if isinstance(networks, Mapping) else None
    if not isinstance(found, list) or not found or not set(found) <= set(ACTIVATIONS):
        raise StateError(
            f"the saved state lists {found!r} as layers of {name}, expected names among "
            f"{', '.join(ACTIVATIONS)}; train the model again"
        )
    return found
