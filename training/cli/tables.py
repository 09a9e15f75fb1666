"""Figures as tables for people."""

from rich.console import Console
from rich.table import Table

from training.metrics import COMMON_PREVALENCE, Figures


def show_figures(title: str, figures: Figures, console: Console) -> None:
    """Print the figures of a test part: ranking, false alarms, attacks found by kind."""
    console.print(f"[bold]{title}[/bold]: {figures.n:,} flows, {figures.n_attacks:,} of them attacks")
    console.print(_ranking(figures))
    if figures.false_alarms:
        console.print(_alarms(figures))
    if any(figures.by_kind.values()):
        console.print(_kinds(figures))


def compared(rows: dict[str, Figures]) -> Table:
    """Return one line of ranking figures for each detector."""
    table = Table("detector", "ROC-AUC", "average precision", f"at {COMMON_PREVALENCE:.0%} attacks")
    for name, found in rows.items():
        values = (found.roc_auc, found.average_precision, found.average_precision_common)
        table.add_row(name, *(_figure(value) for value in values))
    return table


def _ranking(figures: Figures) -> Table:
    table = Table("figure", "value", "chance", title="Ranking by score", title_justify="left")
    table.add_row("ROC-AUC", _figure(figures.roc_auc), "0.5")
    table.add_row("average precision", _figure(figures.average_precision), f"{figures.prevalence:.4f}")
    common = _figure(figures.average_precision_common)
    table.add_row(f"average precision at {COMMON_PREVALENCE:.0%} attacks", common, f"{COMMON_PREVALENCE:g}")
    for row in figures.recall_at_fpr:
        shown = f"- ({row.note})" if row.recall is None else _figure(row.recall)
        table.add_row(f"recall at {row.fpr:g} false positives", shown, f"{row.fpr:g}")
    return table


def _alarms(figures: Figures) -> Table:
    table = Table(
        "alpha", "flagged", "observed", "95 % interval", "observed / stated",
        title="False alarms on normal flows", title_justify="left",
    )  # fmt: skip
    for row in figures.false_alarms:
        flagged = f"{row.n_flagged:,} of {row.n_normal:,}"
        interval = f"{row.low:.2g} to {row.high:.2g}"
        table.add_row(f"{row.alpha:g}", flagged, f"{row.observed:.3g}", interval, f"{row.ratio:.2f}")
    return table


def _kinds(figures: Figures) -> Table:
    table = Table("kind", "flows", title="Attack flows flagged", title_justify="left")
    columns = list(figures.by_kind.values())
    for alpha in figures.by_kind:
        table.add_column(f"alpha {alpha}", justify="right")
    for rows in zip(*columns, strict=True):
        shares = (f"{row.found:,} ({row.recall:.0%})" for row in rows)
        table.add_row(rows[0].kind, f"{rows[0].n:,}", *shares)
    return table


def _figure(value: float | None) -> str:
    return "needs attacks and normal flows" if value is None else f"{value:.4f}"
