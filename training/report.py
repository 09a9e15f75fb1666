"""The quality table as Markdown and as a picture."""

import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from training.comparison import ALPHA, CONTENDERS, Run
from training.datasets import Dataset
from training.metrics import COMMON_PREVALENCE, NORMAL, prevalence, trivial_f1
from training.odds import OutlierSet
from training.splits import shared_rows

LIBRARIES = ("numpy", "scipy", "scikit-learn", "pybnesian")
COMMAND = "weir figures --seeds {seeds} --out docs"

HEAD = (
    "| detector | ROC-AUC | average precision | average precision at {common:.0%} attacks "
    "| false alarms at alpha {alpha:g} | fit, s | runs |\n"
    "|---|---|---|---|---|---|---|"
)

READING = f"""\
Mean ± standard deviation over seeds; a single figure where nothing depends on the seed. Fitted on normal
traffic alone, with the parameters named below; labels of the test part are counted, never chosen by. Where
a name says so, a detector is lent more than that, and is to be compared with care: known attacks, a tenth
as many as normal rows, of the kinds that the training part (or the earlier half of the attacks) happens to
hold; or half of the normal rows as unlabelled ones, with a tenth of attacks among them.

Parameters are the defaults, the same on all datasets. Those of hbos, ocsvm, dte_nn, mo_gaal,
gan_discriminator, pu_gan, egbad and alad that seemed to matter were compared on anomalies planted among
normal training rows ([table](performance.md#settings-chosen-without-labels)), and what that did not confirm
was changed. Before, some of them, and others of pu_gan, had been tried with figures on NSL-KDD's test part
in sight: where they stayed, its figures flatter them to that extent.

*Average precision at {COMMON_PREVALENCE:.0%} attacks* weighs the rows as if so many were attacks, so that
datasets can be compared; it is nearer to live traffic than the share that the dataset happens to have.
*False alarms* is the share of normal test rows with a p-value of at most {ALPHA:g}; the stated share is
{ALPHA:g}. On a dataset whose normal rows of test and training differ, it differs too.
"""


def markdown(
    runs: Sequence[Run],
    datasets: Sequence[Dataset],
    outliers: Sequence[OutlierSet] = (),
    *,
    seeds: int,
    plotted: str = "",
) -> str:
    """Return the page: protocol and table of each dataset, and the environment.

    Parameters
    ----------
    runs : sequence of Run
        As `comparison.compare` returns them.
    datasets : sequence of Dataset
        The datasets of the runs.
    outliers : sequence of OutlierSet
        The outlier sets of the runs.
    seeds : int
        Number of seeds, for the command that makes the page again.
    plotted : str
        Name of the picture beside the page, if there is one.
    """
    command = COMMAND.format(seeds=seeds) + (" --plot" if plotted else "")
    blocks = [
        "# Detection quality",
        f"Written by `{command}`; do not edit.",
        READING,
        *([f"![ROC-AUC of every run]({plotted})"] if plotted else []),
        *(_section([run for run in runs if run.dataset == dataset.name], dataset) for dataset in datasets),
        *_outlier_sets(runs, outliers),
        "## Detectors",
        *_detectors(),
        "## Environment",
        environment(),
    ]
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def environment() -> str:
    """Return interpreter, libraries and machine in one line, without names of hosts or people."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    return (
        f"Python {sys.version.split()[0]}, {libraries}; {platform.system()} {platform.machine()}, "
        f"{os.cpu_count()} cores, {threads} BLAS thread(s). "
        "Times are of this machine, with whatever else it did."
    )


def _section(runs: Sequence[Run], dataset: Dataset) -> str:
    head = HEAD.format(common=COMMON_PREVALENCE, alpha=ALPHA)
    lines = [_line(contender.label, runs) for contender in CONTENDERS]
    table = "\n".join([head, *(line for line in lines if line)])
    return f"## {dataset.name}\n\n{_protocol(dataset)}\n\n{table}"


def _protocol(dataset: Dataset) -> str:
    split = dataset.split(seed=0)
    attack = np.asarray(dataset.labels[split.test] != NORMAL, dtype=np.bool_)
    parts = ", ".join(f"{name} {rows.size:,}" for name, rows in split.parts.items())
    values = [dataset.features.column(f.name).to_numpy() for f in dataset.feature_set.features]
    matrix = np.stack(values, axis=1).astype(np.float32)
    repeated = shared_rows(matrix[split.fit], matrix[split.test[~attack]])
    n_attacks, n_normal = int(attack.sum()), int((~attack).sum())
    chance = f"{prevalence(attack):.3f}"
    sentences = [
        f"Feature set `{dataset.feature_set.id}`; {split.protocol}.",
        f"Rows: {parts}; {n_attacks:,} of the test rows are attacks.",
        f"Chance has average precision {chance}; calling everything an attack, F1 {trivial_f1(attack):.3f}.",
        f"{repeated:,} of the {n_normal:,} normal test rows equal a fitted row in every feature.",
        *dataset.notes,
    ]
    return " ".join(sentences)


OUTLIERS = """\
The tabular sets of the adVAE paper in its own split: most normal rows to fit on, the others and every outlier
to judge; 15 % of the rows to fit on, dealt out by seed, are held out for early stopping. They are no network
flows. In each cell ROC-AUC and average precision, means over seeds; no standard deviation is larger than the
one given; fit times are medians. There are no known anomalies to lend: anoean does without, svm cannot;
pu_gan needs sequences; truncation as in BEAA's article had not ended on the 64 columns of optdigits after ten
minutes. These three are left out."""


def _outlier_sets(runs: Sequence[Run], outliers: Sequence[OutlierSet]) -> Iterator[str]:
    if not outliers:
        return
    names = [each.name for each in outliers]
    sizes = ", ".join(
        f"{each.name} {len(each.train):,} + {len(each.test):,} rows ({int(each.outlier.sum())} outliers), "
        f"{each.train.shape[1]} columns"
        for each in outliers
    )
    head = ["detector", *names, "mean", "largest sd", "fit, s"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for contender in CONTENDERS:
        mine = [run for run in runs if run.contender == contender.label]
        found = {name: [run for run in mine if run.dataset == name] for name in names}
        if all(found.values()):
            lines.append(_outlier_line(contender.label, found))
    yield "## Outlier sets"
    yield f"{OUTLIERS} Sets: {sizes}."
    yield "\n".join(lines)


def _outlier_line(label: str, found: Mapping[str, Sequence[Run]]) -> str:
    each = [np.array([(run.roc_auc, run.average_precision) for run in runs]) for runs in found.values()]
    means = np.array([runs.mean(axis=0) for runs in each])
    spread = max(runs.std(axis=0, ddof=1).max() if len(runs) > 1 else 0.0 for runs in each)
    cells = [f"{roc:.3f} {ap:.3f}" for roc, ap in [*means, means.mean(axis=0)]]
    fit_s = np.median([run.fit_s for runs in found.values() for run in runs])
    return f"| {label} | {' | '.join(cells)} | {spread:.3f} | {fit_s:.1f} |"


def _line(label: str, runs: Sequence[Run]) -> str:
    mine = [run for run in runs if run.contender == label]
    if not mine:
        return ""
    cells = [
        _spread([run.roc_auc for run in mine]),
        _spread([run.average_precision for run in mine]),
        _spread([run.average_precision_common for run in mine if run.average_precision_common is not None]),
        _spread([run.observed for run in mine if run.observed is not None]),
        f"{np.median([run.fit_s for run in mine]):.1f}",
        str(len(mine)),
    ]
    return f"| {label} | {' | '.join(cells)} |"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    mean = f"{np.mean(values):.4f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values, ddof=1):.4f}"


def _detectors() -> list[str]:
    lines = []
    for contender in CONTENDERS:
        given = ", ".join(f"{name}={value}" for name, value in contender.parameters.items())
        lines.append(
            f"- {contender.label}: `{contender.detector}`" + (f", {given}" if given else ", defaults")
        )
    return ["\n".join(lines)]


def picture(runs: Sequence[Run], path: Path) -> None:
    """Write the ROC-AUC of every run as points, one panel a dataset, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(run.dataset for run in runs))
    labels = [contender.label for contender in CONTENDERS]
    drawing = Figure(figsize=(2.2 + 1.7 * len(names), 0.8 + 0.22 * len(labels)), layout="constrained")
    FigureCanvasAgg(drawing)
    for place, name in enumerate(names):
        axes = drawing.add_subplot(1, len(names), place + 1)
        mine = [run for run in runs if run.dataset == name]
        places = [labels.index(run.contender) for run in mine]
        axes.plot([run.roc_auc for run in mine], places, "o", alpha=0.5, markersize=4)
        axes.set(title=name, xlabel="ROC-AUC")
        axes.locator_params(axis="x", nbins=4)
        axes.set_yticks(range(len(labels)), labels if place == 0 else [""] * len(labels))
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.grid(visible=True, alpha=0.3)
    drawing.savefig(path, dpi=110)
