"""Evaluation: the rows that are right, by the code of the stream, with scores that can be compared."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.bundle import Bundle
from pipeline.judge import judge_rows
from training import evaluate as evaluation
from training.datasets import Dataset, load_dataset
from training.errors import TrainingError
from training.evaluate import evaluate, rows_to_judge, split_again, write_scores
from training.train import Trained


def test_on_its_own_data_a_model_is_judged_by_the_test_part(small: Dataset, trained: Trained) -> None:
    """The split of the training comes out again, from seed and fractions in the manifest."""
    chosen = rows_to_judge(trained.bundle, small)

    np.testing.assert_array_equal(chosen.rows, np.arange(1600, 2100))
    assert evaluate(trained.bundle, small, chosen.rows).figures == trained.figures


def test_on_other_data_it_is_judged_by_all_rows(kdd_folder: Path, trained: Trained) -> None:
    """The test file alone is other data: all its rows count, and the figures are those of training."""
    alone = load_dataset("nsl-kdd", kdd_folder, part="test")
    chosen = rows_to_judge(trained.bundle, alone)

    assert chosen.rows.size == 500
    assert evaluate(trained.bundle, alone, chosen.rows).figures == trained.figures


def test_everything_is_everything(small: Dataset, trained: Trained) -> None:
    """Asked for all rows, it gives all, and warns of those of the training."""
    chosen = rows_to_judge(trained.bundle, small, everything=True)

    assert chosen.rows.size == small.features.num_rows
    assert "training" in chosen.why


def test_a_split_that_comes_out_other_is_refused(small: Dataset, trained: Trained) -> None:
    """Rows of the training must not pass as test rows."""
    bundle: Bundle = replace(trained.bundle, manifest={**trained.bundle.manifest, "seed": 4})

    with pytest.raises(TrainingError, match="comes out other"):
        split_again(bundle, small)


def test_steps_do_not_matter(small: Dataset, trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows judged seven at a time score the same bits as all at once, and as the judge alone."""
    rows = np.arange(1600, 1700)
    whole = evaluate(trained.bundle, small, rows)
    monkeypatch.setattr(evaluation, "ROWS_PER_STEP", 7)
    stepped = evaluate(trained.bundle, small, rows)

    np.testing.assert_array_equal(whole.scores, stepped.scores)
    np.testing.assert_array_equal(whole.p_values, stepped.p_values)
    np.testing.assert_array_equal(whole.scores, judge_rows(trained.bundle, small.take(rows)).scores)


def test_a_scores_file_holds_every_row_to_the_bit(small: Dataset, trained: Trained, tmp_path: Path) -> None:
    """Ids, labels, scores and p-values, in order, for comparison with the stream."""
    rows = np.array([1601, 1603, 1700])
    found = evaluate(trained.bundle, small, rows)
    write_scores(found, tmp_path / "new" / "scores.parquet")
    table = pq.read_table(tmp_path / "new" / "scores.parquet")

    assert table.schema.equals(evaluation.SCORES)
    assert table["flow_id"].to_pylist() == [small.features["flow_id"][int(row)].as_py() for row in rows]
    assert table["label"].to_pylist() == list(small.labels[rows])
    assert table["score"].to_pylist() == found.scores.tolist()
    assert table["p_value"].to_pylist() == found.p_values.tolist()


def test_records_of_another_kind_are_refused(trained: Trained) -> None:
    """A model judges the feature set that it was trained on; the message names both."""
    other = load_dataset("synthetic", part="days", limit=50)

    with pytest.raises(TrainingError, match=r"judges feature set nsl-kdd:\w+, but synthetic has conn:\w+"):
        evaluate(trained.bundle, other, np.arange(10))


def test_no_rows_give_no_figures(small: Dataset, trained: Trained) -> None:
    """There is nothing to say of nothing."""
    with pytest.raises(TrainingError, match="no rows"):
        evaluate(trained.bundle, small, np.arange(0))
