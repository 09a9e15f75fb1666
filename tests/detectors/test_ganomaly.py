"""GANomaly scores by the code of a row and that of its rebuilt self."""

from typing import Any

import numpy as np
import pytest
from dependent_rows import broken_rows, dependent_rows, separation

from detectors.errors import ParameterError
from detectors.ganomaly import Disagreement, GANomaly
from detectors.networks import Layer, Network

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from detectors.neural.build import tensor  # noqa: E402 - torch may be missing
from detectors.neural.ganomaly import Game, GanomalyPlan  # noqa: E402
from detectors.neural.training import Schedule  # noqa: E402

SMALL: dict[str, Any] = {"hidden": (24,), "latent": 5, "batch": 64, "epochs": 8, "learning_rate": 3e-3}


def fitted(seed: int = 0, **parameters: Any) -> GANomaly:
    detector = GANomaly(**{**SMALL, **parameters})
    rng = np.random.default_rng(seed)
    return detector.fit(dependent_rows(1200, 0), held_out=dependent_rows(400, 1), rng=rng)


@pytest.fixture(scope="module")
def stable() -> GANomaly:
    return fitted()


def random_disagreement() -> Disagreement:
    rng = np.random.default_rng(0)

    def layer(wide: int, narrow: int) -> Layer:
        return Layer(rng.normal(size=(wide, narrow)), rng.normal(size=wide), "tanh")

    return Disagreement(*(Network((layer(wide, d),)) for d, wide in ((8, 3), (3, 8), (8, 3))))


def test_the_gradient_goes_through_all_three_networks() -> None:
    differs, tile = random_disagreement(), np.random.default_rng(1).normal(size=(8, 256))
    _, back = differs.pullback(tile)
    weights = np.random.default_rng(2).normal(size=(3, 256))
    found = back(weights)

    for column in range(8):
        step = np.zeros_like(tile)
        step[column] = 1e-6
        change = differs.on_tile(tile + step) - differs.on_tile(tile - step)
        np.testing.assert_allclose(found[column], (change * weights).sum(axis=0) / 2e-6, rtol=1e-4, atol=1e-5)


def test_the_paper_s_score_is_that_of_its_equation() -> None:
    """The mean of (z - z')^2, z = E1(x), z' = E2(G(E1(x))); not the error of the rebuilt row."""
    detector, x = fitted(variant="paper", epochs=2), dependent_rows(256, 2)
    state = detector.state()
    differs = Disagreement.restored(state, 8)
    u = ((x - state.arrays["centre"]) / state.arrays["spread"]).T

    np.testing.assert_allclose(detector.score(x), np.square(differs.on_tile(u)).mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(
        detector.explain(x).expected,
        differs.rebuilt(u).T * state.arrays["spread"] + state.arrays["centre"],
        rtol=1e-9,
    )


def plan(**changes: Any) -> GanomalyPlan:
    usual: dict[str, Any] = {
        "hidden": (4,),
        "latent": 2,
        "spectral": False,
        "adversarial": 1.0,
        "contextual": 50.0,
        "latent_weight": 1.0,
        "learning_rate": 1e-3,
        "schedule": Schedule(epochs=1, patience=0, batch=8),
    }
    return GanomalyPlan(**{**usual, **changes})


def test_the_loss_is_the_paper_s_sum() -> None:
    """1 * ||f(x) - f(x')||^2 + 50 * |x - x'| + 1 * ||z - z'||^2, each as a mean."""
    torch.manual_seed(0)
    game = Game(5, plan())
    rows = torch.randn(32, 5)
    code = game.encoder(rows)
    rebuilt = game.decoder(code)
    hidden = torch.nn.functional.leaky_relu(game.judge[0](torch.cat([rows, rebuilt])), 0.2)
    wanted = (
        (hidden[:32] - hidden[32:]).square().mean()
        + 50.0 * (rows - rebuilt).abs().mean()
        + (code - game.again(rebuilt)).square().mean()
    )

    torch.testing.assert_close(game.loss(game.passed(rows)), wanted)


def test_a_discriminator_that_is_sure_of_everything_starts_anew() -> None:
    torch.manual_seed(0)
    game = Game(3, plan())
    rows = tensor(np.random.default_rng(0).normal(size=(64, 3)))
    game.step(rows)
    assert game.restarts == 0

    with torch.no_grad():  # a judge that calls real what has a large sum, and made what has not
        for layer in (game.judge[0], game.judge[2]):
            layer.weight.fill_(1.0)
            layer.bias.fill_(0.0)
        game.judge[2].bias.fill_(-1e3)
        for parameter in game.decoder.parameters():
            parameter.zero_()
    sure = game.judge[2].bias.item()
    game.step(rows + 1e3)

    assert game.restarts == 1
    assert game.judge[2].bias.item() != pytest.approx(sure, abs=1.0)


def test_the_paper_s_setting() -> None:
    found = GANomaly(variant="paper").parameters()

    assert (found["adversarial"], found["contextual"], found["latent_weight"]) == (1.0, 50.0, 1.0)
    assert (found["hidden"], found["learning_rate"], found["batch"], found["epochs"]) == (
        (64, 32),
        2e-4,
        64,
        15,
    )
    assert (found["whitened"], found["spectral"], found["patience"]) == (False, False, 0)


def test_whitened_scores_do_not_depend_on_the_codes_scale(stable: GANomaly) -> None:
    """A normal row's score is about the number of directions, however small the codes have become."""
    scores = stable.score(dependent_rows(1000, 4))

    assert np.mean(scores) == pytest.approx(5.0, rel=0.25)


def found_by(detector: GANomaly) -> float:
    normal, odd = (detector.score(rows(400, 3)) for rows in (dependent_rows, broken_rows))
    return separation(normal, odd)


def test_broken_dependencies_stand_out_by_a_wide_code(stable: GANomaly) -> None:
    """A code as narrow as the causes of normal rows holds nothing by which others could differ."""
    assert found_by(stable) > 0.75
    assert found_by(stable) > found_by(fitted(latent=2)) + 0.1


def test_training_improves_what_it_is_for(stable: GANomaly) -> None:
    report = stable.state().parameters["report"]

    assert report["objective"] == min(report["objectives"]) < 0.7 * report["objectives"][0]


@pytest.mark.parametrize("wrong", [{"hidden": []}, {"latent": 0}, {"contextual": -1.0}, {"whitened": "yes"}])
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        GANomaly(**wrong)
