"""What a model says of labelled rows: scores, p-values and figures, by the code of the live stream."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.bundle import Bundle
from pipeline.history import Depth, Past
from pipeline.judge import judge_rows
from training.datasets import Dataset
from training.errors import TrainingError
from training.lending import lend
from training.metrics import ALPHAS, Figures, Floats, Labels, figures
from training.splits import Fractions, Rows, Split

ROWS_PER_STEP = 65_536
"""Rows judged at once: keeps memory flat; scores do not depend on it."""

SCORES = pa.schema(
    [
        pa.field("flow_id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
        pa.field("p_value", pa.float64(), nullable=False),
    ]
)
"""Columns of a scores file."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Rows in their order, what they are, and what the model says of them."""

    flow_ids: pa.Array
    kinds: Labels
    scores: Floats
    p_values: Floats
    figures: Figures


def evaluate(bundle: Bundle, dataset: Dataset, rows: Rows, *, alphas: Sequence[float] = ALPHAS) -> Evaluation:
    """Judge some rows of a dataset as the live stream does and count what came of it.

    Raises
    ------
    TrainingError
        If model and dataset are not of one feature set, or there are no rows.
    """
    if bundle.feature_set.id != dataset.feature_set.id:
        raise TrainingError(
            f"model {bundle.name}/{bundle.version} judges feature set {bundle.feature_set.id}, but "
            f"{dataset.name} has {dataset.feature_set.id}; take a model trained on such records"
        )
    scores, p_values = np.empty(rows.size), np.empty(rows.size)
    depth = Depth.of([bundle.detector])
    past: Past | None = None
    for start in range(0, rows.size, ROWS_PER_STEP):
        step = slice(start, start + ROWS_PER_STEP)
        features = dataset.take(rows[step])
        judged = judge_rows(bundle, features, past)
        scores[step], p_values[step] = judged.scores, judged.p_values
        past = depth.past(past, features)
    kinds = dataset.labels[rows]
    return Evaluation(
        flow_ids=dataset.features.column("flow_id").take(pa.array(rows)),
        kinds=kinds,
        scores=scores,
        p_values=p_values,
        figures=figures(kinds, scores, p_values, alphas=alphas),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """Rows to judge, and why these."""

    rows: Rows
    why: str


def rows_to_judge(bundle: Bundle, dataset: Dataset, *, everything: bool = False) -> Chosen:
    """Return the test part where the dataset is the one of the training, all rows otherwise.

    Rows that the model was fitted or calibrated on would flatter it.
    """
    all_rows = np.arange(dataset.features.num_rows, dtype=np.int64)
    if everything:
        return Chosen(rows=all_rows, why="all rows, also those of the training if they are among them")
    split = split_again(bundle, dataset)
    if split is None:
        return Chosen(rows=all_rows, why="all rows: these are not the data of the training")
    return Chosen(rows=split.test, why="the test part of the training's split")


def split_again(bundle: Bundle, dataset: Dataset) -> Split | None:
    """Return the split of a model's training, or None if it was trained on other data.

    Raises
    ------
    TrainingError
        If the split that the manifest records cannot be made again from the same data.
    """
    data = bundle.manifest["data"]
    if data.get("fingerprint") != dataset.fingerprint:
        return None
    fractions = Fractions(**data["fractions"]) if data.get("fractions") else None
    seed, share = bundle.manifest["seed"], data.get("lent_share")
    split = dataset.split(seed=seed, fractions=fractions)
    if share is not None:
        split = lend(split, dataset, uses=bundle.detector.uses, share=share, seed=seed)
    again, recorded = split.summary()["parts"], data["split"]["parts"]
    if any(again[part]["sha256"] != recorded[part]["sha256"] for part in again):
        raise TrainingError(
            f"the split of {dataset.name} comes out other than the one in the manifest of "
            f"{bundle.name}/{bundle.version}; judge all rows, or train again with this version of weir"
        )
    return split


def write_scores(evaluation: Evaluation, path: Path) -> None:
    """Write flow_id, label, score and p_value of each row as Parquet, in order."""
    columns = [
        evaluation.flow_ids,
        pa.array(evaluation.kinds, pa.string()),
        pa.array(evaluation.scores),
        pa.array(evaluation.p_values),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_arrays(columns, schema=SCORES), path)
