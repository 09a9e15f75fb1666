"""Rows that are not normal, made from normal ones: by them a discriminator learns its borders."""

import torch

LEVELS = 256
"""Most values of a column that are kept to replace others by."""


class Corruption:
    """Normal rows with some of their columns replaced, at least one.

    The share of a row's columns that is replaced is drawn uniformly: the rows reach from hardly to wholly
    abnormal. New values are of three kinds: those of other rows, which keeps each column's distribution
    and breaks the dependencies; the column's values, each as likely as any other, so that rare ones are as
    common as usual ones; and uniform ones between bounds, far outside too.

    A discriminator compares how common a row is with how common it is among these. By the first kind it
    learns dependencies alone: what is rare but in order, a rare state with the counts that belong to it, is
    rarer still among shuffled rows, and so passes for normal. By the other two it learns what is rare, too.

    Parameters
    ----------
    rows : Tensor of shape (n, d)
        Normal rows: whose values there are.
    low, high : Tensor of shape (d,)
        Bounds of the uniform values.
    generator : torch.Generator
    shuffled : float
        Share of the rows whose new values are those of other rows; the rest is halved between the two
        other kinds.
    """

    def __init__(
        self,
        rows: torch.Tensor,
        low: torch.Tensor,
        high: torch.Tensor,
        generator: torch.Generator,
        *,
        shuffled: float = 0.0,
    ) -> None:
        self._levels = torch.stack([_levels(column) for column in rows.T], dim=1)
        self._low, self._high = low, high
        self._generator = generator
        self._shuffled = shuffled

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Return as many corrupted rows."""
        n, d = rows.shape
        replaced = self._drawn(n, d) < self._drawn(n, 1)
        replaced[torch.arange(n), torch.randint(d, (n,), generator=self._generator)] = True
        return torch.where(replaced, self._values(rows), rows)

    def _values(self, rows: torch.Tensor) -> torch.Tensor:
        n, d = rows.shape
        places = torch.randint(LEVELS, (n, d), generator=self._generator)
        found = self._levels.gather(0, places)
        found[1::2] = self._low + (self._high - self._low) * self._drawn(len(found[1::2]), d)
        many = round(self._shuffled * n)
        if many:
            found[:many] = permuted(rows, self._generator)[:many]
        return found

    def _drawn(self, *shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=self._generator)


def _levels(column: torch.Tensor) -> torch.Tensor:
    """Return the values of a column, each as often as any other, (LEVELS,)."""
    found = torch.unique(column)
    places = torch.linspace(0.0, len(found) - 1e-3, LEVELS, dtype=torch.float64).long()
    kept: torch.Tensor = found[places]
    return kept


def permuted(rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return rows with each column shuffled by itself."""
    return rows.gather(0, torch.rand(rows.shape, generator=generator).argsort(dim=0))
