"""The quality table: resumable, honest about chance, made of every run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from training.comparison import CONTENDERS as CONTENDERS_OF_THE_PAGE
from training.comparison import Cache, Contender, Flows, Outliers, Run, baselines, compare
from training.datasets import Dataset, load_dataset
from training.errors import DatasetError, TrainingError
from training.odds import RECIPES, OutlierSet, load_outlier_set
from training.report import markdown, picture
from training.train import Trained

CONTENDERS = (
    Contender(label="robust_z", detector="robust_z"),
    Contender(label="kNN", detector="knn", random=True),
)


def run_all(small: Dataset, cache: Path, seeds: int = 2) -> list[Run]:
    return compare([Flows(small)], seeds=seeds, cache=Cache(cache), contenders=CONTENDERS)


@pytest.fixture
def no_more_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> dict[str, object]:
        raise AssertionError("this run was finished before")

    monkeypatch.setattr(Flows, "measure", refuse)


def test_every_contender_runs_with_every_seed(small: Dataset, tmp_path: Path) -> None:
    """A shuffled split makes every detector depend on the seed."""
    runs = run_all(small, tmp_path / "runs.jsonl")

    assert [(run.contender, run.seed) for run in runs] == [
        ("robust_z", 0),
        ("robust_z", 1),
        ("kNN", 0),
        ("kNN", 1),
    ]
    assert len({run.roc_auc for run in runs}) == 4


def test_what_is_not_random_runs_once(small: Dataset, tmp_path: Path) -> None:
    """Where order fixes the split, a second seed of a deterministic detector would show nothing."""
    runs = run_all(replace(small, order="rows"), tmp_path / "runs.jsonl", seeds=3)

    assert {label: sum(run.contender == label for run in runs) for label in ("robust_z", "kNN")} == {
        "robust_z": 1,
        "kNN": 3,
    }


def test_an_interrupted_comparison_goes_on(
    small: Dataset, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Finished runs are read back, to the bit; a line cut off by the interruption is no run."""
    cache = tmp_path / "runs.jsonl"
    before = run_all(small, cache)
    cache.write_text(cache.read_text() + '{"key": "cut o')
    request.getfixturevalue("no_more_runs")

    assert run_all(small, cache) == before


def test_a_run_appended_behind_a_cut_line_is_kept(small: Dataset, tmp_path: Path) -> None:
    """Going on after an interruption does not glue the next run to the broken line."""
    cache = tmp_path / "runs.jsonl"
    run_all(small, cache, seeds=1)
    cache.write_text(cache.read_text() + '{"key": "cut o')
    runs = run_all(small, cache, seeds=2)

    assert all(Cache(cache).get(run.key) == run for run in runs)


def test_other_data_make_other_runs(small: Dataset, tmp_path: Path) -> None:
    """A figure of other data is never taken for one of these."""
    cache = tmp_path / "runs.jsonl"
    keys = {run.key for run in run_all(small, cache)}
    changed = run_all(replace(small, fingerprint="0" * 64), cache)

    assert not keys & {run.key for run in changed}


def test_the_page_shows_mean_and_spread_and_protocol(small: Dataset, tmp_path: Path) -> None:
    """Means and standard deviations are those of the runs; the protocol and its traps are named."""
    runs = run_all(small, tmp_path / "runs.jsonl", seeds=3)
    page = markdown(runs, [small], seeds=3)
    values = [run.roc_auc for run in runs if run.contender == "kNN"]

    assert f"| kNN | {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f} |" in page
    assert "fit 900, val 150, cal 450, test 500" in page
    assert "Chance has average precision 0.200" in page
    assert "`weir figures --seeds 3 --out docs`" in page
    assert "Event times are synthetic" in page


def test_the_picture_is_small(small: Dataset, tmp_path: Path) -> None:
    """It can live in a repository."""
    picture(run_all(small, tmp_path / "runs.jsonl", seeds=1), tmp_path / "figures.png")

    assert (tmp_path / "figures.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "figures.png").stat().st_size < 200_000


def test_baselines_see_the_rows_of_the_model(small: Dataset, trained: Trained) -> None:
    """They are fitted on its split and judged by the same rows."""
    split = small.split(seed=3)
    found = baselines(trained.bundle, small, split.test)

    assert set(found) == {"robust_z", "knn"}
    assert all(figures.n == 500 for figures in found.values())


def test_baselines_need_the_data_of_the_training(kdd_folder: Path, trained: Trained) -> None:
    """Without training rows there is nothing to fit them on."""
    alone = load_dataset("nsl-kdd", kdd_folder, part="test")

    with pytest.raises(TrainingError, match="was not trained on this data"):
        baselines(trained.bundle, alone, np.arange(100))


def test_no_seeds_are_refused(small: Dataset, tmp_path: Path) -> None:
    """A table of nothing is a mistake."""
    with pytest.raises(TrainingError, match="expected 1 or more"):
        run_all(small, tmp_path / "runs.jsonl", seeds=0)


OUTLIERS = {"letter": 100, "cardio": 176, "satellite": 75, "optdigits": 150, "pendigits": 156}


@pytest.fixture(scope="module")
def cardio(data_dir: Path) -> OutlierSet:
    return load_outlier_set("cardio", data_dir)


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(RECIPES))
def test_outlier_sets_are_split_as_published(data_dir: Path, name: str) -> None:
    """No outlier is trained on, none is lost, and no row is in two parts."""
    found = load_outlier_set(name, data_dir)
    normal, held_out = found.parts(np.random.default_rng(0))

    assert len(found.train) == RECIPES[name].n_train == len(normal) + len(held_out)
    assert len(found.test) == RECIPES[name].n_test == found.outlier.size
    assert found.outlier.sum() == OUTLIERS[name]


@pytest.mark.data
def test_knn_reaches_its_known_figure_on_an_outlier_set(cardio: OutlierSet, tmp_path: Path) -> None:
    """The nearest neighbour on cardio, all training rows and min-max units: ROC-AUC .937."""
    (run,) = compare(
        [Outliers(cardio)],
        seeds=1,
        cache=Cache(tmp_path / "runs.jsonl"),
        contenders=(Contender(label="kNN", detector="knn"),),
    )

    assert run.roc_auc == pytest.approx(0.937, abs=0.02)
    assert run.observed is None


@pytest.mark.data
def test_the_page_has_a_row_for_each_detector_on_outlier_sets(cardio: OutlierSet, tmp_path: Path) -> None:
    """Known anomalies, sequences and patience are not to be had there: who needs them is left out."""
    chosen = ("knn", "robust_z", "svm", "pu_gan")
    contenders = tuple(each for each in CONTENDERS_OF_THE_PAGE if each.detector in chosen or each.flows_only)
    cache = Cache(tmp_path / "runs.jsonl")
    runs = compare([Outliers(cardio)], seeds=2, cache=cache, contenders=contenders)
    page = markdown(runs, [], [cardio], seeds=2)

    assert len(contenders) == 5
    assert {run.contender for run in runs} == {"kNN", "robust_z"}
    assert "cardio 1,324 + 507 rows (176 outliers), 21 columns" in page
    assert "| kNN | 0.9" in page
    assert page.count("| robust_z |") == 1


def test_a_missing_outlier_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"letter\.parquet.*--data"):
        load_outlier_set("letter", tmp_path)
    with pytest.raises(DatasetError, match="expected one of letter"):
        load_outlier_set("lettre", tmp_path)
