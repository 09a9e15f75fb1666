"""The page about the chaos runs."""

from pathlib import Path

from rounds import Result


def write_page(path: Path, results: list[Result], seed: int) -> None:
    """Write docs/reliability.md."""
    path.write_text(f"# Reliability\n\n{len(results)} rounds, seed {seed}\n")
