"""The loop that all networks are trained by: epochs of minibatches, stopped by held-out normal rows."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from detectors.base import Progress
from detectors.errors import FitError


@contextmanager
def repeatable(rng: np.random.Generator) -> Iterator[torch.Generator]:
    """Give a generator of torch that `rng` seeds; inside, equal seeds give equal networks.

    The program's own random state and number of threads are as before afterwards. One thread: for
    networks of this size more of them cost time, and sums in another order give other bits.
    """
    n_threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        seed = int(rng.integers(2**62))
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield torch.Generator().manual_seed(seed + 1)
        finally:
            torch.set_num_threads(n_threads)


def batches(
    rows: torch.Tensor, size: int, generator: torch.Generator, *, shuffle: bool = True
) -> Iterator[torch.Tensor]:
    """Yield all rows once, in another order each time; a last batch of one row joins the one before."""
    order = torch.randperm(len(rows), generator=generator) if shuffle else torch.arange(len(rows))
    starts = list(range(0, len(rows), size))
    if len(starts) > 1 and len(rows) - starts[-1] < 2:
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        yield rows[order[start:stop]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long to train.

    Parameters
    ----------
    epochs : int
        Most passes over the rows.
    patience : int
        Epochs without a better held-out objective before training stops; 0 never stops, and keeps the
        last networks rather than the best.
    batch : int
        Rows of a minibatch.
    least_steps : int
        With few rows an epoch is repeated until it has so many minibatches.
    """

    epochs: int
    patience: int
    batch: int
    least_steps: int = 1


def train(
    rows: torch.Tensor,
    step: Callable[[torch.Tensor], None],
    objective: Callable[[], torch.Tensor | float],
    modules: Sequence[nn.Module],
    schedule: Schedule,
    generator: torch.Generator,
    progress: Progress,
) -> dict[str, Any]:
    """Train until the held-out objective stops falling; leave the best networks in `modules`.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Normal rows.
    step : callable
        Takes a minibatch and changes the networks.
    objective : callable
        Of held-out normal rows, less is better; it is called without gradients, the networks in
        evaluation mode.
    modules : sequence of Module
        All that is trained.
    schedule : Schedule
    generator : torch.Generator
        Orders the rows.
    progress : Progress

    Returns
    -------
    dict
        How it went, JSON values: epochs, the best of them, the objective there and of each epoch.

    Raises
    ------
    FitError
        If the objective is not finite in the first epoch: there is nothing to go back to.
    """
    repeats = math.ceil(schedule.least_steps * schedule.batch / max(1, len(rows)))
    found: list[float] = []
    best, kept = -1, [copy.deepcopy(module.state_dict()) for module in modules]
    for epoch in range(schedule.epochs):
        _each(modules, training=True)
        for _ in range(max(1, repeats)):
            for batch in batches(rows, schedule.batch, generator):
                step(batch)
        _each(modules, training=False)
        with torch.no_grad():
            found.append(float(objective()))
        progress(f"epoch {epoch + 1}, held-out {found[-1]:.4g}", (epoch + 1) / schedule.epochs)
        if math.isfinite(found[-1]) and (best < 0 or found[-1] < found[best] or not schedule.patience):
            best, kept = epoch, [copy.deepcopy(module.state_dict()) for module in modules]
        if not math.isfinite(found[-1]) or (schedule.patience and epoch - best >= schedule.patience):
            break
    if best < 0:
        raise FitError("training has diverged in its first epoch; use a smaller learning rate")
    for module, state in zip(modules, kept, strict=True):
        module.load_state_dict(state)
    progress("trained", 1.0)
    told = [value if math.isfinite(value) else None for value in found]
    return {"epochs": len(found), "best_epoch": best + 1, "objective": found[best], "objectives": told}


def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Change what the optimiser holds, by one step down the gradient of a loss."""
    optimiser.zero_grad()
    torch.autograd.backward(loss)
    optimiser.step()


def _each(modules: Sequence[nn.Module], *, training: bool) -> None:
    for module in modules:
        module.train(training)


class Average(nn.Module):
    """The exponential moving average of a network's weights: what is used once training has ended."""

    def __init__(self, source: nn.Module, decay: float) -> None:
        super().__init__()
        self.network = copy.deepcopy(source).requires_grad_(requires_grad=False)
        self._source = [source]  # in a list, so that it is not a part of this module
        self._decay = decay

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the network as it is now."""
        pairs = zip(self.network.parameters(), self._source[0].parameters(), strict=True)
        for mine, theirs in pairs:
            mine.lerp_(theirs, 1.0 - self._decay)
        buffers = zip(self.network.buffers(), self._source[0].buffers(), strict=True)
        for ours, last in buffers:
            ours.copy_(last)
