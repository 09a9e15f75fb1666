"""What the documents say is so: commands parse, links lead somewhere, the reference is the code's."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
import yaml
from command_lines import ROOT, documents, parse, shell_lines, words

from connectors.mapping import lint_mapping
from connectors.sources import open_source
from pipeline.settings import lint
from pipeline.suppressions import load_suppressions

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
INLINE = re.compile(r"`weir ([a-z][^`]*)`")
YAML = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["generate"] = module
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_the_code(generate: ModuleType) -> None:
    """Every page of docs/reference is what `make docs` writes now."""
    folder = ROOT / "docs" / "reference"
    pages = generate.pages()
    assert sorted(pages) == sorted(path.name for path in folder.glob("*.md"))
    stale = [name for name, text in pages.items() if text != (folder / name).read_text(encoding="utf-8")]
    assert not stale, f"{', '.join(stale)}: not what the code says; run: make docs"


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_parses(document: Path) -> None:
    """Every `weir` line of a shell block names a command and options that exist."""
    wrong = []
    for line in shell_lines(document.read_text(encoding="utf-8")):
        if line.startswith("weir "):
            try:
                parse(words(line)[1:])
            except click.UsageError as error:
                wrong.append(f"{line}: {error.format_message()}")
    assert not wrong


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_sentence_exists(document: Path) -> None:
    """So do those in running text, where an argument may be left out."""
    wrong = []
    for text in INLINE.findall(document.read_text(encoding="utf-8")):
        try:
            parse(words(text))
        except click.MissingParameter:
            continue
        except click.UsageError as error:
            if "Missing" not in error.format_message():
                wrong.append(f"weir {text}: {error.format_message()}")
    assert not wrong


def test_a_wrong_command_is_noticed() -> None:
    """The check above can fail."""
    for line in ("weir trian x", "weir train x --ot y", "weir worker detct", "weir topics mke"):
        with pytest.raises(click.UsageError):
            parse(words(line)[1:])


def _links(document: Path) -> Iterator[tuple[Path, str]]:
    for target in LINK.findall(document.read_text(encoding="utf-8")):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            yield (document.parent / path if path else document), anchor


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    """Files that are linked to exist, and so do the headings in them."""
    wrong = [
        f"{path}#{anchor}"
        for path, anchor in _links(document)
        if not path.exists() or (anchor and anchor not in _anchors(path))
    ]
    assert not wrong


def _anchors(path: Path) -> set[str]:
    headings = HEADING.findall(path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("example", sorted((ROOT / "docs" / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_examples_are_good_settings(example: Path) -> None:
    """`weir lint` finds nothing in those of the walk-through; a panel's own, and a mapping, is not one."""
    if example.stem.endswith("-mapping"):
        assert lint_mapping(example) == []
        return
    is_panel = example.stem.endswith("-panel")
    settings = {"panel": yaml.safe_load(example.read_text(encoding="utf-8"))} if is_panel else example
    assert lint(settings) == []


def test_settings_in_the_documents_are_good() -> None:
    """So it is with those that stand in a text; a panel's own file holds one section."""
    found = [text for path in documents() for text in YAML.findall(path.read_text(encoding="utf-8"))]
    given = [
        {"panel": yaml.safe_load(text)} if text.startswith("# panel.yaml") else yaml.safe_load(text)
        for text in found
        if not text.startswith("# known.yaml")
    ]
    assert given
    assert [lint(settings) for settings in given] == [[]] * len(given)


def test_suppressions_in_the_documents_are_good(tmp_path: Path) -> None:
    """They are a file of their own."""
    found = [text for path in documents() for text in YAML.findall(path.read_text(encoding="utf-8"))]
    given = [text for text in found if text.startswith("# known.yaml")]
    assert given
    for text in given:
        path = tmp_path / "known.yaml"
        path.write_text(text, encoding="utf-8")
        assert load_suppressions(path).entries


def test_the_broken_file_is_broken_as_told() -> None:
    """Two good records and two rejects, as the walk-through says."""
    source = open_source("nsl-kdd", ROOT / "docs" / "examples" / "broken.txt", sensor="lab")
    (chunk,) = source.chunks()
    assert chunk.rows.num_rows == 2
    assert [reject.reason for reject in chunk.rejects] == ["unreadable_value", "wrong_field_count"]
