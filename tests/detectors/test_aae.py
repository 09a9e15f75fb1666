"""The adversarial autoencoder: reconstruction and place, weighed."""

from typing import Any

import numpy as np
import pytest

from detectors.aae import AAE
from detectors.base import Matrix, State
from detectors.errors import ParameterError, StateError
from detectors.parts.directions import Directions
from detectors.parts.sum import SumOfParts

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from detectors.neural.build import mlp  # noqa: E402 - torch may be missing
from detectors.neural.latent_game import LatentGame  # noqa: E402 - the same

CAUSES = np.random.default_rng(7).normal(size=(2, 6))


def draw(n: int, seed: int, *, size: float = 1.0) -> Matrix:
    """Return rows of six columns that two hidden causes, `size` times as large as usual, move."""
    rng = np.random.default_rng(seed)
    return size * rng.uniform(-1.0, 1.0, size=(n, 2)) @ CAUSES + 0.1 * rng.normal(size=(n, 6))


def fitted(**parameters: Any) -> AAE:
    settings = {"code": 2, "hidden": (16,), "epochs": 20, **parameters}
    return AAE(**settings).fit(draw(2000, 1), held_out=draw(500, 2), rng=np.random.default_rng(0))


def parts(detector: AAE, x: Matrix) -> tuple[Matrix, Matrix]:
    """Return the sums of the residual terms and of the terms of the directions."""
    residual = np.array([label.kind == "residual" for label in detector.labels])
    terms = detector.terms(x)
    return terms[:, residual].sum(axis=1), terms[:, ~residual].sum(axis=1)


def game(discriminator: Any) -> LatentGame:
    return LatentGame(
        encoder=mlp([3, 2]),
        decoder=mlp([2, 3]),
        discriminator=discriminator,
        rates=(1e-3, 1e-4),
        momentum=0.5,
        noise=0.0,
        generator=torch.Generator().manual_seed(0),
    )


def test_a_discriminator_that_knows_nothing_pays_two_bits() -> None:
    """Draws are 1, codes 0: at logit 0 each costs log 2; a sure one pays for the codes that it believes."""
    blank = mlp([2, 1])
    for parameter in blank.parameters():
        torch.nn.init.zeros_(parameter)
    codes = torch.zeros(4, 2)

    assert game(blank).telling_loss(codes).item() == pytest.approx(2 * np.log(2))
    assert game(blank).deceiving_loss(codes).item() == pytest.approx(np.log(2))
    torch.nn.init.constant_(blank[0].bias, 5.0)
    assert game(blank).telling_loss(codes).item() == pytest.approx(np.logaddexp(0, 5) + np.logaddexp(0, -5))
    assert game(blank).deceiving_loss(codes).item() == pytest.approx(np.logaddexp(0, -5))


def test_each_step_of_the_game_moves_what_it_should() -> None:
    torch.manual_seed(0)
    made = game(mlp([2, 4, 1]))
    optimisers = (made._rebuild, made._tell, made._deceive)
    owned = [{id(p) for group in each.param_groups for p in group["params"]} for each in optimisers]
    of = [{id(p) for p in module.parameters()} for module in made.modules]

    assert owned == [of[0] | of[1], of[2], of[0]]
    assert made._tell.param_groups[0]["betas"][0] == 0.5
    assert [each.param_groups[0]["lr"] for each in optimisers] == [1e-3, 1e-4, 1e-4]


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_both_parts_count_by_their_share_of_a_standard_deviation(share: float) -> None:
    """On held-out rows the residuals' part varies by the share, the directions' part by the rest."""
    found = parts(fitted(share=share), draw(500, 2))

    assert [part.std() for part in found] == pytest.approx([share, 1.0 - share], rel=1e-6)


def test_the_game_makes_codes_like_the_prior() -> None:
    """Uniform causes come out nearer to N(0, 1) where the game is played."""

    def gap(**parameters: float) -> float:
        made = fitted(variant="paper", epochs=30, **parameters)
        model = made._model
        assert isinstance(model, SumOfParts)
        placed = model.parts[1]
        assert isinstance(placed, Directions)
        codes = placed.encoder.on_tile(model.inputs.matrix(draw(1000, 3)).T)
        return float(np.abs(np.cov(codes) - np.eye(2)).max() + np.abs(codes.mean(axis=1)).max())

    assert gap(adversarial_rate=1e-3) < 0.6 * gap(adversarial_rate=1e-9)


def test_rows_that_break_the_dependencies_are_residuals() -> None:
    detector, normal, rng = fitted(), draw(400, 3), np.random.default_rng(4)
    broken = np.column_stack([rng.permutation(column) for column in normal.T])
    residual, direction = (part.mean() for part in parts(detector, broken))

    assert np.mean(detector.score(broken)[:, None] > detector.score(normal)) > 0.85
    assert residual > 3 * direction


def test_rows_that_keep_them_but_lie_far_out_are_found_by_their_place() -> None:
    """The same causes, much larger: what is well rebuilt is still encoded where no normal row is."""
    detector = fitted()
    _, usual = parts(detector, draw(400, 3))
    _, far = parts(detector, draw(400, 5, size=4.0))

    assert np.median(far) > 4 * np.median(usual)


def test_the_report_tells_how_the_game_went() -> None:
    told = fitted().state().parameters["report"]

    assert 0.0 <= told["discriminator_right"] <= 1.0
    assert told["objectives"][told["best_epoch"] - 1] == min(told["objectives"])
    assert min(told["objectives"]) < 0.5 * told["objectives"][0]


def test_the_paper_s_numbers() -> None:
    paper = AAE(variant="paper")
    made = fitted(variant="paper", code=None, hidden=(64, 32), epochs=1).state()
    shapes = [made.arrays[f"encoder.{layer}.weights"].shape for layer in range(3)]

    assert (paper.hidden, paper.discriminator, paper.share) == ((64, 32), (32, 16), 0.5)
    assert (paper.learning_rate, paper.adversarial_rate, paper.momentum) == (1e-3, 1e-4, 0.5)
    assert (paper.noise, paper.scaled, paper.patience) == (0.0, False, 0)
    assert shapes == [(64, 6), (32, 64), (2, 32)]


def test_weights_below_zero_are_refused() -> None:
    detector = fitted(epochs=1)
    state = detector.state()
    broken = State(parameters=state.parameters, arrays={**state.arrays, "weights": np.array([1.0, -1.0])})

    with pytest.raises(StateError, match="no negative numbers"):
        AAE(**detector.parameters()).restore(broken)


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "fast"},
        {"hidden": (0,)},
        {"discriminator": (0,)},
        {"code": 0},
        {"share": 0.0},
        {"noise": -1.0},
        {"scaled": "no"},
        {"learning_rate": 0.0},
        {"adversarial_rate": 2.0},
        {"momentum": -0.5},
        {"batch": 1},
        {"epochs": 0},
        {"residual_floor": 0.0},
        {"cap": -1.0},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        AAE(**wrong)
