"""Recurrent networks as arrays: LSTM layers in numpy, values and gradients, in fixed tiles.

A network maps a tile of windows, step by step and columns first, to another: (L, d, 256) -> (L, k, 256).
Every window starts from an empty memory. Everything is float64, so the bits of a window's result do not
depend on the windows beside it (see `detectors.tiles`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from detectors.base import Matrix, Scores, State
from detectors.networks import Network
from detectors.state import array

Steps = npt.NDArray[np.float64]
"""Windows, shape (L, k, m): steps, values, windows."""

StepsBack = Callable[[Steps], Steps]
"""From the gradient of something by the outputs, (L, k, m), to that by the inputs, (L, d, m)."""


class _Trace(NamedTuple):
    """What the way back needs of the way forth."""

    gates: Steps  # (L, 4h, m): input, forget, candidate, output, each behind its activation
    memory: Steps  # (L, h, m)
    told: Steps  # (L, h, m), tanh of the memory


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One LSTM layer; the gates are stacked as input, forget, candidate, output.

    Parameters
    ----------
    inputs : ndarray of shape (4h, d)
        Weights of the layer's inputs.
    hidden : ndarray of shape (4h, h)
        Weights of its own outputs of the step before.
    bias : ndarray of shape (4h,)
    """

    inputs: Matrix
    hidden: Matrix
    bias: Scores

    @property
    def width(self) -> int:
        """Number h of outputs."""
        width: int = self.hidden.shape[1]
        return width

    def run(self, steps: Steps) -> tuple[Steps, _Trace]:
        """Return the outputs of all steps, (L, h, m), and what the way back needs."""
        gates = np.matmul(self.inputs, steps)
        gates += self.bias[:, None]
        outputs, memory, told = (np.empty((len(steps), self.width, steps.shape[2])) for _ in range(3))
        h = self.width
        for t in range(len(steps)):
            if t:
                gates[t] += np.matmul(self.hidden, outputs[t - 1])
            self._activate(gates[t])
            into, keep, new, out = (gates[t, k * h : (k + 1) * h] for k in range(4))
            np.multiply(into, new, out=memory[t])
            if t:
                memory[t] += keep * memory[t - 1]
            np.tanh(memory[t], out=told[t])
            np.multiply(out, told[t], out=outputs[t])
        return outputs, _Trace(gates, memory, told)

    def _activate(self, gates: Matrix) -> None:
        # sigmoid(x) = (1 + tanh(x / 2)) / 2: one pass over all gates.
        scale = np.full((len(gates), 1), 0.5)
        scale[2 * self.width : 3 * self.width] = 1.0
        gates *= scale
        np.tanh(gates, out=gates)
        gates *= scale
        gates += 1.0 - scale

    def back(self, trace: _Trace, gradient: Steps) -> Steps:
        """Return the gradient by the inputs from that by the outputs."""
        h = self.width
        before = np.empty_like(trace.gates)
        by_output, by_memory = np.zeros_like(gradient[0]), np.zeros_like(gradient[0])
        for t in reversed(range(len(gradient))):
            into, keep, new, out = (trace.gates[t, k * h : (k + 1) * h] for k in range(4))
            by_output = by_output + gradient[t]
            by_memory = by_memory + by_output * out * (1.0 - trace.told[t] ** 2)
            last = trace.memory[t - 1] if t else np.zeros_like(into)
            before[t, :h] = by_memory * new * into * (1.0 - into)
            before[t, h : 2 * h] = by_memory * last * keep * (1.0 - keep)
            before[t, 2 * h : 3 * h] = by_memory * into * (1.0 - new**2)
            before[t, 3 * h :] = by_output * trace.told[t] * out * (1.0 - out)
            by_memory = by_memory * keep
            by_output = np.matmul(self.hidden.T, before[t])
        result: Steps = np.matmul(self.inputs.T, before)
        return result


@dataclass(frozen=True, slots=True, eq=False)
class Recurrent:
    """LSTM layers, one behind the other, and a network that reads each step's outputs.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> cell = Cell(rng.normal(size=(8, 3)), rng.normal(size=(8, 2)), np.zeros(8))
    >>> from detectors.networks import Layer
    >>> echo = Network((Layer(np.eye(2), np.zeros(2), "linear"),))
    >>> Recurrent((cell,), echo).on_steps(np.ones((5, 3, 256))).shape
    (5, 2, 256)
    """

    cells: tuple[Cell, ...]
    readout: Network

    @property
    def n_outputs(self) -> int:
        """Values it gives at each step."""
        return self.readout.n_outputs

    def on_steps(self, steps: Steps) -> Steps:
        """Return the outputs of a tile of windows: (L, d, 256) -> (L, k, 256)."""
        for cell in self.cells:
            steps, _ = cell.run(steps)
        return self.readout.on_tile(steps)

    def pullback(self, steps: Steps) -> tuple[Steps, StepsBack]:
        """Return the outputs, and what turns gradients by them into gradients by the inputs."""
        traces: list[_Trace] = []
        for cell in self.cells:
            steps, trace = cell.run(steps)
            traces.append(trace)
        outputs, through = self.readout.pullback(steps)

        def back(gradient: Steps) -> Steps:
            gradient = through(gradient)
            for cell, trace in zip(reversed(self.cells), reversed(traces), strict=True):
                gradient = cell.back(trace, gradient)
            return gradient

        return outputs, back

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """Return its numbers for a `State`."""
        found = self.readout.arrays(name)
        for number, cell in enumerate(self.cells):
            found[f"{name}.cell{number}.inputs"] = cell.inputs
            found[f"{name}.cell{number}.hidden"] = cell.hidden
            found[f"{name}.cell{number}.bias"] = cell.bias
        return found

    @property
    def activations(self) -> list[str]:
        """Names of the readout's activations, for the JSON part of a `State`."""
        return self.readout.activations

    @classmethod
    def restored(
        cls, state: State, name: str, *, n_inputs: int, depth: int, n_outputs: int | None = None
    ) -> Self:
        """Return the network that a state holds under a name; see `Network.restored`.

        Raises
        ------
        StateError
            If an array is missing or of another shape.
        """
        cells: list[Cell] = []
        width = n_inputs
        for number in range(depth):
            prefix = f"{name}.cell{number}"
            bias = array(state, f"{prefix}.bias", None)
            inputs = array(state, f"{prefix}.inputs", bias.size, width)
            width = bias.size // 4
            hidden = array(state, f"{prefix}.hidden", 4 * width, width)
            cells.append(Cell(np.ascontiguousarray(inputs), np.ascontiguousarray(hidden), bias))
        return cls(tuple(cells), Network.restored(state, name, n_inputs=width, n_outputs=n_outputs))
