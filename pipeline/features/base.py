"""Feature sets: which numbers of a record the models see, with their units and meaning."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from connectors.records import IDENTITY, BadRow, Checked, RecordType
from pipeline.features.rhythm import RhythmSpec
from pipeline.features.windows import WindowSpec

Kind = Literal["numeric", "binary", "categorical"]
About = Literal["flow", "src", "dst", "pair"]

Columns = Mapping[str, npt.NDArray[Any]]
"""One array a feature, by name."""

Counts = Mapping[str, npt.NDArray[np.int64]]
"""The integers that windows and rhythm give to each row, by name; none where a set has neither."""

CARRIED = tuple(name for name in IDENTITY if name not in {"label", "position"})
"""Identity columns that travel on beside the features: never the label."""

UNKNOWN = 0
"""Code of a category that the vocabulary does not list; listed ones count from 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One input of the models."""

    name: str
    kind: Kind = "numeric"
    unit: str = ""
    transform: Literal["none", "log1p"] = "none"
    about: About = "flow"  # whom an anomaly of this feature concerns
    vocabulary: tuple[str, ...] = ()  # categorical: code i + 1 means vocabulary[i]
    text: str = ""  # what it is, in words for an alert

    @property
    def type(self) -> pa.DataType:
        """Arrow type in a features message."""
        return pa.uint16() if self.kind == "categorical" else pa.float32()


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """An ordered set of features over one record type, identified by the hash of its declaration.

    `compute` derives the raw features elementwise from checked rows and, where the set has
    windows or a rhythm, from the integer columns that these give to those rows. Whoever changes what
    it computes, or which rows are `followed`, raises `version`, so that the hash changes.
    """

    name: str
    version: int
    record_type: RecordType
    features: tuple[Feature, ...]
    compute: Callable[[pa.RecordBatch, Counts], Columns] = field(repr=False)
    required: tuple[str, ...] = ()  # nullable columns of the record type that this set cannot do without
    windows: WindowSpec | None = None
    rhythm: RhythmSpec | None = None
    followed: Callable[[pa.RecordBatch], npt.NDArray[np.bool_]] | None = field(default=None, repr=False)
    """Of which checked rows the rhythm is kept; None stands for all."""

    @cached_property
    def hash(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the declaration."""
        declared = {
            "name": self.name,
            "version": self.version,
            "record_type": self.record_type.id,
            "features": [asdict(feature) for feature in self.features],
            "required": self.required,
            "windows": asdict(self.windows) if self.windows else None,
        }
        if self.rhythm:
            declared["rhythm"] = asdict(self.rhythm)
        return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def id(self) -> str:
        """Name and hash, as in the `weir-feature-set` header."""
        return f"{self.name}:{self.hash}"

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns of a features message: the carried identity, then the features in order."""
        identity = [self.record_type.schema.field(name) for name in CARRIED]
        return pa.schema(identity + [pa.field(f.name, f.type, nullable=False) for f in self.features])

    def check(self, batch: pa.RecordBatch) -> Checked:
        """Split `batch` into rows that this set can judge and bad ones with their reasons.

        Raises
        ------
        RecordError
            If the batch as a whole is not of the record type.
        """
        checked = self.record_type.check(batch)
        found: dict[int, BadRow] = {}
        for name in self.required:
            array = checked.rows.column(name)
            missing = np.flatnonzero(array.is_null()) if array.null_count else ()
            detail = f"{self.record_type.id}: {name} is null, expected a value: {self.name} needs it"
            for index in missing:
                bad = BadRow(index=int(checked.kept[index]), reason="null_value", detail=detail)
                found.setdefault(int(index), bad)
        return _without(checked, found)


def _without(checked: Checked, found: Mapping[int, BadRow]) -> Checked:
    """Take the rows of `found`, by their index among the good ones, out of `checked`."""
    if not found:
        return checked
    left = np.delete(np.arange(checked.rows.num_rows), list(found))
    bad = sorted((*checked.bad, *found.values()), key=lambda row: row.index)
    return Checked(rows=checked.rows.take(pa.array(left)), kept=checked.kept[left], bad=tuple(bad))
