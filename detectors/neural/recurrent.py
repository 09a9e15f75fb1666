"""Recurrent networks for training, and their way into arrays."""

import torch
from torch import nn

from detectors.neural.build import array_of, arrays_of, mlp
from detectors.recurrent import Cell, Recurrent


class LSTM(nn.Module):
    """LSTM layers, and a linear layer that reads each step: (n, L, d) -> (n, L, k).

    Parameters
    ----------
    n_inputs, n_outputs : int
        Values of a step.
    hidden : int
        Width of the layers.
    depth : int
        Number of layers.
    last : str
        Activation of the readout.
    """

    def __init__(
        self, n_inputs: int, n_outputs: int, *, hidden: int, depth: int = 1, last: str = "linear"
    ) -> None:
        super().__init__()
        self.cells = nn.LSTM(n_inputs, hidden, depth, batch_first=True)
        self.readout = mlp([hidden, n_outputs], last=last)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the outputs of every step."""
        outputs: torch.Tensor = self.readout(self.cells(windows)[0])
        return outputs

    def arrays(self) -> Recurrent:
        """Return what the trained network computes.

        Raises
        ------
        FitError
            If a number in it is not finite: training has diverged.
        """
        cells = tuple(self._cell(number) for number in range(self.cells.num_layers))
        return Recurrent(cells, arrays_of(self.readout))

    def _cell(self, number: int) -> Cell:
        weights = dict(self.cells.named_parameters())
        inputs, hidden, one, two = (
            array_of(weights[f"{name}_l{number}"])
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        return Cell(inputs, hidden, one + two)
