"""The commands train, evaluate, models and figures, as they are typed."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.bundle import load_bundle
from pipeline.cli.main import run


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> pytest.CaptureFixture[str]:
    return capsys


def test_train_evaluate_list_show(kdd_folder: Path, tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    """A model is trained, judged alike again, listed, and shown with its hashes checked."""
    models, scores = str(tmp_path / "models"), tmp_path / "scores.parquet"
    data = ["--data", str(kdd_folder)]

    assert (
        run(["train", "nsl-kdd", "--detector", "bn", "--param", "structure=hc", "--out", models, *data]) == 0
    )
    assert "Model nsl-kdd-bn/1" in said.readouterr().out
    judge = ["evaluate", "nsl-kdd-bn", "nsl-kdd", "--models", models, *data]
    assert run([*judge, "--scores", str(scores), "--json", "--baselines"]) == 0
    figures = json.loads(said.readouterr().out)
    assert run(["models", "list", "--models", models, "--json"]) == 0
    (listed,) = json.loads(said.readouterr().out)
    assert run(["models", "show", "nsl-kdd-bn/1", "--models", models]) == 0
    shown = said.readouterr().out

    assert listed["roc_auc"] == figures["figures"]["roc_auc"]
    assert set(figures["baselines"]) == {"robust_z", "knn"}
    assert pq.read_metadata(scores).num_rows == 500
    assert "structure: hc" in shown
    assert figures["sha256"] in shown


def test_a_budget_becomes_an_alpha(
    kdd_folder: Path, tmp_path: Path, said: pytest.CaptureFixture[str]
) -> None:
    """Alarms an hour over flows an hour, with what carries it."""
    budget = ["--budget", "50/h", "--flow-rate", "5000/h"]
    code = run(
        [
            "train",
            "nsl-kdd",
            "--detector",
            "robust_z",
            "--out",
            str(tmp_path),
            "--data",
            str(kdd_folder),
            *budget,
        ]
    )

    assert code == 0
    assert "Budget: alpha 0.01: 50 alarms/h at 5,000 flows/h; carried by 450" in said.readouterr().out


def test_a_kde_threshold_becomes_an_alpha(
    kdd_folder: Path, tmp_path: Path, said: pytest.CaptureFixture[str]
) -> None:
    """The alpha that the model's calibration gives the threshold; a share of all or nothing is refused."""
    where = ["--out", str(tmp_path), "--data", str(kdd_folder)]
    assert run(["train", "nsl-kdd", "--detector", "robust_z", *where, "--kde-share", "0.01"]) == 0
    alpha, sentence = load_bundle("nsl-kdd-robust_z", tmp_path).calibration.alpha_by_kde(0.01)

    assert f"KDE threshold: {sentence}" in said.readouterr().out
    assert 0.0 < alpha < 0.1
    assert run(["train", "nsl-kdd", *where, "--kde-share", "1"]) == 2


def test_a_damaged_model_is_not_shown(
    kdd_folder: Path, tmp_path: Path, said: pytest.CaptureFixture[str]
) -> None:
    """One changed byte: one sentence, exit code 1."""
    run(["train", "nsl-kdd", "--detector", "robust_z", "--out", str(tmp_path), "--data", str(kdd_folder)])
    file = tmp_path / "nsl-kdd-robust_z" / "1" / "normaliser.json"
    file.write_bytes(file.read_bytes().replace(b"duration", b"duratiom", 1))
    said.readouterr()

    assert run(["models", "show", "nsl-kdd-robust_z", "--models", str(tmp_path)]) == 1
    assert "does not have the SHA-256" in said.readouterr().err


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path, said: pytest.CaptureFixture[str]) -> None:
    """No models is no error."""
    assert run(["models", "list", "--models", str(tmp_path)]) == 0
    assert "train one with: weir train" in said.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train", "nsl-kdd", "--param", "members"], 2, "expected NAME=VALUE"),
        (["train", "nsl-kdd", "--flow-rate", "1/s"], 2, "give --budget, too"),
        (["train", "nsl-kdd", "--budget", "5"], 2, "is no rate; expected a number above 0 /s"),
        (["train", "nsl-kdd", "--budget", "5/h"], 1, "give --flow-rate, as 300/s"),
        (["train", "nsl-kdd", "--detector", "baea"], 1, "did you mean beaa"),
        (["train", "nsl-kd"], 1, "expected one of nsl-kdd"),
        (["train", "nsl-kdd", "--data", "/nowhere"], 2, "does not exist"),
        (["train", "nsl-kdd", "--days", "3"], 1, "only synthetic takes"),
        (["evaluate", "no-such-model", "nsl-kdd"], 1, "no model 'no-such-model'"),
        (["figures", "--seeds", "0"], 2, "not in the range"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str], code: int, message: str, kdd_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, said: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Exit code 1 for what cannot be done, 2 for a wrong command line; never a traceback."""
    monkeypatch.setenv("WEIR_DATA", str(kdd_folder))
    monkeypatch.chdir(tmp_path)

    assert run(words) == code
    error = said.readouterr().err
    assert message in error
    assert "Traceback" not in error
