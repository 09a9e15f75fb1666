"""The variational autoencoder, and the losses that its family shares."""

from typing import Any

import numpy as np
import pytest

from detectors.base import Matrix, State
from detectors.errors import ParameterError
from detectors.parts.draws import fixed_noise
from detectors.vae import VAE

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from torch.distributions import Normal, kl_divergence  # noqa: E402 - torch may be missing

from detectors.neural.variational import (  # noqa: E402 - the same
    Balance,
    Gaussian,
    for_steps,
    from_other,
    from_prior,
    gaussian,
    squared_error,
)

CAUSES = np.random.default_rng(7).uniform(-1.0, 1.0, size=(2, 6))
NOISE = 0.03


def draw(n: int, seed: int, *, noise: float = NOISE) -> Matrix:
    """Return rows within about [0, 1], six columns that two hidden causes move."""
    rng = np.random.default_rng(seed)
    return 0.5 + 0.2 * rng.uniform(-1.0, 1.0, size=(n, 2)) @ CAUSES + noise * rng.normal(size=(n, 6))


def fitted(*, seed: int = 0, normal: Matrix | None = None, **parameters: Any) -> VAE:
    settings = {"code": 2, "hidden": (16,), "steps": 800, "n_draws": 32, **parameters}
    normal = draw(2000, 1) if normal is None else normal
    return VAE(**settings).fit(normal, held_out=draw(500, 2), rng=np.random.default_rng(seed))


def report(detector: VAE) -> dict[str, Any]:
    found: dict[str, Any] = detector.state().parameters["report"]
    return found


def codes(seed: int) -> Gaussian:
    rng = np.random.default_rng(seed)
    return Gaussian(*(torch.from_numpy(rng.normal(size=(7, 3))) for _ in range(2)))


def normal_of(code: Gaussian) -> Normal:
    return Normal(code.mean, torch.exp(0.5 * code.log_variance))


def test_the_divergence_from_the_prior_is_what_it_says() -> None:
    code = codes(0)
    wanted = kl_divergence(normal_of(code), Normal(0.0, 1.0)).sum(dim=1).mean()

    assert from_prior(code).item() == pytest.approx(wanted.item(), rel=1e-12)
    assert from_prior(Gaussian(torch.zeros(2, 3), torch.zeros(2, 3))).item() == 0.0


def test_the_divergence_from_another_code_is_what_it_says() -> None:
    one, other = codes(0), codes(1)
    wanted = kl_divergence(normal_of(one), normal_of(other)).sum(dim=1).mean()

    assert from_other(one, other).item() == pytest.approx(wanted.item(), rel=1e-12)
    assert from_other(one, one).item() == 0.0


def test_squared_errors_are_sums_over_the_columns() -> None:
    x, y = torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, 3.0]])

    assert squared_error(x, y).item() == (5.0 + 9.0) / 2


def test_log_variances_are_cut_as_in_scoring() -> None:
    assert gaussian(torch.tensor([[0.0, 99.0], [0.0, -99.0]])).log_variance.tolist() == [[10.0], [-10.0]]


@pytest.mark.parametrize(("n_rows", "n_steps"), [(64_000, 20_000), (1200, 20_000), (30, 500), (500, 10)])
def test_schedules_have_about_as_many_minibatches_as_asked_for(n_rows: int, n_steps: int) -> None:
    schedule = for_steps(n_steps, n_rows, 128, 0)
    repeats = max(1, -(-schedule.least_steps * schedule.batch // n_rows))
    steps = schedule.epochs * repeats * (n_rows // schedule.batch)

    assert n_steps / 2 <= steps <= 2 * n_steps


def test_a_weight_that_is_found_is_twice_the_variance_that_is_left() -> None:
    """Two causes are learned; what is left is the noise, whose variance the weight gives back."""
    normal = draw(2000, 1)
    found = report(fitted(normal=normal, hidden=(32, 32), steps=1500))["kl_weight"]
    variances = (NOISE / (normal.max(axis=0) - normal.min(axis=0))) ** 2

    assert 0.7 * 2 * variances.mean() < found < 2.0 * 2 * variances.mean()


def test_a_weight_that_is_given_is_kept() -> None:
    assert report(fitted(kl_weight=0.07, steps=50))["kl_weight"] == 0.07
    assert Balance(0.07).bound(torch.tensor(2.0), torch.tensor(3.0), 5).item() == pytest.approx(2.21)


def separation(detector: VAE) -> float:
    """Return how often a row whose columns were shuffled scores higher than a normal one."""
    normal = draw(400, 3)
    rng = np.random.default_rng(4)
    broken = np.column_stack([rng.permutation(column) for column in normal.T])
    return float(np.mean(detector.score(broken)[:, None] > detector.score(normal)))


def test_a_prior_that_weighs_too_much_leaves_the_codes_empty() -> None:
    """The pathology: nothing is encoded, so no dependency is known; a found weight does not do that."""
    collapsed, found = fitted(kl_weight=5.0), fitted()

    assert report(collapsed)["divergence"] < 0.05
    assert report(found)["divergence"] > 1.0
    assert separation(collapsed) < 0.65
    assert separation(found) > 0.85


def test_the_score_is_the_error_of_the_mean_and_not_the_mean_of_errors() -> None:
    """Plainly, with the numbers of the state: draw by draw."""
    detector = fitted(variant="paper", steps=300, n_draws=20)
    x = draw(9, 5)
    arrays = detector.state().arrays
    u = (x - arrays["centre"]) / arrays["spread"]

    def through(name: str, values: Matrix, last: Any) -> Matrix:
        hidden = np.maximum(values @ arrays[f"{name}.0.weights"].T + arrays[f"{name}.0.bias"], 0.0)
        made: Matrix = last(hidden @ arrays[f"{name}.1.weights"].T + arrays[f"{name}.1.bias"])
        return made

    outputs = through("encoder", u, lambda v: v)
    draws = [outputs[:, :2] + np.exp(0.5 * outputs[:, 2:]) * noise for noise in arrays["noise"].T]
    rebuilt = np.array([through("decoder", z, lambda v: 1 / (1 + np.exp(-v))) for z in draws])

    np.testing.assert_allclose(detector.score(x), ((u - rebuilt.mean(axis=0)) ** 2).sum(axis=1), rtol=1e-9)
    assert np.all(((u - rebuilt) ** 2).sum(axis=2).mean(axis=0) > detector.score(x))


def test_few_paired_draws_score_as_many_draws_do() -> None:
    """The default's 64 draws rank rows as 1,000 independent ones."""
    x = np.concatenate([draw(300, 3), draw(100, 4, noise=0.2)])
    few = fitted(n_draws=64)
    state = few.state()
    noise = fixed_noise(2, 1000, np.random.default_rng(9), in_pairs=False)
    many = VAE().restore(State(parameters=state.parameters, arrays={**state.arrays, "noise": noise}))
    ranks = [detector.score(x).argsort().argsort() for detector in (few, many)]

    assert np.corrcoef(*ranks)[0, 1] > 0.99


def test_training_makes_the_bound_smaller() -> None:
    objectives = report(fitted())["objectives"]

    assert min(objectives) < objectives[0] - 0.1


def test_a_column_that_moves_against_the_others_leads() -> None:
    odd = draw(50, 6)
    odd[:, 4] = draw(50, 7)[:, 4] + 0.3
    leading = fitted().terms(odd).argmax(axis=1)

    assert np.mean(leading == 4) > 0.9


def test_the_paper_s_networks_and_numbers() -> None:
    """Half the columns twice, a third as code, 1,000 draws, all 20,000 minibatches of 128 rows."""
    paper = VAE(variant="paper")
    made = fitted(variant="paper", code=None, hidden=None, steps=5, n_draws=2).state()
    shapes = [made.arrays[f"encoder.{layer}.weights"].shape for layer in range(3)]

    assert (paper.n_draws, paper.steps, paper.batch, paper.learning_rate) == (1000, 20_000, 128, 1e-3)
    assert (paper.patience, paper.scaled, paper.in_pairs) == (0, False, False)
    assert shapes == [(3, 6), (3, 3), (4, 3)]
    assert made.parameters["networks"] == {
        "encoder": ["relu", "relu", "linear"],
        "decoder": ["relu", "relu", "sigmoid"],
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"variant": "fast"},
        {"hidden": (0,)},
        {"least_width": 0},
        {"code": 0},
        {"kl_weight": 0.0},
        {"n_draws": 0},
        {"in_pairs": "yes"},
        {"scaled": 2},
        {"learning_rate": 0.0},
        {"batch": 1},
        {"steps": 0},
        {"patience": -1},
        {"residual_floor": 0.0},
        {"cap": -1.0},
    ],
)
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        VAE(**wrong)
