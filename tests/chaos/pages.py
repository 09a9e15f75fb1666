"""docs/reliability.md: what is promised, how it is tried, and what came of it."""

import os
import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from faults import KINDS
from rounds import Result

from connectors.broker_kafka import VERSION

_TEMPLATE = Path(__file__).with_name("page.md")


def write_page(path: Path, results: Sequence[Result], seed: int, *, settle_s: float, still_s: float) -> None:
    """Write the page."""
    kinds = "\n".join(f"- **{kind}**: {what};" for kind, what in KINDS.items())
    told = "\n".join([*_summary(results, seed), "", *_faults(results), "", *_rounds(results)])
    page = _TEMPLATE.read_text(encoding="utf-8")
    page = page.format(version=VERSION, kinds=kinds, settle=settle_s, still=still_s, results=told)
    path.write_text(page, encoding="utf-8")


def _summary(results: Sequence[Result], seed: int) -> Iterable[str]:
    bad = [str(result.number) for result in results if result.problems]
    verdict = f"rounds {', '.join(bad)} failed" if bad else "nothing lost, no alert under a second id or body"
    yield (
        f"Seed {seed}, {len(results)} rounds, {sum(sum(r.faults.values()) for r in results):,} faults, "
        f"{sum(r.flows for r in results):,} flows, {sum(r.alerts for r in results):,} alerts: **{verdict}**."
    )
    repeats: Counter[str] = Counter()
    codes: Counter[str] = Counter()
    for result in results:
        repeats.update(result.repeats)
        codes.update(result.codes)
    yield ""
    yield (
        f"{sum(r.starts for r in results):,} processes were started; they ended with "
        f"{', '.join(f'{code} ({n})' for code, n in sorted(codes.items(), key=lambda item: -item[1]))}. "
        f"{repeats['detections']:,} verdicts and {repeats['alerts']:,} alerts were published more than once, "
        f"each time the same. {sum(r.dead for r in results):,} records are dead letters, "
        f"{sum(r.lost for r in results):,} left the log before they were read, and were reported."
    )
    slowest = max((r.settle_s for r in results), default=0.0)
    stillest = max((r.longest_still_s for r in results), default=0.0)
    yield ""
    yield (
        f"After the last fault everything was done within {slowest:.0f} s; a lane with work stood still for "
        f"{stillest:.0f} s at most. {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.machine()}, Python {platform.python_version()}."
    )


def _faults(results: Sequence[Result]) -> Iterable[str]:
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.faults)
    yield "| fault | times |"
    yield "| --- | ---: |"
    yield from (f"| {kind} | {counts[kind]} |" for kind in KINDS)


def _rounds(results: Sequence[Result]) -> Iterable[str]:
    columns = ("round", "what", "faults", "starts", "flows", "alerts", "dead", "lost with the log")
    yield f"| {' | '.join((*columns, 'still', 'settled', 'result'))} |"
    yield f"| ---: | --- |{' ---: |' * 8} --- |"
    for r in results:
        counted = (sum(r.faults.values()), r.starts, f"{r.flows:,}", f"{r.alerts:,}", r.dead, r.lost)
        lasted = (f"{r.longest_still_s:.0f} s", f"{r.settle_s:.0f} s")
        figures = (r.number, r.told, *counted, *lasted, "; ".join(r.problems[:1]) or "nothing lost")
        yield f"| {' | '.join(map(str, figures))} |"
