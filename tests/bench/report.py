"""The page of all benchmarks: `python tests/bench/report.py FOLDER PAGE`.

Reads every NAME.json that the benchmarks have left in FOLDER and writes PAGE, with its plots as SVG in
FOLDER. No figure on the page is typed by hand.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rig import Aim, Plot, Report, Table, markdown, shown

ORDER = (
    "stream",
    "sources",
    "peers",
    "windows",
    "scoring",
    "latency",
    "cost",
    "many",
    "storm",
    "detectors",
    "settings",
)
"""Sections that people look for first; others follow by name."""

STYLES = ("-", "--", ":")
MOST_TICKS = 8

HEAD = """# Performance

Written by `make performance`; do not edit. Every figure comes from a run of the commands below.

## How to repeat

```sh
make bench # short forms, printed
make performance # long forms, then this page
```

They need Linux and, for Apache Kafka, Java 17 and Maven; without those they run on the local broker and say
so. One benchmark alone: `python tests/bench/bench_stream.py --help`, and so on for each section. The machine
should do nothing else meanwhile: wall-clock figures suffer at once, figures per CPU-second less.
"""


@dataclass(frozen=True)
class Result:
    """A report as a benchmark left it."""

    report: Report
    environment: dict[str, str]
    short: bool

    @property
    def anchor(self) -> str:
        """What the page links to."""
        kept = "".join(c for c in self.report.title.lower() if c.isalnum() or c in " -_")
        return kept.replace(" ", "-")


def read(path: Path) -> Result:
    """Return what a benchmark has left."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    environment, short = found.pop("environment"), found.pop("short")
    tables = [Table(**table) for table in found.pop("tables")]
    plots = [Plot(**plot) for plot in found.pop("plots")]
    aims = [Aim(**aim) for aim in found.pop("aims")]
    return Result(Report(**found, tables=tables, plots=plots, aims=aims), environment, short)


def page(results: Sequence[Result], plots: str) -> str:
    """Return the page; `plots` is where the plots lie, as seen from it."""
    sections = [HEAD, _aims(results), *(_section(result, plots) for result in results)]
    return "\n".join(sections)


def _aims(results: Sequence[Result]) -> str:
    rows = [_aim(result, aim) for result in results for aim in result.report.aims]
    n_met = sum(aim.is_met for result in results for aim in result.report.aims)
    lines = ["## Aims", "", f"{n_met} of {len(rows)} are met.", ""]
    return "\n".join([*lines, "| aim | wanted | measured | |", "|---|---|---|---|", *rows, ""])


def _aim(result: Result, aim: Aim) -> str:
    limit = "at most" if aim.at_most else "at least"
    name = f"[{aim.what}](#{result.anchor})"
    told = "met" if aim.is_met else f"**missed** ({shown(100 * aim.measured / aim.wanted)} % of it)"
    return f"| {name} | {limit} {_quantity(aim.wanted, aim)} | {_quantity(aim.measured, aim)} | {told} |"


def _quantity(value: float, aim: Aim) -> str:
    return f"{shown(value)} {aim.unit}".rstrip()


def _section(result: Result, plots: str) -> str:
    report = result.report
    parts = [f"## {report.title}", report.protocol.strip()]
    parts += ["The short form: few data, few repeats."] if result.short else []
    parts += ["\n".join(f"- {name}: {value}" for name, value in result.environment.items())]
    parts += [markdown(table).strip() for table in report.tables]
    named = zip(report.plots, picture_names(report), strict=True)
    parts += [f"![{plot.title}]({plots}/{name})" for plot, name in named]
    return "\n\n".join(parts) + "\n"


def picture_names(report: Report) -> list[str]:
    """Return the file of each plot."""
    return [f"{report.name}-{number}.svg" for number in range(1, len(report.plots) + 1)]


def draw(plot: Plot, path: Path) -> None:
    """Draw lines over one axis as an SVG whose bytes follow from its figures."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "weir", "svg.fonttype": "none"}):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        for number, (name, (x, y)) in enumerate(plot.lines.items()):
            style = STYLES[number // 10 % len(STYLES)]  # ten colours
            axes.plot(x, y, style, marker="o", label=name)
        axes.set(title=plot.title, xlabel=plot.x_label, ylabel=plot.y_label)
        if plot.log_x:
            axes.set_xscale("log")
            _measured_ticks(axes, plot)
        if plot.log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.grid(visible=True, alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        figure.savefig(path, metadata={"Date": None})


def _measured_ticks(axes: Any, plot: Plot) -> None:
    """Label the places that were measured, where they are few, not powers of ten."""
    places = sorted({value for x, _ in plot.lines.values() for value in x})
    if len(places) <= MOST_TICKS:
        axes.set_xticks(places, [shown(place) for place in places])
        axes.set_xticks([], minor=True)


def write(folder: Path, target: Path) -> None:
    """Write the page of all results in a folder, and their plots."""
    results = [read(path) for path in sorted(folder.glob("*.json"))]
    names = [*ORDER, *(result.report.name for result in results)]
    results.sort(key=lambda result: names.index(result.report.name))
    for result in results:
        for plot, name in zip(result.report.plots, picture_names(result.report), strict=True):
            draw(plot, folder / name)
    target.write_text(page(results, os.path.relpath(folder, target.parent)), encoding="utf-8")


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the benchmarks left their figures (--results)")
    parser.add_argument("page", type=Path, help="the Markdown file to write")
    args = parser.parse_args()
    if not any(args.folder.glob("*.json")):
        parser.error(f"{args.folder} holds no results; run a benchmark with --results {args.folder} first")
    write(args.folder, args.page)


if __name__ == "__main__":
    main()
