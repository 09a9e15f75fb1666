"""Self-adversarial training is the article's, and its known troubles are told."""

from typing import Any

import numpy as np
import pytest

from detectors.advae import AdVAE
from detectors.base import Matrix
from detectors.errors import ParameterError

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from detectors.advae.training import Game, Noise, Players, Weights, transformer  # noqa: E402 - torch may be missing
from detectors.neural.build import arrays_of  # noqa: E402 - the same
from detectors.neural.variational import Gaussian, Pair, squared_error  # noqa: E402 - the same

D, K = 6, 2
CAUSES = np.random.default_rng(7).uniform(-1.0, 1.0, size=(2, D))


def draw(n: int, seed: int) -> Matrix:
    """Return rows within about [0, 1], six columns that two hidden causes move."""
    rng = np.random.default_rng(seed)
    return 0.5 + 0.2 * rng.uniform(-1.0, 1.0, size=(n, 2)) @ CAUSES + 0.03 * rng.normal(size=(n, D))


def fitted(**parameters: Any) -> AdVAE:
    settings = {"code": K, "warmup": 500, "steps": 300, "n_draws": 16, **parameters}
    return AdVAE(**settings).fit(draw(2000, 1), held_out=draw(500, 2), rng=np.random.default_rng(0))


def report(detector: AdVAE) -> dict[str, Any]:
    found: dict[str, Any] = detector.state().parameters["report"]
    return found


def game(**changed: float) -> Game:
    torch.manual_seed(0)
    weights = {"kl": 0.3, "adversarial": 0.2, "row_margin": 2.0, "code_margin": 40.0, **changed}
    return Game(Pair.of(D, (4,), K), Weights(**weights))


def batch(n: int = 5) -> tuple[Any, Noise]:
    rng = np.random.default_rng(1)
    noise = (torch.tensor(rng.normal(size=(n, K)), dtype=torch.float32) for _ in range(2))
    return torch.tensor(rng.uniform(size=(n, D)), dtype=torch.float32), Noise(*noise)


class Plain:
    """The article's formulas, in numpy, row by row."""

    def __init__(self, of: Game) -> None:
        modules = (of.pair.encoder, of.pair.decoder, of.transformer)
        self.encoder, self.generator, self.transformer = (arrays_of(module) for module in modules)

    def code(self, rows: Matrix) -> tuple[Matrix, Matrix]:
        outputs = self.encoder.on_tile(rows.T).T
        return outputs[:, :K], np.exp(0.5 * outputs[:, K:])

    def run(self, x: Matrix, noise: Noise) -> dict[str, float]:
        mu, s = self.code(x)
        made = self.transformer.on_tile(np.concatenate([mu, 2 * np.log(s)], axis=1).T).T
        mu_t, s_t = made[:, :K], np.exp(0.5 * made[:, K:])
        x_r = self.generator.on_tile((mu + s * noise.code.numpy()).T).T
        x_t = self.generator.on_tile((mu_t + s_t * noise.transformed.numpy()).T).T
        between = np.log(s_t / s) + (s**2 + (mu - mu_t) ** 2) / (2 * s_t**2) - 0.5
        return {
            "error": np.mean(np.sum((x - x_r) ** 2, axis=1)),
            "apart": np.mean(np.sum((x_r - x_t) ** 2, axis=1)),
            "kl": prior(mu, s),
            "kl_r": prior(*self.code(x_r)),
            "kl_t": prior(*self.code(x_t)),
            "L_T": np.mean(np.sum(between, axis=1)),
        }


def prior(mu: Matrix, s: Matrix) -> float:
    return float(np.mean(0.5 * np.sum(mu**2 + s**2 - np.log(s**2) - 1.0, axis=1)))


@pytest.mark.parametrize("margins", [(2.0, 40.0), (0.01, 0.01), (2.0, 0.01)])
def test_both_losses_are_those_of_the_algorithm(margins: tuple[float, float]) -> None:
    """L_G + lambda L_T and L_E, with hinges that are active and that are not."""
    m_x, m_z = margins
    made = game(row_margin=m_x, code_margin=m_z)
    x, noise = batch()
    v = Plain(made).run(x.numpy().astype(np.float64), noise)
    apart, rebuilt, synthetic = (
        max(0.0, gap) for gap in (m_x - v["apart"], m_z - v["kl_r"], m_z - v["kl_t"])
    )
    loss_g = v["error"] + 0.2 * v["kl_r"] + apart + 0.2 * synthetic

    assert made.generator_loss(x, noise).loss.item() == pytest.approx(loss_g + 0.3 * v["L_T"], rel=1e-4)
    assert made.encoder_loss(x, noise).loss.item() == pytest.approx(
        v["error"] + 0.3 * v["kl"] + 0.2 * (rebuilt + synthetic), rel=1e-4
    )


def gradients(loss: Any, module: Any) -> Any:
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))])


def test_reconstructions_are_constants_where_the_encoder_reads_them_again() -> None:
    """Through the generator, L_E has the gradient of the squared error alone."""
    made = game(kl=0.0)
    x, noise = batch()
    error = squared_error(x, made.pair.decoder(made.pair.encoded(x).at(noise.code)))
    wanted = gradients(error, made.pair.decoder)

    torch.testing.assert_close(gradients(made.encoder_loss(x, noise).loss, made.pair.decoder), wanted)


def test_the_generator_s_step_reads_reconstructions_through_the_encoder() -> None:
    """L_G's divergence of x_r does reach the generator, and does not stop at constants."""
    x, noise = batch()
    plain, adversarial = game(adversarial=1e-9), game(adversarial=1.0)
    found = [gradients(g.generator_loss(x, noise).loss, g.pair.decoder) for g in (plain, adversarial)]

    assert (found[0] - found[1]).abs().max() > 1e-3


def test_each_step_moves_its_own_networks() -> None:
    """After a minibatch all three have moved, each by the optimiser of its own step."""
    made = game()
    players = Players(made, 1e-3, torch.Generator().manual_seed(0))
    held = {
        "makers": (players._step_1, [*made.pair.decoder.parameters(), *made.transformer.parameters()]),
        "encoder": (players._step_2, list(made.pair.encoder.parameters())),
    }
    before = [p.detach().clone() for module in made.modules for p in module.parameters()]
    players.step(batch()[0])
    after = [p.detach() for module in made.modules for p in module.parameters()]

    for optimiser, parameters in held.values():
        own = {id(p) for group in optimiser.param_groups for p in group["params"]}
        assert own == {id(p) for p in parameters}
    assert all(not torch.equal(one, two) for one, two in zip(before, after, strict=True) if two.ndim == 2)


def test_the_transformer_has_the_article_s_layers() -> None:
    """2k - 2k - 2k - 2k, sigmoids inside; it takes log-variances, as the authors' code does."""
    made = arrays_of(transformer(3))
    code = Gaussian(torch.zeros(1, 3), torch.ones(1, 3))

    assert [layer.weights.shape for layer in made.layers] == [(6, 6)] * 3
    assert made.activations == ["sigmoid", "sigmoid", "linear"]
    assert Game(Pair.of(4, (2,), 3), game().weights).transformed(code).mean.shape == (1, 3)


def test_the_paper_s_numbers() -> None:
    paper = AdVAE(variant="paper")

    assert (paper.adversarial_weight, paper.row_margin, paper.code_margin) == (0.001, 2.0, 40.0)
    assert (paper.kl_weight, paper.n_draws, paper.batch, paper.learning_rate) == (0.01, 1000, 128, 0.001)
    assert (paper.steps, paper.patience, paper.warmup, paper.scaled) == (20_000, 0, 0, False)


def test_weight_and_margin_are_found_without_labels() -> None:
    """The weight is what the warm-up's error implies; the margin lies a little above its divergence.

    That of the rows is how far two of them lie apart.
    """
    told = report(fitted())

    assert told["kl_weight"] == pytest.approx(2 * told["warmup"]["error"] / D)
    assert told["code_margin"] == pytest.approx(1.25 * told["warmup"]["divergence"])
    assert 0.1 < told["row_margin"] < 1.0  # rows of six columns are not 2 apart
    assert report(fitted(code_margin=7.0, steps=50))["code_margin"] == 7.0


def test_margins_that_are_too_small_switch_the_game_off_and_it_is_told() -> None:
    off = report(fitted(row_margin=1e-6, code_margin=1e-3, steps=200))["active_hinges"]
    on = report(fitted(row_margin=50.0, code_margin=1e4, steps=200))["active_hinges"]

    assert set(off.values()) == {0.0}
    assert set(on.values()) == {1.0}
    assert len(on) == 4


def test_the_transformer_copies_where_its_divergence_weighs_much_and_it_is_told() -> None:
    copied = report(fitted(variant="paper", warmup=0, steps=300, kl_weight=10.0))["transformer_divergence"]
    free = report(fitted(variant="paper", warmup=0, steps=300, kl_weight=0.003))["transformer_divergence"]

    assert copied < 0.2 < free


def test_rows_that_break_the_dependencies_score_high() -> None:
    detector, normal, rng = fitted(), draw(400, 3), np.random.default_rng(4)
    broken = np.column_stack([rng.permutation(column) for column in normal.T])

    assert np.mean(detector.score(broken)[:, None] > detector.score(normal)) > 0.85


def test_progress_goes_up_to_one() -> None:
    seen: list[float] = []
    AdVAE(code=K, warmup=100, steps=100, n_draws=2).fit(
        draw(300, 1),
        held_out=draw(100, 2),
        rng=np.random.default_rng(0),
        progress=lambda _what, done: seen.append(done),
    )

    assert seen == sorted(seen)
    assert seen[-1] == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"adversarial_weight": 0.0},
        {"row_margin": -1.0},
        {"code_margin": 0.0},
        {"margin_factor": 0.0},
        {"warmup": -1},
        {"warmup": 0},
        {"n_draws": 0},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        AdVAE(**wrong)
