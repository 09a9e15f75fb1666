"""What is particular to MO-GAAL: generators with targets of their own, and the sign of its score."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from detectors.base import Matrix
from detectors.errors import ParameterError
from detectors.inputs import Inputs
from detectors.mo_gaal import ManyGenerators
from detectors.networks import Layer, Network
from detectors.parts.confidence import Doubt

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from detectors.neural.build import array_of, mlp  # noqa: E402 - torch may be missing
from detectors.neural.gaal import Game, discrimination, shares, sub_generator  # noqa: E402
from detectors.neural.negatives import Corruption, permuted  # noqa: E402

FIXED = np.random.default_rng(7).normal(size=(12, 3))


def draw(rng: np.random.Generator, n: int) -> Matrix:
    """Return rows whose columns hang together by three hidden causes, in [0, 1]."""
    x = rng.normal(size=(n, 3)) @ FIXED.T + 0.5 * rng.normal(size=(n, 12))
    return np.clip(0.5 + x / 20.0, 0.0, 1.0)


def shuffled(rng: np.random.Generator, x: Matrix) -> Matrix:
    return np.column_stack([rng.permutation(column) for column in x.T])


def separation(detector: ManyGenerators) -> float:
    """Return how well rows are told whose columns do not hang together any more."""
    rng = np.random.default_rng(5)
    normal = draw(rng, 500)
    scores = detector.score(np.vstack([normal, shuffled(rng, normal)]))
    return float(roc_auc_score(np.repeat([0, 1], 500), scores))


def game(count: int = 4, d: int = 3) -> Game:
    torch.manual_seed(0)
    discriminator = mlp([d, 16, 1])
    generators = torch.nn.ModuleList(sub_generator(d) for _ in range(count))
    return Game(
        discriminator=discriminator,
        generators=generators,
        optimise_discriminator=torch.optim.Adam(discriminator.parameters(), lr=0.01),
        optimise_generators=torch.optim.Adam(generators.parameters(), lr=0.01),
        corruption=None,
        generator=torch.Generator().manual_seed(1),
    )


@pytest.mark.parametrize("n", [1, 7, 54, 55, 500])
@pytest.mark.parametrize("count", [1, 2, 10])
def test_every_row_is_made_by_one_generator(n: int, count: int) -> None:
    found = shares(n, count)

    assert (sum(found), len(found)) == (n, count)
    assert min(found) >= 0


def test_generators_start_with_the_uniform_noise_itself() -> None:
    """So the first potential outliers are a uniform reference distribution."""
    played = game()
    noise = played.noise(torch.zeros(100, 3))

    torch.testing.assert_close(played.made(noise), noise)


def test_targets_are_quantiles_of_what_real_rows_are_given() -> None:
    """Generator i of k aims at the i / k quantile, the first one at the least."""
    played = game()
    rows = torch.rand(101, 3, generator=torch.Generator().manual_seed(0))
    certain = torch.sigmoid(played.discriminator(rows)[:, 0]).detach().sort().values

    torch.testing.assert_close(played.targets(rows), certain[[0, 25, 50, 75]])


def test_generators_move_to_their_targets() -> None:
    played = game(count=2)
    noise = torch.rand(200, 3, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([0.2, 0.8])
    for _ in range(300):
        played.teach_generators(noise, targets)
    reached = [torch.sigmoid(played.discriminator(g(noise))).mean().item() for g in played.generators]

    np.testing.assert_allclose(reached, targets, atol=0.05)


def test_a_discriminator_that_cannot_tell_has_lost_log_two() -> None:
    rows = torch.rand(40, 3)
    ignorant = torch.nn.Linear(3, 1)
    torch.nn.init.zeros_(ignorant.weight)
    torch.nn.init.zeros_(ignorant.bias)

    assert discrimination(ignorant, rows, rows[:10]).item() == pytest.approx(np.log(2.0))


def corruption(rows: "torch.Tensor", shuffled: float) -> Corruption:
    low, high = torch.full((rows.shape[1],), -1.0), torch.full((rows.shape[1],), 2.0)
    return Corruption(rows, low, high, torch.Generator().manual_seed(0), shuffled=shuffled)


def test_corrupted_rows_differ_and_stay_within_the_bounds() -> None:
    """Every second one has only values that other rows have in that column."""
    rows = torch.rand(60, 5, generator=torch.Generator().manual_seed(1))
    found = corruption(rows, 0.0)(rows)

    assert bool((found[1::2] != rows[1::2]).any(dim=1).all())
    assert all(bool(torch.isin(found[::2, j], rows[:, j]).all()) for j in range(5))
    assert -1.0 <= float(found.min()) < 0.0
    assert 1.0 < float(found.max()) <= 2.0


def test_shuffled_rows_keep_to_the_values_of_others() -> None:
    rows = torch.rand(60, 5, generator=torch.Generator().manual_seed(1))
    found = corruption(rows, 1.0)(rows)

    assert all(bool(torch.isin(found[:, j], rows[:, j]).all()) for j in range(5))
    assert not torch.equal(found, rows)


@pytest.mark.parametrize(("shuffled", "share"), [(0.0, 0.25), (1.0, 0.02)])
def test_rare_values_are_as_common_as_usual_ones_unless_rows_are_shuffled(
    shuffled: float, share: float
) -> None:
    """Of a column that is 1 in one row of fifty: half of the rows are replaced, half of these by 0 or 1."""
    rows = (torch.arange(5000) % 50 == 0).float()[:, None].repeat(1, 2)
    found = corruption(rows, shuffled)(rows)

    assert float((found[::2] == 1.0).float().mean()) == pytest.approx(share, abs=0.15)
    assert (float((found[::2] == 1.0).float().mean()) > 0.1) == (shuffled == 0.0)


def test_permuted_columns_keep_their_values() -> None:
    rows = torch.rand(30, 4)
    found = permuted(rows, torch.Generator().manual_seed(0))

    torch.testing.assert_close(found.sort(dim=0).values, rows.sort(dim=0).values)
    assert not torch.equal(found, rows)


def test_pyod_s_decision_function_is_the_probability_to_be_normal() -> None:
    """From the same network ours ranks the other way round: outliers first."""
    mo_gaal = pytest.importorskip("pyod.models.mo_gaal")
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    theirs = mo_gaal.MO_GAAL(k=3, stop_epochs=2).fit(draw(rng, 300))
    rows = draw(rng, 50)
    layers = ((theirs.discriminator.layer1, "relu"), (theirs.discriminator.layer2, "linear"))
    ours = Doubt(
        (
            Network(
                tuple(
                    Layer(array_of(layer.weight), array_of(layer.bias), activation)
                    for layer, activation in layers
                )
            ),
        )
    )
    doubt = ours.on_tile(rows.T)[0]

    np.testing.assert_allclose(theirs.decision_function(rows), 1.0 / (1.0 + np.exp(doubt)), rtol=1e-4)


def test_replaced_columns_teach_what_uniform_noise_does_not() -> None:
    """With the paper's generators alone, rows whose columns do not hang together pass for normal."""
    rng = np.random.default_rng(0)
    normal, held_out = draw(rng, 1500), draw(rng, 400)
    stable, paper = (
        ManyGenerators(variant=variant, stop_epochs=5, more_epochs=15).fit(
            normal, held_out=held_out, rng=np.random.default_rng(1)
        )
        for variant in ("stable", "paper")
    )

    assert separation(stable) > 0.85
    assert separation(paper) < separation(stable) - 0.1


def test_the_discriminator_ends_where_held_out_rows_are_told_best() -> None:
    rng = np.random.default_rng(0)
    detector = ManyGenerators(stop_epochs=2, more_epochs=50, patience=2)
    detector.fit(draw(rng, 500), held_out=draw(rng, 200), rng=rng)
    report = detector.state().parameters["report"]

    assert report["together"]["epochs"] == 2
    assert report["alone"]["epochs"] == report["alone"]["best_epoch"] + 2 < 50
    assert report["alone"]["objective"] < np.log(2.0)


def test_the_paper_s_setting_is_that_of_the_authors_code() -> None:
    paper = ManyGenerators(variant="paper")
    inputs = Inputs.of(draw(np.random.default_rng(0), 50), scaling="minmax", cap=0.5)
    played = paper._game(torch.zeros(1000, 12), inputs, torch.Generator())
    widths = [layer.out_features for layer in played.discriminator if isinstance(layer, torch.nn.Linear)]

    assert widths == [32, 1]  # ceil(sqrt(1000))
    assert (len(played.generators), paper.stop_epochs, paper.more_epochs) == (10, 25, 50)
    assert (paper.batch, paper.corrupted, paper.target_rows, paper.patience) == (500, False, None, 0)
    for optimiser, rate in ((played.optimise_discriminator, 0.01), (played.optimise_generators, 1e-4)):
        assert isinstance(optimiser, torch.optim.SGD)
        assert (optimiser.defaults["lr"], optimiser.defaults["momentum"]) == (rate, 0.9)


@pytest.mark.parametrize(
    "parameters", [{"generators": 0}, {"momentum": 1.0}, {"corrupted": 2}, {"hidden": [0]}]
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        ManyGenerators(**parameters)
