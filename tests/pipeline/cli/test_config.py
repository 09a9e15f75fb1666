"""`weir config` and `weir lint`: the settings as they will be, and every mistake at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.settings import Settings
from pipeline.settings_layers import leaves


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weir.yaml"
    path.write_text("topics: {lanes: 2}\nkafka: {sasl_password: geheim}\n")
    return path


def test_show_tells_each_value_and_its_origin(weir: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR__WRITER__ROWS", "7")

    result = weir("config", "show", "--config", str(file), "--prefix", "site", "--json")

    shown = {item["path"]: item for item in map(json.loads, result.out.splitlines())}
    assert set(shown) == {".".join(path) for path, _ in leaves(Settings())}
    assert (shown["topics.lanes"]["value"], shown["topics.lanes"]["origin"]) == ("2", f"file {file}")
    assert (shown["topics.prefix"]["value"], shown["topics.prefix"]["origin"]) == ("site", "--set")
    assert shown["writer.rows"]["origin"] == "environment variable WEIR__WRITER__ROWS"
    assert shown["panel.alpha"]["origin"] == "default"


def test_show_is_readable_and_hides_secrets(weir: Any, file: Path) -> None:
    result = weir("config", "show", "-c", str(file))

    assert f"topics.lanes = 2  (file {file})\n    Partitions of the flows topic" in result.out
    assert "geheim" not in result.out


def test_wrong_settings_stop_any_command(weir: Any) -> None:
    result = weir("topics", "list", "--set", "topics.lnes=3")

    assert result.code == 1
    assert "topics.lnes: unknown setting; did you mean lanes? (--set)" in result.err


def test_lint_shows_every_mistake(weir: Any, file: Path) -> None:
    file.write_text("topics: {lanes: 0}\npanle: {}\n")

    result = weir("lint", str(file))

    assert result.code == 1
    assert result.out.splitlines() == [
        "topics.lanes: 0 is not at least 1",
        "panle: unknown setting; did you mean panel?",
    ]
    assert result.err == f"{file}: 2 mistakes\n"


def test_lint_sees_what_only_together_is_wrong(weir: Any, file: Path) -> None:
    file.write_text("writer: {lane_by: src}\n")

    result = weir("lint", str(file))

    assert result.code == 1
    assert "writer.lane_by: src does not go with feature set conn" in result.out


def test_lint_of_a_good_file_is_good(weir: Any, file: Path) -> None:
    result = weir("lint", str(file))

    assert (result.code, result.out) == (0, f"{file}: good\n")


def test_lint_looks_at_the_file_alone(weir: Any, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR__TOPICS__LANES", "nonsense")

    assert weir("lint", str(file)).code == 0
