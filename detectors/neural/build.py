"""Feed-forward networks for training, and their way into arrays."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from detectors.base import Matrix, Scores
from detectors.errors import FitError
from detectors.networks import Layer, Network


def activation(name: str) -> nn.Module:
    """Return an activation by its name in `detectors.networks.ACTIVATIONS`; always another module."""
    made: nn.Module = ACTIVATIONS[name]()
    return made


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(0.2),
    "leaky_relu_0.1": lambda: nn.LeakyReLU(0.1),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "softplus": nn.Softplus,
}


def mlp(
    widths: Sequence[int],
    *,
    hidden: str = "relu",
    last: str = "linear",
    spectral: bool = False,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Return a network with layers of these widths, the inputs first.

    Parameters
    ----------
    widths : sequence of int
        At least two.
    hidden, last : str
        Activations behind the layers.
    spectral : bool
        Whether every layer's largest singular value is held at 1.
    batch_norm : bool
        Whether hidden layers are normalised by batch before their activation.
    dropout : float
        Share of hidden values dropped in training.
    """
    modules: list[nn.Module] = []
    for number, (fan_in, fan_out) in enumerate(pairwise(widths)):
        inner = number < len(widths) - 2
        linear = nn.Linear(fan_in, fan_out)
        modules.append(spectral_norm(linear) if spectral else linear)
        if batch_norm and inner:
            modules.append(nn.BatchNorm1d(fan_out))
        modules.append(activation(hidden if inner else last))
        if dropout and inner:
            modules.append(nn.Dropout(dropout))
    return nn.Sequential(*modules)


def arrays_of(network: nn.Module) -> Network:
    """Return what a trained `mlp` computes when it is not training.

    Raises
    ------
    FitError
        If a number in it is not finite: training has diverged.
    """
    network.eval()
    layers: list[Layer] = []
    for module in network.children():
        if isinstance(module, nn.Linear):
            layers.append(Layer(array_of(module.weight), array_of(module.bias), "linear"))
        elif isinstance(module, nn.BatchNorm1d):
            layers[-1] = _folded(layers[-1], module)
        elif not isinstance(module, nn.Dropout):
            layers[-1] = Layer(layers[-1].weights, layers[-1].bias, _name(module))
    return Network(tuple(layers))


def _name(module: nn.Module) -> str:
    return next(name for name, make in ACTIVATIONS.items() if repr(make()) == repr(module))


def _folded(layer: Layer, norm: nn.BatchNorm1d) -> Layer:
    """Return the layer with the normalisation that follows it."""
    if norm.running_var is None or norm.running_mean is None:
        raise TypeError("the normalisation keeps no running moments")
    factor = array_of(norm.weight) / np.sqrt(array_of(norm.running_var) + norm.eps)
    bias = (layer.bias - array_of(norm.running_mean)) * factor + array_of(norm.bias)
    return Layer(layer.weights * factor[:, None], bias, layer.activation)


def array_of(tensor: torch.Tensor) -> Matrix:
    """Return a trained tensor's numbers; FitError if one is not finite."""
    values: Matrix = np.ascontiguousarray(tensor.detach().numpy().astype(np.float64))
    if not np.isfinite(values).all():
        raise FitError("training has diverged: a weight is not finite; use a smaller learning rate")
    return values


def tensor(rows: Matrix | Scores) -> torch.Tensor:
    """Return rows for training: float32."""
    return torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32))
