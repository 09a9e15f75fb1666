"""What detectors are lent beside normal rows never reaches the test part, and repeats by seed."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from pipeline.features.feature_sets import feature_set
from training.datasets import Dataset, Order
from training.errors import TrainingError
from training.lending import lend
from training.splits import Split

BOTH = {"anomalies", "unlabelled"}


def dataset(n: int = 1000, *, attacks: int = 200, own_test: bool = False, order: Order = "time") -> Dataset:
    """Return rows of which the last ones are attacks; the second half may be a test part of its own."""
    chosen = feature_set("nsl-kdd")
    labels = np.array(["normal"] * (n - attacks) + ["flood"] * attacks, dtype=np.object_)
    labels = np.random.default_rng(0).permutation(labels)
    return Dataset(
        name="made",
        feature_set=chosen,
        features=pa.RecordBatch.from_pylist([], schema=chosen.schema),
        labels=labels,
        times=np.arange(n)[::-1].astype(np.int64),
        test=np.arange(n) >= n // 2 if own_test else None,
        order=order,
        gap_s=0.0,
        fingerprint="",
        notes=(),
        n_rejected=0,
    )


def lent(rows: Dataset, uses: set[str], seed: int = 0, share: float = 0.1) -> Split:
    return lend(rows.split(seed=0), rows, uses=uses, share=share, seed=seed)


@pytest.mark.parametrize("uses", [{"anomalies"}, {"unlabelled"}, BOTH])
@pytest.mark.parametrize("own_test", [True, False])
@pytest.mark.parametrize("order", ["time", "rows", "none"])
def test_no_part_shares_a_row(uses: set[str], own_test: bool, order: Order) -> None:  # noqa: FBT001
    rows = dataset(own_test=own_test, order=order)
    split = lent(rows, uses)
    together = np.concatenate(list(split.parts.values()))

    assert np.unique(together).size == together.size
    assert not rows.normal[split.anomalies].any()
    assert rows.normal[split.fit].all()
    assert (split.anomalies.size > 0) == ("anomalies" in uses)
    assert (split.unlabelled.size > 0) == ("unlabelled" in uses)


def test_a_detector_that_uses_nothing_changes_nothing() -> None:
    rows = dataset()
    split = rows.split(seed=0)

    assert lend(split, rows, uses=set(), seed=0) is split


def test_the_shares_are_as_asked() -> None:
    rows = dataset(4000, attacks=900)
    split = lent(rows, BOTH, share=0.05)

    assert split.anomalies.size == round(0.05 * split.fit.size)
    assert np.mean(~rows.normal[split.unlabelled]) == pytest.approx(0.05, abs=0.01)


def test_with_a_test_part_of_its_own_the_test_keeps_every_row() -> None:
    rows = dataset(own_test=True)

    np.testing.assert_array_equal(lent(rows, BOTH).test, rows.split(seed=0).test)


def test_known_attacks_are_those_of_the_past() -> None:
    """Where there is time, every attack that is lent came before every attack that is judged."""
    rows = dataset()
    split = lent(rows, {"anomalies"})
    judged = split.test[~rows.normal[split.test]]

    assert rows.times[split.anomalies].max() < rows.times[judged].min()


def test_the_test_part_keeps_half_of_its_attacks() -> None:
    rows = dataset(1000, attacks=20)
    split = lent(rows, {"anomalies"}, share=0.5)

    assert (~rows.normal[split.test]).sum() == 10


def test_seeds_repeat() -> None:
    rows = dataset(order="none")
    one, same, other = (lent(rows, BOTH, seed=seed) for seed in (1, 1, 2))

    for name in one.parts:
        np.testing.assert_array_equal(one.parts[name], same.parts[name])
    assert not np.array_equal(one.unlabelled, other.unlabelled)


def test_a_dataset_without_attacks_lends_none() -> None:
    rows = dataset(attacks=200)
    quiet = replace(rows, labels=np.full(1000, "normal", dtype=np.object_))

    with pytest.raises(TrainingError, match="no attack to lend"):
        lent(quiet, {"anomalies"})
