"""NSL-KDD and KDD Cup 1999."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from connectors.base import Source
from connectors.records import IDENTITY, KDD
from connectors.sources import open_source

# Invented, with another value in every column that is no rate.
LINE = (
    "7,tcp,http,SF,181,5450,1,2,3,4,5,1,6,8,9,10,11,12,13,14,1,0,15,16,"
    "0.01,0.02,0.03,0.04,0.05,0.06,0.07,17,18,0.08,0.09,0.10,0.11,0.12,0.13,0.14,1.00"
)


def read(source: Source) -> pa.Table:
    return pa.Table.from_batches([chunk.rows for chunk in source.chunks()], source.record_type.schema)


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(("dataset", "ending"), [("nsl-kdd", ",neptune,21"), ("kdd99", ",neptune.")])
def test_every_column_stands_under_its_name(dataset: str, ending: str, tmp_path: Path) -> None:
    """The 41 features are read in order, the label without its dot."""
    row = read(open_source(dataset, written(tmp_path / "a", LINE + ending))).to_pylist()[0]
    values = [row[c.name] for c in KDD.columns if c.name not in IDENTITY]
    expected = [float(cell) if cell[0].isdigit() else cell for cell in LINE.split(",")]

    assert expected == values
    assert (row["label"], row["protocol"], row["sensor"]) == ("neptune", "tcp", dataset)
    assert row["src_ip"] is row["dst_ip"] is row["src_port"] is row["dst_port"] is None


def test_times_are_synthetic_and_said_to_be(tmp_path: Path) -> None:
    """Records are 10 ms apart from a fixed start, by position, and the notes say so."""
    source = open_source("nsl-kdd", written(tmp_path / "a", *[LINE + ",normal,3"] * 3))
    times = read(source)["event_time"].to_pylist()

    assert times == [datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=10 * i) for i in range(3)]
    assert any("synthetic" in note for note in source.notes)


def test_a_missing_label_is_no_label(tmp_path: Path) -> None:
    """An empty label is null, not a class of its own."""
    assert read(open_source("kdd99", written(tmp_path / "a", LINE + ","))).to_pylist()[0]["label"] is None


COUNTS = {
    ("nsl-kdd", "train"): (125_973, {"normal": 67_343, "neptune": 41_214, "satan": 3_633, "spy": 2}, 23),
    ("nsl-kdd", "test"): (22_544, {"normal": 9_711, "neptune": 4_657, "mscan": 996, "imap": 1}, 38),
    ("kdd99", "train"): (494_021, {"smurf": 280_790, "neptune": 107_201, "normal": 97_278, "spy": 2}, 23),
    ("kdd99", "test"): (311_029, {"smurf": 164_091, "normal": 60_593, "httptunnel": 158}, 38),
}


@pytest.mark.data
@pytest.mark.parametrize(("dataset", "part"), COUNTS)
def test_public_files_hold_the_published_counts(dataset: str, part: str, data_dir: Path) -> None:
    """Every record of the public files is good, and each class has its published size."""
    n_records, classes, n_classes = COUNTS[dataset, part]
    found: Counter[str] = Counter()
    rejects = 0
    for chunk in open_source(dataset, data_dir, part=part).chunks(rows=20_000):
        counts = chunk.rows["label"].value_counts().to_pylist()
        found.update({count["values"]: count["counts"] for count in counts})
        rejects += len(chunk.rejects)

    assert (rejects, found.total(), len(found)) == (0, n_records, n_classes)
    assert {name: found[name] for name in classes} == classes
