"""`weir panels lint`: models that cannot judge together are found before a worker is."""

from pathlib import Path
from typing import Any

import pytest
from lane_workers import conn_bundle

from detectors.robust_z import RobustZScore


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Return a folder with two models of 600 flows."""
    for name in ("one", "two"):
        conn_bundle(tmp_path / "models", name, RobustZScore())
    return tmp_path / "models"


def panel(folder: Path, text: str) -> str:
    """Write a panel file next to the models."""
    path = folder.parent / "panel.yaml"
    path.write_text(f"models_dir: {folder}\n{text}", encoding="utf-8")
    return str(path)


def test_a_good_panel_is_told_model_by_model(weir: Any, models: Path) -> None:
    result = weir("panels", "lint", "--panel", panel(models, "models: [one]\nshadow: [two]\nalpha: 0.01\n"))

    assert (result.code, result.err) == (0, "")
    assert "one/1 is whole" in result.out
    assert "two/1 is whole" in result.out
    assert "main: 1 deciding by min, 1 in the shadow" in result.out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: [one, one/1]", "has a model twice"),
        ("models: [one, two]\nfusion: best", "expected one of min, mean, one, two"),
        ("models: [one]\nshadow: [two]\nfusion: two", "is a shadow, which never decides"),
        ("models: [one, tow]", "did you mean two?"),
        ("shadow: [two]", "has no models"),
    ],
)
def test_every_mismatch_is_explained(weir: Any, models: Path, text: str, said: str) -> None:
    result = weir("panels", "lint", "--panel", panel(models, text))

    assert result.code == 1
    assert said in result.out
    assert "->" in result.out


def test_an_alpha_that_no_p_value_reaches_is_found(weir: Any, models: Path) -> None:
    """Two members by min each need half of alpha; without a tail the calibration rows are the limit."""
    result = weir("panels", "lint", "--panel", panel(models, "models: [one, two]\nalpha: 1.0e-9\n"))

    assert "a flag needs 5e-10" in result.out


@pytest.mark.parametrize(
    ("fusion", "needs"), [("mean", ["3.7e-10 on average"] * 2), ("one", ["1e-09"]), ("min", ["5e-10"] * 2)]
)
def test_what_a_flag_needs_depends_on_the_fusion(
    weir: Any, models: Path, fusion: str, needs: list[str]
) -> None:
    """Of the geometric mean alpha / e; of a model that decides alone alpha, and nothing of the others."""
    text = f"models: [one, two]\nalpha: 1.0e-9\nfusion: {fusion}\n"
    result = weir("panels", "lint", "--panel", panel(models, text))

    found = [line.partition("a flag needs ")[2] for line in result.out.splitlines() if "a flag needs" in line]
    assert [text.partition(",")[0] for text in found] == needs


def test_a_mistake_in_a_panel_file_names_file_and_setting(weir: Any, models: Path) -> None:
    path = panel(models, "model: [one]")
    result = weir("panels", "lint", "--panel", path)

    assert result.code == 1
    assert f"panel.model: unknown setting; did you mean models? (file {path})" in result.err


def test_the_panel_file_wins_over_the_settings_file(weir: Any, models: Path) -> None:
    config = models.parent / "weir.yaml"
    config.write_text("panel:\n  name: other\n  alpha: 0.5\n", encoding="utf-8")
    shown = weir("config", "show", "--config", str(config), "--panel", panel(models, "alpha: 0.01"))

    assert "panel.alpha = 0.01  (file" in shown.out
    assert "panel.name = other  (file" in shown.out
