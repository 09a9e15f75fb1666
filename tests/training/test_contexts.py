"""Training by contexts: what is written, judged, told and refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from captured_days import captured_file, day

from connectors.sources import Generated
from detectors.errors import ParameterError
from pipeline.bundle import Bundle, load_bundle
from pipeline.cli import main
from pipeline.features.normaliser import Normaliser
from pipeline.judge import Judge, judge_rows
from pipeline.panel import Panel
from pipeline.terms import named_terms
from pipeline.verdict import Reasons
from training.datasets import Dataset, load_dataset
from training.errors import TrainingError
from training.train import Fitted, Plan, fit, write

PLAN = Plan(detector="bn", contexts="transport", max_rows=8000)


@pytest.fixture(scope="module")
def site() -> Dataset:
    return load_dataset("synthetic", generated=Generated(days=2, scale=0.2))


@pytest.fixture(scope="module")
def fitted(site: Dataset) -> Fitted:
    return fit(site, PLAN)


@pytest.fixture(scope="module")
def bundle(site: Dataset, fitted: Fitted, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("models")
    return write(fitted, site, folder, "site", figures=None)


def test_the_bundle_judges_as_what_was_fitted(site: Dataset, fitted: Fitted, bundle: Bundle) -> None:
    """Written, read and judged by the code of the stream, scores are equal bit for bit."""
    rows = site.take(fitted.split.test[:2000])
    expected = fitted.detector.score(fitted.normaliser.matrix(rows))

    np.testing.assert_array_equal(expected, judge_rows(bundle, rows).scores)
    assert (bundle.detector.mode, bundle.detector.name) == ("live", "contexts")


def test_manifest_and_card_tell_the_rows_of_each_context(fitted: Fitted, bundle: Bundle) -> None:
    """A protocol with few rows is not among them; the model of all rows is, with all of them."""
    told = bundle.manifest["data"]["contexts"]
    card = (bundle.path / "card.md").read_text()

    assert told["feature"] == "transport"
    assert list(told["rows"]) == ["tcp", "udp", "any"]
    assert told["rows"]["any"] == {"fit": fitted.n_fit, "val": fitted.split.val.size}
    assert f"    - udp:\n      - fit: {told['rows']['udp']['fit']}\n" in card


def test_a_flagged_row_is_explained_by_its_own_context(site: Dataset, fitted: Fitted, bundle: Bundle) -> None:
    """Leading term, told terms and their features are those of the model that judged the row."""
    rows = site.take(fitted.split.test[-3000:])
    flagged = Judge(Panel(name="p", alpha=0.02, bundles=(bundle,)), first=None, bucket_s=60.0).judge(rows, 0)
    found = flagged.flagged.select(["protocol", "leading", "reasons"]).to_pylist()
    judged = [row for row in found if not row["leading"].startswith("watched:")]

    assert {row["protocol"] for row in judged} >= {"tcp", "udp"}
    for row in judged:
        context = row["protocol"] if row["protocol"] in {"tcp", "udp"} else "any"
        reasons = Reasons.from_json(row["reasons"])
        assert row["leading"] == f"{reasons.terms[0].kind}:{reasons.terms[0].id}"
        assert {term.id.partition(":")[0] for term in reasons.terms} == {context}
        assert reasons.terms[0].features
        assert sum(term.share for term in reasons.terms) <= 1.0 + 1e-9


def test_terms_are_named_by_features_and_concern_whom_these_concern(bundle: Bundle) -> None:
    """`udp:src_flows_60s` is about the source, as the feature is; loadings never tell of the routes."""
    about = {feature.name: feature.about for feature in bundle.feature_set.features}
    for term, whom in zip(bundle.manifest["terms"], bundle.term_about, strict=True):
        _, _, feature = term["id"].partition(":")
        assert about[feature] == whom
        assert not any(name.startswith("transport=") for name, _ in term["loadings"])


def test_loadings_are_those_of_the_contexts_own_rows(site: Dataset, fitted: Fitted) -> None:
    """How a term of UDP is moved does not depend on how much TCP there is beside it."""
    rows = site.take(fitted.split.cal)
    tcp, udp = (
        np.flatnonzero(np.array(rows.column("protocol").to_pylist()) == name) for name in ("tcp", "udp")
    )
    x = fitted.normaliser.matrix(rows)
    told = []
    for n_tcp in (10, 400):
        sample = x[np.concatenate([tcp[:n_tcp], udp[:90]])]
        found = named_terms(fitted.detector, fitted.normaliser, sample)
        told.append([term for term in found if term.term.id.startswith("udp:")])

    assert told[0]
    assert told[0] == told[1]


def test_a_normaliser_keeps_the_context_whatever_the_kinds(site: Dataset, fitted: Fitted) -> None:
    """One-hot columns of that feature alone, and the same after it was written and read."""
    normaliser = fitted.normaliser
    again = Normaliser.from_json(normaliser.to_json(), normaliser.feature_set)
    rows = site.take(fitted.split.test[:500])
    categories = {column.feature for column in normaliser.columns if column.category}

    assert categories == {"transport"}
    assert again == normaliser
    np.testing.assert_array_equal(normaliser.matrix(rows), again.matrix(rows))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("transpot", "did you mean transport"),
        ("src_bytes", "no categorical feature of conn; known: transport"),
    ],
)
def test_features_that_tell_nothing_apart_are_refused(site: Dataset, name: str, words: str) -> None:
    with pytest.raises(TrainingError, match=words):
        fit(site, Plan(detector="bn", contexts=name))


def test_one_value_is_no_context(small: Dataset) -> None:
    """Where all flows are TCP the message says that there is nothing to tell apart."""
    with pytest.raises(TrainingError, match="protocol_type has one value"):
        fit(small, Plan(detector="bn", contexts="protocol_type"))


def test_a_detector_that_looks_back_is_refused(site: Dataset) -> None:
    """Its history would be cut apart."""
    with pytest.raises(ParameterError, match="pu_gan looks back on rows"):
        fit(site, Plan(detector="pu_gan", contexts="transport", max_rows=2000))


def test_the_commands_train_list_and_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As typed, from a capture that nobody labelled; the list says by what the model is split."""
    captured_file(tmp_path / "capture", day(0, scale=0.5)[0])
    models = str(tmp_path / "models")
    train = ["train", "conn", "--from", str(tmp_path / "capture"), "--detector", "bn", "--out", models]

    assert main.run([*train, "--contexts", "transport"]) == 0
    assert "Model conn-bn/1" in capsys.readouterr().out
    assert main.run(["models", "list", "--models", models, "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert main.run(["models", "show", "conn-bn", "--models", models]) == 0
    assert "feature: transport" in capsys.readouterr().out
    assert main.run([*train, "--contexts", "protocol"]) != 0
    assert "no categorical feature of conn" in capsys.readouterr().err

    assert listed["detector"] == "bn by transport"
    bundle = load_bundle("conn-bn", Path(models))
    assert bundle.manifest["detector"]["name"] == "contexts"
    assert (
        Panel(name="main", alpha=0.01, bundles=(bundle,)).card()["models"][0]["detector"] == "bn by transport"
    )


def test_contexts_is_not_chosen_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which option makes it, instead of training something else."""
    days = ["--days", "1", "--scale", "0.05"]

    assert main.run(["train", "synthetic", "--detector", "contexts", "--out", str(tmp_path), *days]) != 0
    assert "--contexts transport" in capsys.readouterr().err
