"""AnoGAN scores a row by the best that its generator can make of it."""

from typing import Any

import numpy as np
import pytest
from dependent_rows import broken_rows, dependent_rows, separation

from detectors.anogan import AnoGAN, Matching
from detectors.errors import ParameterError
from detectors.networks import Layer, Network
from detectors.parts.distance import Judge

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

SMALL: dict[str, Any] = {
    "latent": 2,
    "generator": (16,),
    "discriminator": (16, 16),
    "batch": 64,
    "epochs": 12,
    "learning_rate": 3e-3,
    "steps": 30,
    "rate": 0.1,
    "scale_rows": 256,
}


def fitted(**parameters: Any) -> AnoGAN:
    detector = AnoGAN(**{**SMALL, **parameters})
    rng = np.random.default_rng(0)
    return detector.fit(dependent_rows(1500, 0), held_out=dependent_rows(400, 1), rng=rng)


@pytest.fixture(scope="module")
def stable() -> AnoGAN:
    return fitted()


def test_the_gradient_of_what_is_minimised_is_that_of_small_steps() -> None:
    rng = np.random.default_rng(0)
    feature = Network((Layer(rng.normal(size=(6, 4)), rng.normal(size=6), "tanh"),))
    target, made = rng.normal(size=(2, 4, 256))
    gap = Matching(Judge(feature), 0.3).towards(target)
    _, gradient = gap(made)

    for column in range(4):
        step = np.zeros_like(made)
        step[column] = 1e-6
        measured = (gap(made + step)[0] - gap(made - step)[0])[0] / 2e-6
        np.testing.assert_allclose(gradient[column], measured, rtol=1e-4, atol=1e-5)


def test_the_paper_s_score_is_what_was_minimised() -> None:
    """(1 - w) ||x - G(z)||_1 + w ||f(x) - f(G(z))||_1, w on the discriminator's part."""
    detector, x = fitted(variant="paper", weight=0.3, epochs=2, steps=10), dependent_rows(256, 2)
    state = detector.state()
    u = ((x - state.arrays["centre"]) / state.arrays["spread"]).T
    made = ((detector.explain(x).expected - state.arrays["centre"]) / state.arrays["spread"]).T
    features = Network.restored(state, "judge", n_inputs=8)
    apart = np.abs(features.on_tile(u) - features.on_tile(made)).sum(axis=0)

    np.testing.assert_allclose(detector.score(x), 0.7 * np.abs(u - made).sum(axis=0) + 0.3 * apart, rtol=1e-9)


def test_more_steps_leave_less_of_a_row(stable: AnoGAN) -> None:
    more = AnoGAN(**{**stable.parameters(), "steps": 90}).restore(stable.state())
    x = dependent_rows(256, 2)

    assert more.score(x).mean() < stable.score(x).mean()


def test_the_encoder_s_guess_saves_steps(stable: AnoGAN) -> None:
    """After a few steps from the guess a row is nearer than after as many from elsewhere."""
    state, x = stable.state(), dependent_rows(256, 2)
    guessed, blind = (
        AnoGAN(**{**stable.parameters(), "steps": 3, "starts": 1, "encoder": encoder}).restore(state)
        for encoder in (True, False)
    )

    assert guessed.score(x).mean() < 0.8 * blind.score(x).mean()


def test_the_paper_s_setting_is_the_public_code_s() -> None:
    found = AnoGAN(variant="paper").parameters()

    assert (found["generator"], found["discriminator"], found["latent"]) == ((64, 128), (256, 128, 128), 32)
    assert (found["weight"], found["dropout"], found["decay"]) == (0.1, 0.2, 0.999)
    assert (found["learning_rate"], found["batch"]) == (1e-5, 50)
    assert (found["steps"], found["starts"], found["encoder"], found["bound"]) == (500, 1, False, None)
    assert (found["spectral"], found["scaled"], found["patience"]) == (False, False, 0)


def test_broken_dependencies_stand_out(stable: AnoGAN) -> None:
    scores = (stable.score(rows(400, 3)) for rows in (dependent_rows, broken_rows))

    assert separation(*scores) > 0.85
    assert stable.mode == "offline"


def test_the_report_tells_of_both_trainings(stable: AnoGAN) -> None:
    report = stable.state().parameters["report"]

    assert report["objective"] < report["objectives"][0]
    assert report["encoder"]["objective"] < report["encoder"]["objectives"][0]


@pytest.mark.parametrize(
    "wrong",
    [{"starts": 0, "encoder": False}, {"steps": 0}, {"rate": 0.0}, {"bound": -1.0}, {"discriminator": []}],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        AnoGAN(**wrong)
