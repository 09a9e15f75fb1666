"""Datasets: features by the code of the stream, labels beside them, identity of the content."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from connectors.errors import SourceError
from connectors.source_synthetic import START
from connectors.sources import Generated, open_source
from pipeline.features.arrays import times_us
from pipeline.features.lane import LaneFeatures
from training.datasets import Dataset, load_dataset
from training.errors import DatasetError
from training.splits import US_PER_S

TINY = Generated(days=2, scale=0.01, attacks=("port_scan",))


@pytest.fixture(scope="module")
def site() -> Dataset:
    return load_dataset("synthetic", generated=TINY)


def test_labels_are_beside_the_features_never_inside(small: Dataset) -> None:
    """No column of the features is or holds a label; there is one label a row."""
    words = {"label", "difficulty", "position"}

    assert not words & set(small.features.schema.names)
    assert {
        str(kind): int(n)
        for kind, n in zip(*np.unique(small.labels.astype(str), return_counts=True), strict=True)
    } == {"normal": 1900, "neptune": 100, "satan": 100}
    assert small.features.num_rows == small.labels.size == small.times.size


def test_the_test_file_is_the_test_part(small: Dataset) -> None:
    """All rows of KDDTest+ and nothing else are tested; nothing of it is learnt from."""
    split = small.split(seed=0)

    np.testing.assert_array_equal(split.test, np.arange(1600, 2100))
    assert max(split.fit.max(), split.val.max(), split.cal.max()) < 1600
    assert split.left_out == {"attacks outside the test part": 100}


def test_one_file_is_a_dataset_of_its_own(kdd_folder: Path) -> None:
    """A file given by itself is split within itself; a part by name is that file."""
    alone = load_dataset("nsl-kdd", kdd_folder / "KDDTest+.txt")
    part = load_dataset("nsl-kdd", kdd_folder, part="test")

    assert alone.test is None
    assert alone.fingerprint == part.fingerprint
    assert set(np.flatnonzero(~alone.normal)) <= set(alone.split(seed=0).test)


def test_windows_are_those_of_the_stream(site: Dataset) -> None:
    """Features equal what a lane gives that is fed in other batches."""
    source = open_source("synthetic", generated=Generated(days=2, scale=0.01, attacks=False))
    lane = LaneFeatures(site.feature_set)
    batches = [lane.process(site.feature_set.check(chunk.rows).rows) for chunk in source.chunks(rows=137)]
    first = site.features.slice(0, sum(batch.num_rows for batch in batches))

    for feature in site.feature_set.features:
        fed = np.concatenate([batch.column(feature.name).to_numpy() for batch in batches])
        np.testing.assert_array_equal(first.column(feature.name).to_numpy(), fed)


def test_synthetic_days_are_in_order_and_attacks_come_after(site: Dataset) -> None:
    """Normal days are fitted, the day after them, with its attacks, is tested."""
    split = site.split(seed=0)
    midnight = np.datetime64(START + timedelta(days=2), "us").astype(np.int64)

    assert site.times[split.cal].max() < midnight <= site.times[split.test].min()
    assert set(site.labels[split.test]) == {"normal", "port_scan"}
    assert site.times[split.val].min() - site.times[split.fit].max() > 60 * US_PER_S
    np.testing.assert_array_equal(site.times, times_us(site.features))


def test_the_fingerprint_is_that_of_the_content(kdd_folder: Path, small: Dataset, tmp_path: Path) -> None:
    """The same files elsewhere give the same one; one changed value gives another."""
    for name in ("KDDTrain+.txt", "KDDTest+.txt"):
        (tmp_path / name).write_bytes((kdd_folder / name).read_bytes())
    same = load_dataset("nsl-kdd", tmp_path)
    text = (tmp_path / "KDDTrain+.txt").read_text().splitlines()
    text[700] = text[700].replace(",tcp,", ",udp,")
    (tmp_path / "KDDTrain+.txt").write_text("\n".join(text) + "\n")

    assert same.fingerprint == small.fingerprint
    assert load_dataset("nsl-kdd", tmp_path).fingerprint != small.fingerprint


def test_rows_without_a_label_are_told(kdd_folder: Path, tmp_path: Path) -> None:
    """They count as normal, and a note says how many."""
    text = (kdd_folder / "KDDTest+.txt").read_text().splitlines()
    file = tmp_path / "KDDTest+.txt"
    file.write_text("\n".join([*text, *(line.rsplit(",", 2)[0] + ",,21" for line in text[:7])]) + "\n")
    dataset = load_dataset("nsl-kdd", file)

    assert "7 records have no label and are taken as normal." in dataset.notes
    assert dataset.normal[-7:].all()


def test_records_that_cannot_be_judged_are_counted(kdd_folder: Path, tmp_path: Path) -> None:
    """A broken line is left out, and said to be."""
    file = tmp_path / "KDDTest+.txt"
    file.write_text((kdd_folder / "KDDTest+.txt").read_text() + "no,record,at,all\n")
    dataset = load_dataset("nsl-kdd", file)

    assert (dataset.features.num_rows, dataset.n_rejected) == (500, 1)


def test_a_limit_reads_the_first_records_of_each_file(kdd_folder: Path, small: Dataset) -> None:
    """For a quick look: the first rows, as they stand."""
    some = load_dataset("nsl-kdd", kdd_folder, limit=50)

    assert some.features.num_rows == 100
    assert some.features.slice(0, 50).equals(small.features.slice(0, 50))


@pytest.mark.parametrize(
    ("name", "part", "error", "message"),
    [
        ("nsl", None, DatasetError, "expected one of nsl-kdd"),
        ("synthetic", "test", DatasetError, "expected days"),
        ("nsl-kdd", "tset", SourceError, "no part 'tset'"),
    ],
)
def test_what_is_not_there_is_named(
    kdd_folder: Path, name: str, part: str | None, error: type[Exception], message: str
) -> None:
    """The message says what there is."""
    with pytest.raises(error, match=message):
        load_dataset(name, kdd_folder if name != "synthetic" else None, part=part)


@pytest.mark.data
def test_only_real_times_make_an_order(data_dir: Path) -> None:
    """The raw UNSW records are split by time, the partition, whose times are made up, by chance."""
    raw = load_dataset("unsw-nb15", data_dir)
    partition = load_dataset("unsw-nb15", data_dir, part="partition", limit=4000)

    assert (raw.order, partition.order) == ("time", "none")
    assert raw.features.num_rows == 20_000
