"""Quiet by budget: so many alarms an hour become an alpha, and a person is told what carries it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lane_workers import conn_bundle

from detectors.calibration import Calibration
from detectors.robust_z import RobustZScore
from pipeline.budget import Asked, Budget, panel_budget, per_hour
from pipeline.bundle import Bundle, load_bundle, with_budget
from pipeline.cli.main import run
from pipeline.errors import SettingsError
from pipeline.panel import load_panel
from pipeline.settings import lint
from pipeline.settings_sections import PanelSettings


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for name in ("a", "b"):
        conn_bundle(folder, name, RobustZScore())
    return folder


@given(st.floats(0.01, 1e6), st.sampled_from([("s", 3600.0), ("min", 60.0), ("h", 1.0), ("d", 1 / 24)]))
def test_a_rate_has_a_unit(number: float, unit: tuple[str, float]) -> None:
    """The same rate in any unit."""
    assert per_hour(f"{number:.6f} / {unit[0]}") == pytest.approx(float(f"{number:.6f}") * unit[1])


@pytest.mark.parametrize("text", ["5", "5/w", "-1/h", "0/h", "/h", "5/h/h", "", "nan/h", "1e3/h"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no rate; expected a number above 0 /s, /min, /h or /d"):
        per_hour(text)


@given(st.floats(1e-3, 1e4), st.floats(1e-3, 1e9))
def test_alpha_spends_the_budget(alarms: float, flows: float) -> None:
    """Uniform p-values of so many flows give so many alarms, or all of them."""
    budget = Budget(alarms_per_hour=alarms, flows_per_hour=flows)

    assert budget.alpha * flows == pytest.approx(min(alarms, flows))


def test_the_rate_that_is_stated_wins() -> None:
    """Otherwise that of the training data counts, and the sentence says so; without either it is refused."""
    asked = Asked(alarms_per_hour=5.0)

    assert asked.at(5000.0).alpha == 0.001
    assert "the rate of the training data" in asked.at(5000.0).stated
    assert Asked(alarms_per_hour=5.0, flows_per_hour=500.0).at(5000.0).alpha == 0.01
    with pytest.raises(SettingsError, match=r"set panel\.flow_rate or give --flow-rate"):
        asked.at(None)


def test_a_fusion_says_what_each_model_must_reach() -> None:
    """Of two models with min, half of alpha each; one that is named decides alone."""
    calibration = Calibration.fit(np.arange(99.0))
    named: Any = [SimpleNamespace(name=name, version="1", calibration=calibration) for name in "ab"]
    budget = Budget(alarms_per_hour=1.0, flows_per_hour=80.0)  # 1/80 is carried by 99 scores, 1/160 is not

    assert budget.spent(named, "min").count("below 1/(n+1)") == 2
    assert budget.spent(named, "b").endswith("b/1 carried by 99 calibration flows")


def test_a_panel_takes_alpha_from_its_budget(models: Path) -> None:
    """Alpha of the fused p-value, which is valid whatever the fusion."""
    given_settings = PanelSettings(models=("a", "b"), models_dir=models, budget="2/h", flow_rate="1/s")
    panel = load_panel(given_settings)

    assert panel.alpha == pytest.approx(2 / 3600)
    assert panel.budget == Budget(alarms_per_hour=2.0, flows_per_hour=3600.0)


def test_a_panel_without_a_rate_is_refused(models: Path) -> None:
    """Its models were trained on data without times, and nobody stated a rate."""
    bundles = [load_bundle("a", models)]
    with pytest.raises(SettingsError, match="needs the rate of flows"):
        panel_budget(PanelSettings(models=("a",), models_dir=models, budget="2/h"), bundles)
    assert run(["panels", "lint", "--set", f"panel.models_dir={models}", "--set", "panel.models=a",
                "--set", "panel.budget=2/h"]) == 1  # fmt: skip


def test_exactly_one_of_alpha_and_budget() -> None:
    """Lint says what is wrong with both at once, with a rate for no budget, and with what is no rate."""
    assert lint({"panel": {"budget": "5/h", "flow_rate": "300/s"}}) == []
    assert lint({"panel": {"alpha": 0.1, "budget": "5/h"}}) == [
        "panel.alpha: set with panel.budget 5/h, which alpha follows from; keep one"
    ]
    assert lint({"panel": {"flow_rate": "300/s"}}) == [
        "panel.flow_rate: set without panel.budget, which it is for; set that, as 5/h, or leave it out"
    ]
    assert lint({"panel": {"budget": "5 alarms"}}) == [
        "panel.budget: '5 alarms' is no rate; expected a number above 0 /s, /min, /h or /d, as 5/h"
    ]


def test_a_budget_is_kept_with_a_model(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As its next version: the same model in every byte, with budget, rate, alpha and what carries it."""
    words = ["models", "budget", "a", "--models", str(models), "--budget", "2/d", "--flow-rate", "100/h"]
    assert run(words) == 0
    assert load_bundle("a", models).version == "1"
    assert run([*words, "--write"]) == 0
    said = capsys.readouterr().out

    written: Bundle = load_bundle("a", models)
    assert written.version == "2"
    assert written.manifest["budget"]["alpha"] == pytest.approx(2 / 24 / 100)
    assert written.manifest["budget"]["carried"] in said
    assert written.manifest["files"] == load_bundle("a/1", models).manifest["files"]
    assert with_budget(written, models, {}).version == "3"
