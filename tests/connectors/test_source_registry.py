"""The registry: which file a dataset's name leads to, and what is said where there is none."""

from collections.abc import Callable
from pathlib import Path

import pytest

from connectors.errors import SourceError
from connectors.source_synthetic import SyntheticSource
from connectors.sources import SOURCES, Generated, open_source

LINE = "0,tcp,http,SF," + "1," * 37


def nsl(path: Path, label: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{LINE}{label},21\n")
    return path


def label(**arguments: object) -> str:
    """Return the label of the only record: tells which file was opened."""
    (chunk,) = open_source("nsl-kdd", **arguments).chunks()  # keywords of the test
    return str(chunk.rows["label"][0])


@pytest.mark.parametrize("folder", ["", "nsl_kdd"])
def test_files_are_found_under_their_public_names(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder itself or the dataset's own one, given or from WEIR_DATA; train is the default."""
    nsl(tmp_path / folder / "KDDTrain+.txt", "train")
    nsl(tmp_path / folder / "KDDTest+.txt", "test")
    monkeypatch.setenv("WEIR_DATA", str(tmp_path))

    assert [label(), label(part="test"), label(path=tmp_path)] == ["train", "test", "train"]


def test_an_explicit_file_goes_before_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named is opened, whatever its name and WEIR_DATA."""
    nsl(tmp_path / "KDDTrain+.txt", "train")
    monkeypatch.setenv("WEIR_DATA", str(tmp_path))

    assert label(path=nsl(tmp_path / "mine", "mine")) == "mine"


def without_data(_: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEIR_DATA", raising=False)
    open_source("nsl-kdd")


def without_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_DATA", str(folder))
    open_source("nsl-kdd", part="test")


MISTAKES: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {
    r"nsl-kdd: no file given and WEIR_DATA is not set; give .* with --data, or set WEIR_DATA": without_data,
    r"found none of KDDTest\+\.txt, KDDTest\+\.parquet in .*nsl_kdd or .*--data": without_file,
    r"no dataset 'nslkdd'; expected one of nsl-kdd, kdd99, .*synthetic": lambda *_: open_source("nslkdd"),
    r"no part 'tset'; expected one of train, test": lambda path, _: open_source("nsl-kdd", path, part="tset"),
    r"nowhere: no such file; expected NSL-KDD": lambda path, _: open_source("nsl-kdd", path / "nowhere"),
    r"synthetic is generated: it takes neither": lambda path, _: open_source("synthetic", path),
    r"the sensor's name is empty": lambda *_: open_source("synthetic", sensor=""),
    r"kdd99 is read from a file; only synthetic": lambda *_: open_source("kdd99", generated=Generated()),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_mistake_gets_one_clear_sentence(
    message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong, what was looked for and where, and what to do about it."""
    with pytest.raises(SourceError, match=message) as caught:
        MISTAKES[message](tmp_path, monkeypatch)
    assert "\n" not in str(caught.value)


def test_the_synthetic_site_is_opened_by_name() -> None:
    """Its options arrive, and its ids are those of the source opened directly."""
    opened = open_source(
        "synthetic", sensor="roof", generated=Generated(seed=4, days=2, scale=0.01, attacks=("beaconing",))
    )
    direct = SyntheticSource(seed=4, days=2, scale=0.01, attacks=("beaconing",), sensor="roof")

    assert (opened.source_id, opened.n_records) == (direct.source_id, direct.n_records)
    assert next(opened.chunks(rows=1)).rows["sensor"].to_pylist() == ["roof"]


def test_every_dataset_says_what_it_is() -> None:
    """Names are as the commands write them; every dataset of files has parts to look for."""
    for name, entry in SOURCES.items():
        assert name == name.lower().strip()
        assert entry.about
        assert bool(entry.parts) == (entry.dataset is not None)


@pytest.mark.data
@pytest.mark.parametrize(
    ("dataset", "part", "n_records"),
    [("nsl-kdd", None, 125_973), ("unsw-nb15", None, 20_000), ("unsw-nb15", "partition", 82_332),
     ("unsw-conn", None, 20_000), ("kdd99", "test", 311_029)],
)  # fmt: skip
def test_public_files_are_found(dataset: str, part: str | None, n_records: int, data_dir: Path) -> None:
    """The public data folder needs no file names."""
    assert open_source(dataset, data_dir, part=part).n_records == n_records
