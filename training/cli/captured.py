"""`weir train FEATURE_SET --from FOLDER`: learning from captured flows that nobody labelled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from training.cli.options import Command

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pipeline.budget import Asked
    from training.captured import Captured
    from training.train import Plan
    from training.trimming import Trimming
    from training.unlabelled import Learned, Observed


@dataclass(frozen=True, slots=True, kw_only=True)
class FromCapture:
    """What is learned from, and how much of it is left out, as the command line says."""

    capture: Path | None
    contamination: float
    keep_bursts: bool
    trim_cal: bool
    without: tuple[bytes, ...]
    newest: int | None

    @property
    def trimming(self) -> "Trimming":
        """How much is left out."""
        from training.trimming import Trimming

        return Trimming(
            contamination=self.contamination,
            cut_bursts=not self.keep_bursts,
            trim_cal=self.trim_cal,
            without=self.without,
        )


def capture_options(command: Command) -> Command:
    """Add the options of captured flows, handed over as `captured`."""

    @wraps(command)
    def with_capture(**arguments: Any) -> Any:
        given = {field.name: arguments.pop(field.name) for field in fields(FromCapture)}
        return command(captured=FromCapture(**given), **arguments)

    decorated: Command = with_capture
    for option in reversed(
        (
            click.option(
                "--from", "capture", type=click.Path(path_type=Path, exists=True, file_okay=False),
                help="Folder of weir capture: its flows, without labels; DATASET is their feature set.",
            ),
            click.option(
                "--contamination", type=click.FloatRange(0, 0.5), default=0.0, show_default=True,
                help="--from: share of the flows that a first fit finds oddest, left out of the fit.",
            ),
            click.option(
                "--keep-bursts", is_flag=True,
                help="--from: learn every flow of addresses that send or get unusually many in a minute.",
            ),
            click.option(
                "--trim-cal", is_flag=True,
                help="--from: leave that share out of the calibration, too: finds more, alarms more.",
            ),
            click.option(
                "--without", metavar="ADDRESS", multiple=True, callback=_packed,
                help="--from: learn no flow from or to this address; may be given again.",
            ),
            click.option(
                "--newest", type=click.IntRange(1), help="--from: read the newest N flows; default 2,000,000."
            ),
        )
    ):  # fmt: skip
        decorated = option(decorated)
    return decorated


def _packed(_: click.Context, __: click.Parameter, texts: tuple[str, ...]) -> tuple[bytes, ...]:
    """Return addresses as records hold them."""
    from connectors.table_fields import packed_address

    found = {text: packed_address(text) for text in texts}
    for text, address in found.items():
        if address is None:
            raise click.BadParameter(f"{text!r} is no address, expected one as 198.51.100.9 or 2001:db8::9")
    return tuple(address for address in found.values() if address)


def learn_captured(
    feature_set: str,
    given: FromCapture,
    plan: "Plan",
    *,
    out: Path,
    name: str,
    alphas: tuple[float, ...],
    budget: "Asked | None" = None,
) -> "Learned":
    """Train on captured flows, print what was left out and how the model behaves, and return it."""
    from rich.console import Console

    from training.captured import NEWEST, load_captured
    from training.cli.bars import bars
    from training.metrics import ALPHAS
    from training.unlabelled import learn

    assert given.capture is not None
    with bars() as progress:
        dataset = load_captured(given.capture, feature_set, newest=given.newest or NEWEST, progress=progress)
        learned = learn(
            dataset,
            plan,
            given.trimming,
            models_dir=out,
            name=name,
            alphas=alphas or ALPHAS,
            budget=budget,
            progress=progress,
        )
    console = Console(highlight=False)
    # A pipe has no width of its own: leave the table room.
    show_learned(learned, dataset, console if console.is_terminal else Console(highlight=False, width=120))
    bundle = learned.bundle
    if budget:
        click.echo(f"Budget: {budget.at(learned.observed.flows_per_hour).spent([bundle], 'min')}")
    click.echo(f"Model {bundle.name}/{bundle.version} in {bundle.path}, fitted in {learned.fit_s:.1f} s")
    return learned


def show_learned(learned: "Learned", dataset: "Captured", console: "Console") -> None:
    """Print what was left out, the observed rates and the oddest flows."""
    _show_data(learned, dataset, console)
    _show_observed(learned.observed, console)
    if learned.oddest:
        console.print("[bold]Oddest flows of the test part[/bold], for a person to judge")
        for text in learned.oddest:
            console.print(f"  {text}", markup=False, soft_wrap=True)


def _show_data(learned: "Learned", dataset: "Captured", console: "Console") -> None:
    told = learned.bundle.manifest["data"]["trimming"]
    rate = learned.observed.flows_per_hour
    n = dataset.features.num_rows

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    say(f"{n:,} flows of {dataset.hours:.2g} h ({rate:,.0f} an hour), without labels")
    for note in dataset.notes:
        say(f"Note: {note}")
    if told["without"]:
        say(f"Left out: {told['left_out_by_address']:,} flows from or to {', '.join(told['without'])}")
    if usual := told["no_burst_in_a_minute"]:
        cut = f"beyond {usual['sent']} from one source or {usual['received']} to one destination in a minute"
        cut += " (busier destinations: beyond what is usual there)"
        say(f"Left out: {told['cut_from_bursts']:,} flows {cut}{_mostly(told['bursts_mostly'])}")
    if told["contamination"]:
        oddest = f"the oddest {told['contamination']:g} by a first fit"
        say(f"Left out: {told['left_out_as_odd']:,} flows, {oddest}{_mostly(told['odd_mostly'])}")
    say(f"Calibration: {told['calibration']}")
    for line in _regular(**told["regular"]):
        say(line)


def _regular(n: int, named: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not n:
        return
    shown = "" if n == len(named) else f"; the {len(named)} that fewest others share"
    yield (
        f"Learned: {n:,} contacts call a public address by the clock, as beacons do{shown}. "
        "Leave out with --without ADDRESS what should not"
    )
    for contact in named:
        port = "" if contact["port"] is None else f":{contact['port']}"
        others = contact["sources"] - 1
        also = f"{others:,} other sources call there" if others else "nobody else calls there"
        where = f"{contact['source']} -> {contact['destination']}{port}"
        yield f"  {where} every {contact['every_s']:.3g} s, {contact['flows']:,} flows; {also}"


def _mostly(counted: dict[str, dict[str, int]]) -> str:
    parts = [
        f"{what} " + ", ".join(f"{name} ({n:,})" for name, n in counts.items())
        for what, counts in counted.items()
        if counts
    ]
    return f"; mostly {'; '.join(parts)}" if parts else ""


def _show_observed(observed: "Observed", console: "Console") -> None:
    console.print(_rates(observed))
    tenths = " ".join(f"{share:.0%}" for share in observed.tenths)
    console.print(
        f"p-values of the test part by tenth: {tenths} (10 % each if calibrated); "
        f"largest distance from uniform {observed.distance:.3f}",
        markup=False,
        soft_wrap=True,
    )


def _rates(observed: "Observed") -> "Table":
    from rich.table import Table

    table = Table(
        "alpha", "flagged", "observed", "observed / stated", "flagged an hour", "stated an hour",
        title=f"Flagged of the {observed.n:,} flows of the test part",
        title_justify="left",
    )  # fmt: skip
    for row in observed.flagged:
        an_hour = (f"{share * observed.flows_per_hour:,.1f}" for share in (row.observed, row.alpha))
        flagged = f"{row.n_flagged:,} of {row.n_normal:,}"
        table.add_row(f"{row.alpha:g}", flagged, f"{row.observed:.3g}", f"{row.ratio:.2f}", *an_hour)
    return table
