"""The five tabular outlier sets on which detectors of papers are compared, in the split of the adVAE paper.

They are no network flows: they tell how a detector does beside published figures, not on a stream.

References
----------
S. Rayana, ODDS Library, Stony Brook University, 2016; Wang et al., adVAE, arXiv 1903.00904, table 1.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from connectors.sources import DATA_VARIABLE
from detectors.base import Matrix
from training.errors import DatasetError
from training.splits import Mask

FOLDER = "odds"
VAL_SHARE = 0.15
"""Share of the training rows held out for early stopping and scales."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Where a set lies and which of its rows are the test part.

    Either the last `n_last` rows, or the first `n_first` normal rows; always every outlier.
    """

    file: str
    n_train: int
    n_test: int
    n_first: int | None = None


RECIPES: Mapping[str, Recipe] = {
    "letter": Recipe(file="letter.parquet", n_train=1200, n_test=400),
    "cardio": Recipe(file="cardio.parquet", n_train=1324, n_test=507),
    "satellite": Recipe(file="satellite_goldstein.parquet", n_train=3945, n_test=1155, n_first=1080),
    "optdigits": Recipe(file="optdigits.parquet", n_train=4053, n_test=1163),
    "pendigits": Recipe(file="pendigits.parquet", n_train=5371, n_test=1499, n_first=1343),
}


@dataclass(frozen=True, kw_only=True)
class OutlierSet:
    """A table split as published."""

    name: str
    train: Matrix  # normal rows
    test: Matrix
    outlier: Mask = field(repr=False)  # of the test rows

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of its values."""
        parts = (self.train.tobytes(), self.test.tobytes(), self.outlier.tobytes())
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def parts(self, rng: np.random.Generator) -> tuple[Matrix, Matrix]:
        """Return rows to fit on and held-out ones, dealt out by chance."""
        order = rng.permutation(len(self.train))
        n_held_out = round(VAL_SHARE * len(order))
        return self.train[order[n_held_out:]], self.train[order[:n_held_out]]


def load_outlier_set(name: str, data: Path | None = None) -> OutlierSet:
    """Return one of `RECIPES`.

    Parameters
    ----------
    name : str
        Key of `RECIPES`.
    data : Path, optional
        Folder of the datasets; default: the environment variable WEIR_DATA.

    Raises
    ------
    DatasetError
        If the name is unknown, the file is missing, or its rows are not those of the published split.
    """
    if name not in RECIPES:
        raise DatasetError(f"no outlier set {name!r}; expected one of {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    path = (data or Path(os.environ.get(DATA_VARIABLE, "."))) / FOLDER / recipe.file
    try:
        table = pq.read_table(path)
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"cannot read {path} ({error}); give the folder of the datasets (--data or {DATA_VARIABLE})"
        ) from error
    outlier = table.column("y").to_numpy() == 1
    names = [name for name in table.column_names if name != "y"]
    x = np.column_stack([table.column(name).to_numpy() for name in names]).astype(np.float64)
    test = _test_rows(outlier, recipe)
    train = ~test
    if outlier[train].any() or (train.sum(), test.sum()) != (recipe.n_train, recipe.n_test):
        raise DatasetError(
            f"{path} has {train.sum()} rows to train on and {test.sum()} to test, expected "
            f"{recipe.n_train} normal ones and {recipe.n_test}; take the file of the paper's repository"
        )
    return OutlierSet(name=name, train=x[train], test=x[test], outlier=outlier[test])


def _test_rows(outlier: Mask, recipe: Recipe) -> Mask:
    if recipe.n_first is None:
        return np.arange(outlier.size) >= outlier.size - recipe.n_test
    test = outlier.copy()
    test[np.flatnonzero(~outlier)[: recipe.n_first]] = True
    return test


def scaled(train: Matrix, others: list[Matrix], scaling: str) -> list[Matrix]:
    """Return matrices in the units of `train`, as a detector wants them: standard or minmax."""
    centre, spread = train.mean(axis=0), train.std(axis=0)
    if scaling == "minmax":
        centre, spread = train.min(axis=0), train.max(axis=0) - train.min(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    return [(each - centre) / spread for each in others]
