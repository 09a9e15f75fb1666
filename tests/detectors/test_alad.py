"""ALAD scores by the features of rows beside their rebuilt selves."""

from typing import Any

import numpy as np
import pytest
from dependent_rows import broken_rows, dependent_rows, separation

from detectors.alad import ALAD
from detectors.networks import Network

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

SMALL: dict[str, Any] = {
    "latent": 2,
    "generator": (16,),
    "encoder": (16,),
    "judge": 16,
    "batch": 64,
    "epochs": 14,
    "learning_rate": 3e-3,
}


def fitted(seed: int = 0, **parameters: Any) -> ALAD:
    detector = ALAD(**{**SMALL, **parameters})
    rng = np.random.default_rng(seed)
    return detector.fit(dependent_rows(800, 0), held_out=dependent_rows(400, 1), rng=rng)


@pytest.fixture(scope="module")
def stable() -> ALAD:
    return fitted()


def test_the_paper_s_score_is_that_of_its_equation() -> None:
    """||f(x, x) - f(x, G(E(x)))||_1, f the layer before the logit."""
    detector, x = fitted(variant="paper", epochs=2), dependent_rows(256, 2)
    state = detector.state()
    u = ((x - state.arrays["centre"]) / state.arrays["spread"]).T
    encoder = Network.restored(state, "encoder", n_inputs=8, n_outputs=2)
    generator = Network.restored(state, "generator", n_inputs=2, n_outputs=8)
    features = Network.restored(state, "judge", n_inputs=16, n_outputs=16)
    made = generator.on_tile(encoder.on_tile(u))
    apart = features.on_tile(np.vstack([u, u])) - features.on_tile(np.vstack([made, u]))

    np.testing.assert_allclose(detector.score(x), np.abs(apart).sum(axis=0), rtol=1e-9)


def test_the_paper_s_setting_is_the_public_code_s() -> None:
    detector = ALAD(variant="paper")
    found = detector.parameters()
    widths = {
        name: [(m.in_features, m.out_features) for m in judge.modules() if isinstance(m, torch.nn.Linear)]
        for name, judge in detector.judges(121, 32).items()
    }

    assert (found["encoder"], found["generator"], found["latent"]) == ((64,), (64, 128), 32)
    assert (found["learning_rate"], found["batch"], found["epochs"]) == (1e-5, 50, 100)
    assert (found["cycle"], found["spectral"], found["scaled"], found["patience"]) == (0.0, False, False, 0)
    assert widths == {
        "xz": [(121, 128), (32, 128), (256, 128), (128, 1)],
        "xx": [(242, 128), (128, 1)],
        "zz": [(64, 32), (32, 1)],
    }


def test_spectral_norms_bound_the_features(stable: ALAD) -> None:
    """No layer makes more of a difference than there is; estimated by one power step at a time."""
    weights = stable.state().arrays["judge.0.weights"]

    assert np.linalg.norm(weights, ord=2) < 1.3


def test_discriminators_alone_make_the_networks_inverse_too() -> None:
    """Without the cycle term rows are rebuilt less well, but better as training goes on."""
    report = fitted(cycle=0.0, patience=0).state().parameters["report"]

    assert min(report["objectives"]) < 0.8 * report["objectives"][0]


def test_broken_dependencies_stand_out_and_seeds_agree(stable: ALAD) -> None:
    normal, odd = dependent_rows(400, 3), broken_rows(400, 3)
    one, other = (separation(each.score(normal), each.score(odd)) for each in (stable, fitted(seed=1)))

    assert min(one, other) > 0.85
    assert abs(one - other) < 0.08


def test_a_normal_row_scores_about_one(stable: ALAD) -> None:
    """The features' own scale, which wanders in training, is gone."""
    assert stable.score(dependent_rows(1000, 4)).mean() == pytest.approx(1.0, abs=0.2)


def test_a_column_far_off_leads(stable: ALAD) -> None:
    """Its part of the features' distance is the largest, and its residual says which way it is off."""
    x = dependent_rows(200, 5)
    x[:, 3] += 5.0
    explanation = stable.explain(x)
    leading = explanation.terms.argmax(axis=1)

    assert np.mean(leading == 3) > 0.8
    assert np.all(explanation.deviations[:, 3] > 3.0)
