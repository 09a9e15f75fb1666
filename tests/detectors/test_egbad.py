"""EGBAD scores as its paper says, and the remedies for its instability work."""

from typing import Any

import numpy as np
import pytest
from dependent_rows import broken_rows, dependent_rows, separation

from detectors.base import Matrix, State
from detectors.egbad import EGBAD
from detectors.errors import ParameterError
from detectors.networks import Network

pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

SMALL: dict[str, Any] = {
    "latent": 2,
    "generator": (16,),
    "encoder": (16,),
    "judge": 16,
    "batch": 64,
    "epochs": 8,
    "learning_rate": 3e-3,
}


def fitted(seed: int = 0, **parameters: Any) -> EGBAD:
    detector = EGBAD(**{**SMALL, **parameters})
    rng = np.random.default_rng(seed)
    return detector.fit(dependent_rows(800, 0), held_out=dependent_rows(400, 1), rng=rng)


@pytest.fixture(scope="module")
def stable() -> EGBAD:
    return fitted()


def networks(state: State) -> tuple[Network, Network, Network]:
    """Return encoder, generator and the discriminator's hidden layers."""
    encoder = Network.restored(state, "encoder", n_inputs=8, n_outputs=2)
    generator = Network.restored(state, "generator", n_inputs=2, n_outputs=8)
    return encoder, generator, Network.restored(state, "judge", n_inputs=10)


def units(state: State, x: Matrix) -> Matrix:
    return np.asarray((x - state.arrays["centre"]) / state.arrays["spread"])


def test_the_paper_s_score_is_that_of_its_equation() -> None:
    """(1 - w) ||x - G(z)||_1 + w ||f(x, z) - f(G(z), z)||_1 with z = E(x)."""
    detector, x = fitted(variant="paper", weight=0.3, epochs=2), dependent_rows(256, 2)
    encoder, generator, features = networks(detector.state())
    u = units(detector.state(), x).T
    z = encoder.on_tile(u)
    made = generator.on_tile(z)
    apart = features.on_tile(np.vstack([u, z])) - features.on_tile(np.vstack([made, z]))
    wanted = 0.7 * np.abs(u - made).sum(axis=0) + 0.3 * np.abs(apart).sum(axis=0)

    np.testing.assert_allclose(detector.score(x), wanted, rtol=1e-9)


def test_the_paper_s_setting_is_the_public_code_s() -> None:
    detector = EGBAD(variant="paper")
    found = detector.parameters()

    assert (found["encoder"], found["generator"], found["judge"]) == ((64,), (64, 128), 128)
    assert (found["latent"], found["weight"], found["dropout"]) == (32, 0.1, 0.2)
    assert (found["learning_rate"], found["batch"], found["decay"]) == (1e-5, 50, 0.9999)
    assert (found["cycle"], found["spectral"], found["scaled"], found["patience"]) == (0.0, False, False, 0)
    layers = [m for m in detector.judges(121, 32)["xz"].modules() if hasattr(m, "out_features")]
    assert [(m.in_features, m.out_features) for m in layers] == [(121, 128), (32, 128), (256, 128), (128, 1)]


def test_the_cycle_term_makes_encoder_and_generator_inverse(stable: EGBAD) -> None:
    """By the discriminator alone, rows are not rebuilt in as many steps."""
    alone = fitted(cycle=0.0)
    found, without = (detector.state().parameters["report"]["objective"] for detector in (stable, alone))

    assert found < 0.5 * without


def test_training_stops_where_held_out_rows_are_rebuilt_best(stable: EGBAD) -> None:
    report = stable.state().parameters["report"]

    assert report["objective"] == min(report["objectives"]) < 0.5 * report["objectives"][0]


def test_broken_dependencies_stand_out_and_seeds_agree(stable: EGBAD) -> None:
    """What the public code cannot promise: another seed, much the same detector."""
    normal, odd = dependent_rows(400, 3), broken_rows(400, 3)
    one, other = (separation(each.score(normal), each.score(odd)) for each in (stable, fitted(seed=1)))

    assert min(one, other) > 0.85
    assert abs(one - other) < 0.08


@pytest.mark.parametrize(
    "wrong",
    [{"weight": 1.5}, {"cycle": -1.0}, {"latent": 0}, {"judge": 0}, {"decay": 1.0}, {"generator": [0]}],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        EGBAD(**wrong)
