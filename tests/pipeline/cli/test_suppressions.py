"""`weir suppressions`: entries are added without touching what people wrote, and only if they are right."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.suppressions import load_suppressions

ADD = ("suppressions", "add", "--set", "alerts.suppressions=known.yaml")


def test_what_is_added_is_read_and_listed(weir: Any) -> None:
    """The first entry makes the file; all conditions come back as they were given."""
    first = weir(*ADD, "--entity", "10.0.0.5", "--reason", "ann's: [scan]", "--until", "2026-12-31T00:00:00Z")
    second = weir(*ADD, "--destination", "10.2.0.0/16", "--port", "9100", "--reason", "monitoring")
    listed = weir("suppressions", "list", "--set", "alerts.suppressions=known.yaml")

    assert (first.code, second.code, listed.code) == (0, 0, 0)
    ann, monitoring = load_suppressions(Path("known.yaml")).entries
    assert (ann.reason, str(ann.entity)) == ("ann's: [scan]", "10.0.0.5/32")
    assert (str(monitoring.destination), monitoring.port) == ("10.2.0.0/16", 9100)
    assert ann.id in first.out
    assert ann.id in listed.out
    assert "[scan]" in listed.out


def test_comments_and_entries_stay_as_they_stand(weir: Any) -> None:
    """The file belongs to people: an entry is appended in the form of those before it."""
    text = "# ours\nsuppressions:\n# the scanner\n- reason: scan  # until we know more\n  sensor: hq\n"
    Path("known.yaml").write_text(text, encoding="utf-8")

    assert weir(*ADD, "--sensor", "dc", "--reason", "backup").code == 0

    assert Path("known.yaml").read_text(encoding="utf-8") == text + "- reason: backup\n  sensor: dc\n"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--reason", "x"), "no condition, so nothing would be alerted"),
        (("--reason", "x", "--entity", "10.0.0.5/8"), "entity: 10.0.0.5/8 has host bits set"),
        (("--reason", "x", "--port", "70000"), "port: 70000 is not at most 65535"),
        (("--reason", "x", "--sensor", "hq", "--until", "soon"), "until: 'soon' is wrong"),
    ],
)
def test_a_wrong_entry_is_refused(weir: Any, arguments: tuple[str, ...], problem: str) -> None:
    """The file is as it was, here: not there."""
    result = weir(*ADD, *arguments)

    assert result.code == 1
    assert problem in result.err
    assert list(Path().iterdir()) == []


def test_a_file_of_another_form_is_left_alone(weir: Any) -> None:
    """What cannot be appended to without rewriting it is for a person."""
    text = "suppressions: [{reason: a, port: 5}]\n"
    Path("known.yaml").write_text(text, encoding="utf-8")

    result = weir(*ADD, "--port", "6", "--reason", "b")

    assert result.code == 1
    assert "add it by hand" in result.err
    assert [path.read_text(encoding="utf-8") for path in Path().iterdir()] == [text]


def test_without_a_file_the_setting_is_named(weir: Any) -> None:
    """Nothing is written where nothing reads."""
    result = weir("suppressions", "list")

    assert result.code == 2
    assert "alerts.suppressions is not set" in result.err


def test_lint_follows_the_setting_to_the_file(weir: Any) -> None:
    """A mistake in the suppressions is one of the settings, told with file and place."""
    Path("weir.yaml").write_text("alerts: {suppressions: known.yaml}\n", encoding="utf-8")
    missing = weir("lint", "weir.yaml")
    Path("known.yaml").write_text("suppressions:\n- {reason: a, prt: 5}\n- {sensor: b}\n", encoding="utf-8")
    wrong = weir("lint", "weir.yaml")

    assert (missing.code, wrong.code) == (1, 1)
    assert "cannot read suppressions from known.yaml" in missing.out
    assert [line.split(": ")[1] for line in wrong.out.splitlines()] == [
        "suppressions[0].prt",
        "suppressions[1].reason",
    ]
