"""Pictures of a model, for its card: what people see faster than they read."""

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from detectors.base import Scores
from pipeline.terms import NamedTerm
from training.evaluate import Evaluation
from training.metrics import NORMAL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DIRECTIONS = 8
"""Terms drawn at most."""

BINS = 60
SIZE = (6.4, 3.6)


def pictures(calibration: Scores, found: Evaluation, terms: tuple[NamedTerm, ...]) -> Mapping[str, bytes]:
    """Return PNG files by name: `scores.png`, `calibration.png` and, with noise directions, `loadings.png`.

    Parameters
    ----------
    calibration : ndarray of shape (n,)
        Scores of held-out normal rows that no part of the model has seen.
    found : Evaluation
        Of the test part.
    terms : tuple of NamedTerm
        What the parts of the score are about.
    """
    drawn: dict[str, Callable[[Axes], None]] = {
        "scores.png": lambda axes: _scores(axes, calibration, found),
        "calibration.png": lambda axes: _calibration(axes, found),
    }
    directions = [term for term in terms if term.term.kind == "noise_direction" and term.loadings][
        :DIRECTIONS
    ]
    if directions:
        drawn["loadings.png"] = lambda axes: _loadings(axes, directions)
    return {name: _png(draw) for name, draw in drawn.items()}


def _png(draw: "Callable[[Axes], None]") -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure.add_subplot())
    content = io.BytesIO()
    # Without the library's name in it the same model gives the same bytes.
    figure.savefig(content, dpi=110, format="png", metadata={"Software": None})
    return content.getvalue()


def _scores(axes: "Axes", calibration: Scores, found: Evaluation) -> None:
    """Draw how scores of calibration, normal test rows and attacks lie."""
    normal = found.kinds == NORMAL
    groups = {
        "calibration (normal)": calibration,
        "test, normal": found.scores[normal],
        "test, attacks": found.scores[~normal],
    }
    groups = {name: scores for name, scores in groups.items() if scores.size}
    every = np.concatenate(list(groups.values()))
    low, high = np.quantile(every, [0.0005, 0.9995])
    logarithmic = low > 0 and high / low > 100
    edges = (
        np.geomspace(low, high, BINS)
        if logarithmic
        else np.linspace(low, high if high > low else low + 1, BINS)
    )
    for name, scores in groups.items():
        shares = np.full(scores.size, 1.0 / scores.size)
        axes.hist(
            np.clip(scores, edges[0], edges[-1]),
            bins=list(edges),
            weights=shares,
            histtype="step",
            label=name,
        )
    axes.set(xlabel="score", ylabel="share of rows", yscale="log", xscale="log" if logarithmic else "linear")
    axes.legend(fontsize="small")


def _calibration(axes: "Axes", found: Evaluation) -> None:
    """Draw which share of normal test rows has a p-value of at most each level."""
    p_values = np.sort(found.p_values[found.kinds == NORMAL])
    levels = np.geomspace(1e-6, 1.0, 200)
    observed = np.searchsorted(p_values, levels, side="right") / max(1, p_values.size)
    axes.plot(levels, levels, color="grey", linestyle=":", label="as stated")
    axes.plot(levels, np.where(observed > 0, observed, np.nan), label="normal rows of the test part")
    if p_values.size:
        axes.axhline(1 / p_values.size, color="grey", linewidth=0.5)
    axes.set(xlabel="stated false-alarm rate (alpha)", ylabel="observed", xscale="log", yscale="log")
    axes.legend(fontsize="small")


def _loadings(axes: "Axes", directions: list[NamedTerm]) -> None:
    """Draw how strongly columns move each noise direction."""
    columns = list(dict.fromkeys(loading.column.label for term in directions for loading in term.loadings))
    values = np.zeros((len(directions), len(columns)))
    for row, term in enumerate(directions):
        for loading in term.loadings:
            values[row, columns.index(loading.column.label)] = loading.value
    most = float(np.abs(values).max()) or 1.0
    shown = axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    axes.set_yticks(range(len(directions)), [term.term.id for term in directions])
    axes.set_xticks(range(len(columns)), columns, rotation=90, fontsize="x-small")
    axes.figure.colorbar(shown, ax=axes, label="loading, sd")
