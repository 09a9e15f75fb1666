"""What is left out of learning where nobody labelled the rows: what a person names, bursts, the oddest rows.

Attacks in traffic that is learned teach the model that they are normal. The excess of bursts
(`training.bursts`) is most of their flows; it goes out of the calibration rows, too, or it would make alarms
rarer than stated. On request the detector is then fitted once more, without the share of the remaining rows
that the first fit finds oddest. That takes rare normal flows with it, so nothing but bursts is left out
unless asked for: docs/performance.md, "What is learned from captures that hold attacks".
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from connectors.records import ADDRESS
from detectors.base import Scores
from pipeline.publication import address_text
from training.bursts import Usual, without_bursts
from training.datasets import Dataset
from training.errors import TrainingError
from training.regular import regular_contacts
from training.splits import NO_ROWS, Rows, Split

NAMED = 5
"""Addresses and services that are named of what was left out."""

Score = Callable[[Split, Rows], Scores]
"""Scores of rows, (n,), by a detector fitted on the fit part of a split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimming:
    """How much is left out."""

    contamination: float = 0.0  # assumed share of anomalies beside bursts, [0, 0.5]: left out of the fit
    cut_bursts: bool = True
    trim_cal: bool = False  # leave the oddest rows out of the calibration part, too
    without: tuple[
        bytes, ...
    ] = ()  # addresses, 16 bytes each, whose flows are left out of all parts but the test

    def __post_init__(self) -> None:
        if not 0 <= self.contamination <= 0.5:
            raise TrainingError(f"contamination is {self.contamination:g}, expected 0 to 0.5")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trimmed:
    """A split whose parts have been trimmed, and what was left out of the fit part."""

    split: Split
    usual: Usual | None  # what is no burst; None: bursts were not cut
    named: Rows = field(default_factory=lambda: NO_ROWS)
    bursts: Rows = field(default_factory=lambda: NO_ROWS)
    odd: Rows = field(default_factory=lambda: NO_ROWS)
    n_cal: int = 0  # rows left out of the calibration part, for any reason

    def to_json(self, dataset: Dataset, trimming: Trimming) -> dict[str, Any]:
        """Return what a manifest records."""
        return {
            "without": [address_text(address) for address in trimming.without],
            "left_out_by_address": int(self.named.size),
            "contamination": trimming.contamination,
            "no_burst_in_a_minute": asdict(self.usual) if self.usual else None,
            "cut_from_bursts": int(self.bursts.size),
            "left_out_as_odd": int(self.odd.size),
            "odd_mostly": mostly(dataset, self.odd),
            "bursts_mostly": mostly(dataset, self.bursts),
            "left_out_of_calibration": self.n_cal,
            "calibration": calibration_words(trimming),
            "regular": asdict(regular_contacts(dataset, self.split.normal)),
        }


def calibration_words(trimming: Trimming) -> str:
    """Return what the trimming does to the false alarms that are stated."""
    if trimming.trim_cal and trimming.contamination:
        return (
            f"the oddest {trimming.contamination:g} of the calibration rows is left out: if that was normal, "
            "such a share of all flows alarms at any alpha; look at the observed rates"
        )
    cut = "cut from bursts as the rows to fit on" if trimming.cut_bursts else "kept as they are"
    return (
        f"its rows are {cut}; attacks that are among them make alarms rarer than stated, never more frequent"
    )


def trimmed(split: Split, dataset: Dataset, trimming: Trimming, score: Score) -> Trimmed:
    """Return the split to learn from.

    Parameters
    ----------
    split : Split
        Of `dataset`; its test part stays as it is.
    score : callable
        Fits a detector on the fit part of a split and scores rows by it: once.

    Raises
    ------
    TrainingError
        If too few rows would be left.
    """
    allowed, usual = _checked(_without_addresses(split, dataset, trimming.without)), None
    kept = allowed
    if trimming.cut_bursts:
        (fit, val, cal), usual = without_bursts(dataset, (kept.fit, kept.val, kept.cal))
        kept = replace(kept, fit=fit, val=val, cal=cal)
    named, bursts = np.setdiff1d(split.fit, allowed.fit), np.setdiff1d(allowed.fit, kept.fit)
    if not trimming.contamination:
        n_cal = split.cal.size - kept.cal.size
        return Trimmed(split=_checked(kept), usual=usual, named=named, bursts=bursts, n_cal=n_cal)
    without = _without_odd(kept, trimming, score)
    return Trimmed(
        split=_checked(without),
        usual=usual,
        named=named,
        bursts=bursts,
        odd=np.setdiff1d(kept.fit, without.fit),
        n_cal=split.cal.size - without.cal.size,
    )


def _without_addresses(split: Split, dataset: Dataset, addresses: Sequence[bytes]) -> Split:
    if not addresses:
        return split
    columns = (dataset.features.column(name) for name in ("src_ip", "dst_ip"))
    source, destination = (pc.is_in(column, pa.array(addresses, ADDRESS)) for column in columns)
    out = np.asarray(pc.or_(source, destination))
    fit, val, cal = (rows[~out[rows]] for rows in (split.fit, split.val, split.cal))
    return replace(split, fit=fit, val=val, cal=cal)


def _without_odd(split: Split, trimming: Trimming, score: Score) -> Split:
    parts = [split.fit, split.val, *([split.cal] if trimming.trim_cal else [])]
    scores = np.split(score(split, np.concatenate(parts)), np.cumsum([part.size for part in parts])[:-1])
    left = [least_odd(rows, s, trimming.contamination) for rows, s in zip(parts, scores, strict=True)]
    return replace(split, fit=left[0], val=left[1], cal=left[2] if trimming.trim_cal else split.cal)


def _checked(split: Split) -> Split:
    for name, rows in split.parts.items():
        if not rows.size:
            raise TrainingError(f"no row of the {name} part is left after trimming; capture more flows")
    return split


def least_odd(rows: Rows, scores: Scores, share: float) -> Rows:
    """Return rows without the `share` of largest scores, rounded up.

    Examples
    --------
    >>> least_odd(np.array([3, 5, 8, 9]), np.array([0.1, 7.0, 0.3, 0.2]), 0.25)
    array([3, 8, 9])
    """
    n_out = int(np.ceil(share * rows.size))
    order = np.argsort(scores, kind="stable")
    return np.sort(rows[order[: rows.size - n_out]])


def mostly(dataset: Dataset, rows: Rows) -> dict[str, dict[str, int]]:
    """Return the addresses and services (protocol and port) that most of some rows are of, with counts."""
    features = dataset.take(rows)
    ports, protocols = (features.column(name).to_pylist() for name in ("dst_port", "protocol"))
    services = [
        f"{protocol or 'no protocol'}/{'no port' if port is None else port}"
        for protocol, port in zip(protocols, ports, strict=True)
    ]
    return {
        "sources": _most_frequent(_addresses(features.column("src_ip"))),
        "destinations": _most_frequent(_addresses(features.column("dst_ip"))),
        "services": _most_frequent(services),
    }


def _addresses(column: pa.Array) -> list[str]:
    return [address_text(address) if address else "no address" for address in column.to_pylist()]


def _most_frequent(names: Sequence[str]) -> dict[str, int]:
    counted = pc.value_counts(pa.array(names, pa.string())).to_pylist()
    first = sorted(counted, key=lambda entry: (-entry["counts"], entry["values"]))[:NAMED]
    return {entry["values"]: entry["counts"] for entry in first}
