"""The page tells what came of the rounds."""

import re
from pathlib import Path

from faults import KINDS
from pages import write_page
from rounds import Result

ROOT = Path(__file__).parents[2]


def result(number: int, **changes: object) -> Result:
    made = Result(number=number, told="synthetic, two hops", faults={"kill": 3, "disk": 1})
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def page(tmp_path: Path, *results: Result) -> str:
    path = tmp_path / "reliability.md"
    write_page(path, list(results), 7, settle_s=90, still_s=75)
    return path.read_text()


def test_it_adds_up_what_all_rounds_came_to(tmp_path: Path) -> None:
    """Faults by kind, flows, starts, exit codes."""
    first = result(1, flows=1000, starts=9, codes={"-9": 3}, settle_s=12.3)
    text = page(tmp_path, first, result(2, flows=500, codes={"-9": 1, "75": 2}))

    assert "Seed 7, 2 rounds, 8 faults, 1,500 flows, 0 alerts: **nothing lost" in text
    assert "-9 (4), 75 (2)" in text
    assert "| kill | 6 |" in text
    assert "done within 12 s" in text


def test_every_kind_of_fault_is_explained(tmp_path: Path) -> None:
    """In the words that the command uses."""
    text = page(tmp_path, result(1))
    assert all(f"**{kind}**: {what}" in text for kind, what in KINDS.items())


def test_a_failed_round_is_named(tmp_path: Path) -> None:
    """With its first problem."""
    text = page(tmp_path, result(1), result(2, problems=["answer: flows message (0, 2) has no verdict"]))
    assert "**rounds 2 failed**" in text
    assert "answer: flows message (0, 2) has no verdict |" in text


def test_its_links_lead_somewhere(tmp_path: Path) -> None:
    """From the folder of the docs, to headings that exist."""
    links = re.findall(r"\(([\w./-]+\.md)#([\w-]+)\)", page(tmp_path, result(1)))
    assert links
    for name, anchor in links:
        lines = (ROOT / "docs" / name).read_text(encoding="utf-8").splitlines()
        headings = [line.strip("# ").lower() for line in lines if line.startswith("#")]
        assert anchor in [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]
