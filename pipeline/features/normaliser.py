"""From raw features to the matrix of a detector, and back to words and units.

What a matrix column is:

- numeric and yes/no features: ``t(v)`` is ``v`` or ``sign(v) log1p(|v|)``; the column is
  ``(t(v) - centre) / scale``, with mean and standard deviation (`standard`) or least value and
  range (`minmax`) of the rows of `fit`, cut at +-10,000 (`standard`) or +-10 (`minmax`);
- a categorical feature: one 0/1 column for each category seen in `fit` and one for all others.

A column that was constant in `fit` is left out of the matrix and watched instead: `moved` tells
which rows differ from the constant, or have a category that `fit` never saw. Watching covers every
feature of the set, also the kinds that the detector does not take.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Self, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.errors import BundleError, FeatureSetError, PipelineError
from pipeline.features.base import UNKNOWN, Feature, FeatureSet
from pipeline.features.scaling_kernel import LOGARITHMS, scale
from pipeline.features.statistics import CategoryStats, NumberStats, Scaling, Stats, statistics

Floats = npt.NDArray[np.float64]
Rows: TypeAlias = "pa.RecordBatch | pa.Table"

FORMAT = 1
LIMITS: dict[Scaling, float] = {"standard": 1e4, "minmax": 10.0}
"""Where a scaled value is cut: its square and its products stay exact enough to compare."""

LARGEST_LOG = 88.75
"""log1p of no feature is larger: features are float32."""

OTHER = "(other)"
"""Name of the category that holds what the vocabulary, or `fit`, does not know."""


MOST_NAMES = 5
"""How many categories are told where all that were seen are meant."""


@dataclass(frozen=True, slots=True)
class MatrixColumn:
    """What one column of the matrix stands for."""

    feature: str
    category: str | None = None  # of a one-hot column

    @property
    def label(self) -> str:
        """Name for people: `src_bytes`, `service=http`."""
        return self.feature if self.category is None else f"{self.feature}={self.category}"


@dataclass(frozen=True, slots=True)
class Moved:
    """Rows on which a watched feature left what `fit` saw of it."""

    rows: npt.NDArray[np.bool_]  # (n,)
    first: npt.NDArray[np.int64]  # (n,) index of the first such feature in the set, or -1


@dataclass(frozen=True, slots=True)
class _Block:
    """The columns of one feature in the matrix: [start, stop)."""

    feature: Feature
    stats: Stats
    start: int
    stop: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Numbers:
    """The numeric and yes/no features of the matrix, as the compiled loop takes them."""

    names: tuple[str, ...]
    logs: npt.NDArray[np.bool_]
    centres: Floats
    scales: Floats
    places: npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Normaliser:
    """Turns rows of one feature set into matrices; made by `fit` or `from_json`."""

    feature_set: FeatureSet
    kinds: frozenset[str]
    scaling: Scaling
    stats: tuple[Stats, ...] = field(repr=False)  # one a feature, in the order of the set
    context: str | None = None  # a categorical feature that is in the matrix whatever `kinds` are

    @classmethod
    def fit(
        cls,
        feature_set: FeatureSet,
        features: Rows,
        *,
        kinds: frozenset[str],
        scaling: Scaling,
        context: str | None = None,
    ) -> Self:
        """Learn centres, scales, categories and constants from rows of normal traffic.

        Parameters
        ----------
        feature_set : FeatureSet
            The set that `features` was computed with.
        features : RecordBatch or Table
            At least two rows with the columns of `feature_set.schema`.
        kinds : frozenset of str
            Kinds of features that the matrix may hold (`Detector.columns`).
        scaling : {"standard", "minmax"}
            How numbers are scaled (`Detector.scaling`).
        context : str, optional
            A categorical feature that is in the matrix whatever `kinds` are: it tells rows apart.

        Raises
        ------
        PipelineError
            If there are fewer than two rows, or no feature of these kinds varies.
        """
        if features.num_rows < 2:
            raise PipelineError(f"{feature_set.name}: {features.num_rows} rows to fit on, expected 2 or more")
        stats = tuple(statistics(f, _values(features, f.name), scaling) for f in feature_set.features)
        made = cls(feature_set=feature_set, kinds=kinds, scaling=scaling, stats=stats, context=context)
        if not made.columns:
            wanted = ", ".join(sorted(kinds))
            raise PipelineError(f"{feature_set.name}: no {wanted} feature varies in these rows; use others")
        return made

    @cached_property
    def _blocks(self) -> tuple[_Block, ...]:
        blocks: list[_Block] = []
        start = 0
        for feature, stats in zip(self.feature_set.features, self.stats, strict=True):
            taken = feature.kind in self.kinds or feature.name == self.context
            if taken and not stats.constant:
                width = len(_shown(stats)) + 1 if isinstance(stats, CategoryStats) else 1
                blocks.append(_Block(feature, stats, start, start + width))
                start += width
        return tuple(blocks)

    @cached_property
    def columns(self) -> tuple[MatrixColumn, ...]:
        """What each column of the matrix stands for."""
        return tuple(column for block in self._blocks for column in _columns(block))

    @cached_property
    def inputs(self) -> tuple[Feature, ...]:
        """The features in the matrix, in order: what folded columns and `to_unit` speak of."""
        return tuple(block.feature for block in self._blocks)

    @cached_property
    def watched(self) -> tuple[str, ...]:
        """Names of the features that were constant in `fit`."""
        pairs = zip(self.feature_set.features, self.stats, strict=True)
        return tuple(feature.name for feature, stats in pairs if stats.constant)

    @cached_property
    def constants(self) -> dict[str, float | str]:
        """What `fit` saw of every feature that `moved` can name: its one value, or its categories."""
        pairs = zip(self.feature_set.features, self.stats, strict=True)
        return {
            feature.name: _categories(feature, stats) if isinstance(stats, CategoryStats) else stats.low
            for feature, stats in pairs
            if stats.constant or feature.kind == "categorical"
        }

    def matrix(self, rows: Rows) -> Floats:
        """Return the matrix of `rows`: (n, d) float64, finite, C-contiguous.

        The bits of a row do not depend on the others: every step is elementwise.
        """
        out = np.zeros((rows.num_rows, len(self.columns)))
        numbers = self._numbers
        if numbers.names:
            values = _singles(rows, numbers.names)
            limit = LIMITS[self.scaling]
            scale(
                values, numbers.logs, LOGARITHMS, numbers.centres, numbers.scales, limit, numbers.places, out
            )
        for block in self._blocks:
            if isinstance(block.stats, CategoryStats):
                column = _column_of_code(block, block.stats)
                codes = _values(rows, block.feature.name)
                out[np.arange(len(codes)), column[_within(column, codes)]] = 1.0
        return out

    @cached_property
    def _numbers(self) -> "_Numbers":
        blocks = [block for block in self._blocks if isinstance(block.stats, NumberStats)]
        stats = [block.stats for block in blocks if isinstance(block.stats, NumberStats)]
        return _Numbers(
            names=tuple(block.feature.name for block in blocks),
            logs=np.array([block.feature.transform == "log1p" for block in blocks], dtype=np.bool_),
            centres=np.array([each.centre for each in stats], dtype=np.float64),
            scales=np.array([each.scale for each in stats], dtype=np.float64),
            places=np.array([block.start for block in blocks], dtype=np.int64),
        )

    def moved(self, rows: Rows) -> Moved:
        """Return which rows left the constants and categories of `fit`, and by which feature."""
        first = np.full(rows.num_rows, -1, dtype=np.int64)
        for index, feature in reversed(list(enumerate(self.feature_set.features))):
            stats = self.stats[index]
            if isinstance(stats, CategoryStats):
                unseen = _unseen_codes(feature, stats)
                first[unseen[_within(unseen, _values(rows, feature.name))]] = index
            elif stats.constant:
                values = _values(rows, feature.name).astype(np.float64)
                inside = (values >= stats.low - stats.tolerance) & (values <= stats.high + stats.tolerance)
                first[~inside] = index
        return Moved(first >= 0, first)

    def to_unit(self, values: Floats) -> dict[str, npt.NDArray[Any]]:
        """Return matrix rows as values of each feature in its own unit; a category as its name.

        Parameters
        ----------
        values : ndarray of shape (n, d), float64
            Rows of the matrix, or what a model expects there (`Explanation.expected`).

        Returns
        -------
        dict of str to ndarray of shape (n,)
            One entry for each of `inputs`: float64, or text for a categorical feature, which is
            the category of the largest column. No value lies on the other side of 0 than all of
            `fit`, and a yes/no feature stays within 0 and 1.
        """
        return {block.feature.name: self.in_unit(index, values) for index, block in enumerate(self._blocks)}

    def in_unit(self, index: int, values: Floats) -> npt.NDArray[Any]:
        """Return one entry of `to_unit`, that of `inputs[index]`."""
        block = self._blocks[index]
        return _in_unit(block, values[:, block.start : block.stop])

    def observed(self, rows: Rows) -> dict[str, npt.NDArray[Any]]:
        """Return what `rows` hold, in the same form as `to_unit`."""
        return {feature.name: self.observed_of(index, rows) for index, feature in enumerate(self.inputs)}

    def observed_of(self, index: int, rows: Rows) -> npt.NDArray[Any]:
        """Return one entry of `observed`, that of `inputs[index]`."""
        feature = self.inputs[index]
        values = _values(rows, feature.name)
        if feature.kind != "categorical":
            return np.asarray(values.astype(np.float64))
        names = np.array([OTHER, *feature.vocabulary], dtype=object)
        return np.asarray(names[np.where(values < len(names), values, UNKNOWN)])

    def contribution_fold(self, contributions: Floats) -> Floats:
        """Sum the columns of each feature: (..., d) -> (..., number of `inputs`)."""
        starts = [block.start for block in self._blocks]
        folded: Floats = np.add.reduceat(contributions, starts, axis=-1)
        return folded

    def to_json(self) -> str:
        """Return all of this as JSON; numbers are exact."""
        pairs = zip(self.feature_set.features, self.stats, strict=True)
        content = {
            "format": FORMAT,
            "feature_set": self.feature_set.id,
            "kinds": sorted(self.kinds),
            "scaling": self.scaling,
            **({"context": self.context} if self.context else {}),
            "features": [{"name": feature.name, **asdict(stats)} for feature, stats in pairs],
        }
        return json.dumps(content, indent=1)

    @classmethod
    def from_json(cls, text: str, feature_set: FeatureSet) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        FeatureSetError
            If it was fitted with another feature set, or another version of this one.
        BundleError
            If it is damaged.
        """
        try:
            content = json.loads(text)
            _check_same_set(content["feature_set"], feature_set)
            return cls(
                feature_set=feature_set,
                kinds=frozenset(content["kinds"]),
                scaling=_read_scaling(content),
                stats=tuple(_read_stats(content["features"], feature_set)),
                context=content.get("context"),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise BundleError(
                f"normaliser: not what a normaliser writes ({type(error).__name__}: {error}); train again"
            ) from error


def _check_same_set(fitted_with: str, feature_set: FeatureSet) -> None:
    if fitted_with != feature_set.id:
        raise FeatureSetError(
            f"normaliser: fitted with feature set {fitted_with}, but this program has {feature_set.id}; "
            "train again, or use the program version that it was trained with"
        )


def _read_scaling(content: dict[str, Any]) -> Scaling:
    version, scaling = content["format"], content["scaling"]
    if version != FORMAT or scaling not in LIMITS:
        known = " or ".join(LIMITS)
        raise ValueError(f"format {version!r} and scaling {scaling!r}, expected {FORMAT} and {known}")
    return cast("Scaling", scaling)


def _read_stats(read: list[dict[str, Any]], feature_set: FeatureSet) -> Iterator[Stats]:
    for feature, values in zip(feature_set.features, read, strict=True):
        if values.pop("name") != feature.name:
            raise ValueError(f"features are not those of {feature_set.name} in order")
        if feature.kind == "categorical":
            yield CategoryStats(seen=tuple(values["seen"])).within(len(feature.vocabulary))
        else:
            yield NumberStats(**values)


def _values(rows: Rows, name: str) -> npt.NDArray[Any]:
    column = rows.column(name)
    if isinstance(column, pa.ChunkedArray):
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _singles(rows: Rows, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Return numeric and yes/no columns as they travel: (k, n), each contiguous."""
    if isinstance(rows, pa.Table):
        arrays = [rows.column(name).combine_chunks() for name in names]
        rows = pa.RecordBatch.from_arrays(arrays, names=list(names))
    # By number: a look for each name costs more than the copy.
    places = [rows.schema.get_field_index(name) for name in names]
    values: npt.NDArray[np.float32] = rows.select(places).to_tensor(row_major=False).to_numpy().T
    return values


def _shown(stats: CategoryStats) -> tuple[int, ...]:
    """Return the codes with a column of their own."""
    return tuple(code for code in stats.seen if code != UNKNOWN)


def _categories(feature: Feature, stats: CategoryStats) -> str:
    """Return the categories seen, in words; of many the first ones."""
    names = [OTHER if code == UNKNOWN else feature.vocabulary[code - 1] for code in stats.seen]
    more = f" or {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _columns(block: _Block) -> tuple[MatrixColumn, ...]:
    name = block.feature.name
    if isinstance(block.stats, NumberStats):
        return (MatrixColumn(name),)
    categories = [block.feature.vocabulary[code - 1] for code in _shown(block.stats)]
    return tuple(MatrixColumn(name, category) for category in (*categories, OTHER))


def _in_unit(block: _Block, values: Floats) -> npt.NDArray[Any]:
    if isinstance(block.stats, CategoryStats):
        names = np.array([column.category for column in _columns(block)], dtype=object)
        return np.asarray(names[values.argmax(axis=1)])
    stats = block.stats
    raw = values[:, 0] * stats.scale + stats.centre
    if block.feature.transform == "log1p":
        raw = np.sign(raw) * np.expm1(np.minimum(np.abs(raw), LARGEST_LOG))
    low = 0.0 if stats.low >= 0 else -np.inf
    high = 1.0 if block.feature.kind == "binary" else np.inf
    clipped: Floats = np.clip(raw, low, high)
    return clipped


def _column_of_code(block: _Block, stats: CategoryStats) -> npt.NDArray[np.int64]:
    """Return the matrix column of each code; the last entry is for codes that there should not be."""
    table = np.full(len(block.feature.vocabulary) + 2, block.stop - 1, dtype=np.int64)
    codes = _shown(stats)
    table[list(codes)] = np.arange(block.start, block.start + len(codes))
    return table


def _unseen_codes(feature: Feature, stats: CategoryStats) -> npt.NDArray[np.bool_]:
    table = np.ones(len(feature.vocabulary) + 2, dtype=np.bool_)
    table[list(stats.seen)] = False
    return table


def _within(table: npt.NDArray[Any], codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(np.minimum(codes, len(table) - 1))
