"""`weir inspect`: what is in a file of flows, without a broker."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.options import examples

if TYPE_CHECKING:
    from rich.console import Console

    from connectors.inspection import Inspection

TOLD = 6  # values of a column
MOST_COLUMNS = 16


@click.command(
    epilog=examples(
        "weir inspect conn.log",
        "weir inspect capture.pcap --json",
        "weir inspect flows.csv --kind argus --rejects 3",
    )
)
@click.argument("path", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--kind", help="What the file is; default: told by its content.")
@click.option("--mapping", metavar="FILE|PRESET", help="Of JSON lines: which value is which column.")
@click.option("--limit", type=click.IntRange(1), help="Only the first N records.")
@click.option(
    "--rejects", "n_rejects", type=click.IntRange(0, 3), default=1, show_default=True,
    help="Rejects shown of each reason.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Counts, span and examples as JSON.")
def inspect(
    *, path: Path, kind: str | None, mapping: str | None, limit: int | None, n_rejects: int, as_json: bool
) -> None:
    """Read a file of flows to its end and say what is in it: kind, counts, rejects, time span, first rows.

    Exit code 1 if it holds no flow at all.
    """
    from rich.console import Console

    from connectors.inspection import inspect as inspected
    from connectors.kinds import open_file
    from pipeline.cli.bars import position_bar

    source = open_file(path, kind=kind, mapping=mapping)
    with position_bar(source, limit) as progress:
        found = inspected(source, limit=limit, progress=progress)
    if as_json:
        click.echo(json.dumps(_json(path, found, n_rejects)))
    else:
        console = Console(highlight=False)
        _show(path, found, n_rejects, console if console.is_terminal else Console(highlight=False, width=160))
    click.get_current_context().exit(0 if found.n_flows else 1)


def _json(path: Path, found: "Inspection", n_rejects: int) -> dict[str, Any]:
    return {
        "file": str(path),
        "kind": found.source.name,
        "record_type": found.source.record_type.id,
        "source_id": found.source.source_id,
        "notes": list(found.source.notes),
        "records": found.n_flows + found.n_rejected,
        "flows": found.n_flows,
        "rejected": dict(found.reasons),
        "other": found.n_other,
        "first": found.span[0].isoformat() if found.span else None,
        "last": found.span[1].isoformat() if found.span else None,
        "out_of_order": found.n_backwards,
        "values": {name: dict(counts.most_common()) for name, counts in found.counts.items()},
        "examples": [
            {"reason": reject.reason, "detail": reject.detail, "position": reject.position}
            for rejects in found.examples.values()
            for reject in rejects[:n_rejects]
        ],
    }


def _show(path: Path, found: "Inspection", n_rejects: int, console: "Console") -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    for name, value in _lines(path, found):
        table.add_row(name, escape(value))
    console.print(table)
    for reason, rejects in found.examples.items():
        for reject in rejects[:n_rejects]:
            console.print(f"reject  {reason}: {reject.detail}", markup=False, soft_wrap=True)
    if found.rows:
        console.print(_rows(found))


def _lines(path: Path, found: "Inspection") -> list[tuple[str, str]]:
    source = found.source
    lines = [
        ("file", f"{path}: {source.name}, records of type {source.record_type.id}"),
        ("flows", f"{found.n_flows:,}"),
        ("rejects", ", ".join(f"{reason} {n:,}" for reason, n in found.reasons.most_common()) or "none"),
    ]
    if found.n_other:
        lines.append(("other", f"{found.n_other:,} lines or records that hold no flow"))
    if found.span:
        first, last = found.span
        lines.append(("ended", f"{first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S} UTC ({last - first})"))
    if found.n_backwards:
        lines.append(("order", f"{found.n_backwards:,} flows ended before one that stands above them"))
    for name, counts in found.counts.items():
        told = ", ".join(f"{value or '(none)'} {n:,}" for value, n in counts.most_common(TOLD))
        lines.append((name, told + (" ..." if len(counts) > TOLD else "")))
    return [*lines, *(("note", note) for note in source.notes)]


def _rows(found: "Inspection") -> Any:
    """Return the first rows as a table; columns that hold nothing in them are left out."""
    from rich.table import Table

    names = [
        name
        for name in found.source.record_type.schema.names
        if name not in ("sensor", "position") and any(row[name] is not None for row in found.rows)
    ]
    table = Table(*names[:MOST_COLUMNS], box=None, header_style="dim", padding=(0, 2, 0, 0))
    for row in found.rows:
        table.add_row(*(_cell(row[name]) for name in names[:MOST_COLUMNS]))
    return table


def _cell(value: object) -> str:
    from rich.markup import escape

    from pipeline.publication import address_text

    if isinstance(value, bytes):
        return address_text(value)
    if isinstance(value, datetime):
        return f"{value:%H:%M:%S.%f}"[:-3]
    return "" if value is None else escape(f"{value:.6g}" if isinstance(value, float) else str(value))
