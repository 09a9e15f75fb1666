"""The registry of sources: a dataset's name -> where its files are looked for and how they are read."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path

from connectors.base import Source
from connectors.errors import SourceError
from connectors.replay import again, rebased
from connectors.source_kdd import KDD99, NSL_KDD
from connectors.source_synthetic import SENSOR, START, SyntheticSource
from connectors.source_table import Dataset, TableSource
from connectors.source_unsw import UNSW_CONN, UNSW_NB15
from connectors.synthetic.habits import WORKSTATIONS

DATA_VARIABLE = "WEIR_DATA"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A dataset of the registry."""

    about: str
    dataset: Dataset | None  # None: generated, there is no file
    folder: str = ""
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # part -> file names, best first


_UNSW_RAW_PARTS = {
    "raw": ("UNSW-NB15_1.csv", "UNSW-NB15_1_first20000.parquet"),
    "raw-2": ("UNSW-NB15_2.csv",),
    "raw-3": ("UNSW-NB15_3.csv",),
    "raw-4": ("UNSW-NB15_4.csv",),
}

SOURCES: dict[str, Entry] = {
    "nsl-kdd": Entry(
        about="NSL-KDD: KDD Cup 1999 without repeats",
        dataset=NSL_KDD,
        folder="nsl_kdd",
        parts={
            "train": ("KDDTrain+.txt", "KDDTrain+.parquet"),
            "test": ("KDDTest+.txt", "KDDTest+.parquet"),
            "train-20": ("KDDTrain+_20Percent.txt",),
            "test-21": ("KDDTest-21.txt",),
        },
    ),
    "kdd99": Entry(
        about="KDD Cup 1999, 10 % of the training data and the labelled test data",
        dataset=KDD99,
        folder="kdd99",
        parts={
            "train": (
                "kddcup.data_10_percent",
                "kddcup.data_10_percent.gz",
                "kddcup.data_10_percent.parquet",
            ),
            "test": ("corrected", "corrected.gz", "corrected.parquet"),
            "full": ("kddcup.data", "kddcup.data.gz"),
        },
    ),
    "unsw-nb15": Entry(
        about="UNSW-NB15, raw files or partition, in its own columns",
        dataset=UNSW_NB15,
        folder="unsw_nb15",
        parts={
            **_UNSW_RAW_PARTS,
            "partition": ("UNSW_NB15_partition_82332.parquet", "UNSW_NB15_training-set.csv"),
            "train": ("UNSW_NB15_training-set.csv", "UNSW_NB15_training-set.parquet"),
            "test": (
                "UNSW_NB15_testing-set.csv",
                "UNSW_NB15_testing-set.parquet",
                "UNSW_NB15_partition_82332.parquet",
            ),
        },
    ),
    "unsw-conn": Entry(
        about="UNSW-NB15, raw files, as plain flows",
        dataset=UNSW_CONN,
        folder="unsw_nb15",
        parts=_UNSW_RAW_PARTS,
    ),
    "synthetic": Entry(about="a small office with its habits and attacks, generated", dataset=None),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """What to generate; see `SyntheticSource`."""

    seed: int = 0
    days: int = 1
    start: date = START
    attacks: bool | tuple[str, ...] = True
    scale: float = 1.0
    workstations: int = WORKSTATIONS


def open_source(
    dataset: str,
    path: Path | None = None,
    *,
    sensor: str | None = None,
    part: str | None = None,
    run: int = 0,
    shift_us: int = 0,
    generated: Generated | None = None,
) -> Source:
    """Return a dataset as a source of flow records.

    Parameters
    ----------
    dataset : str
        A name in `SOURCES`.
    path : Path, optional
        The file itself, or a folder that holds it (under its public name, there or in the
        dataset's subfolder). Default: the folder named by the environment variable WEIR_DATA.
    sensor : str, optional
        Where the flows were observed; default: the dataset's name.
    part : str, optional
        Which of the dataset's files; default: the first part of its entry.
    run : int
        Of a deliberate second replay: 1 or more enters the ids, so that its flows are new ones.
    shift_us : int
        Microseconds added to every event time.
    generated : Generated, optional
        What to generate, for `synthetic` only.

    Raises
    ------
    SourceError
        If there is no such dataset, part or file, or the file is not of this dataset.
    """
    entry = _entry(dataset)
    if sensor == "":
        raise SourceError("the sensor's name is empty, expected where the flows were observed")
    if generated is not None and entry.dataset is not None:
        raise SourceError(f"{dataset} is read from a file; only synthetic takes a seed, days or attacks")
    source: Source = (
        _generate(dataset, path, part, sensor, generated)
        if entry.dataset is None
        else TableSource(_find(dataset, entry, path, part), entry.dataset, sensor=sensor)
    )
    if run:
        return again(source, run, shift_us)
    return rebased(source, shift_us) if shift_us else source


def _entry(dataset: str) -> Entry:
    if dataset not in SOURCES:
        raise SourceError(f"no dataset {dataset!r}; expected one of {', '.join(SOURCES)}")
    return SOURCES[dataset]


def _generate(
    dataset: str, path: Path | None, part: str | None, sensor: str | None, generated: Generated | None
) -> Source:
    if path is not None or part is not None:
        raise SourceError(f"{dataset} is generated: it takes neither a file nor a part")
    return SyntheticSource(**asdict(generated or Generated()), sensor=SENSOR if sensor is None else sensor)


def _find(dataset: str, entry: Entry, path: Path | None, part: str | None) -> Path:
    """Return the file of a dataset; an explicit file is taken as it is."""
    if path is not None and not path.is_dir():
        return path
    part = next(iter(entry.parts)) if part is None else part
    if part not in entry.parts:
        raise SourceError(f"{dataset} has no part {part!r}; expected one of {', '.join(entry.parts)}")
    folder = path or _data_folder(dataset)
    names = entry.parts[part]
    candidates = [place / name for name in names for place in (folder / entry.folder, folder)]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        raise SourceError(
            f"{dataset}, part {part}: found none of {', '.join(names)} in {folder / entry.folder} or "
            f"{folder}; give the file or its folder with --data, or set {DATA_VARIABLE} to the folder"
        )
    return found


def _data_folder(dataset: str) -> Path:
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise SourceError(
            f"{dataset}: no file given and {DATA_VARIABLE} is not set; give the file or its folder with "
            f"--data, or set {DATA_VARIABLE} to the folder of the datasets"
        )
    return Path(folder)
