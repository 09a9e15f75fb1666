"""AnoEAN: the paper's losses, what exposure to odd rows is good for, and what the paper's variant is."""

import numpy as np
import pytest

from detectors.anoean import AnoEAN
from detectors.base import Matrix
from detectors.errors import FitError, ParameterError
from detectors.inputs import Inputs
from detectors.model import Training

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from detectors.neural.distances import mmd, overlap  # noqa: E402 - torch may be missing
from detectors.neural.encoding import Adversaries, Odd  # noqa: E402

RNG = np.random.default_rng


def normal_rows(n: int, seed: int = 0) -> Matrix:
    """Return rows in which the second column follows the first, and the third neither."""
    rng = RNG(seed)
    first, third = rng.normal(size=(2, n))
    return np.column_stack([first, first + 0.1 * rng.normal(size=n), third])


def shifted(n: int, seed: int = 9) -> Matrix:
    """Return a family of anomalies: the third column is far too large."""
    x = normal_rows(n, seed)
    x[:, 2] += 5.0
    return x


def broken(n: int, seed: int = 9) -> Matrix:
    """Return another family: the second column no longer follows the first."""
    x = normal_rows(n, seed)
    x[:, 1] = -x[:, 0]
    return x


def fitted(*, anomalies: Matrix | None = None, **parameters: object) -> AnoEAN:
    detector = AnoEAN(**{"hidden": (32, 16), "latent": 2, "epochs": 20, **parameters})
    return detector.fit(normal_rows(2000), held_out=normal_rows(500, 1), anomalies=anomalies, rng=RNG(0))


@pytest.fixture(scope="module")
def detector() -> AnoEAN:
    """Return one that knows no anomaly."""
    return fitted()


def auc(detector: AnoEAN, odd: Matrix) -> float:
    """Return the chance that an odd row scores higher than a normal one."""
    normal = detector.score(normal_rows(500, 2))
    return float(np.mean(detector.score(odd)[:, None] > normal))


def adversaries(**parameters: object) -> Adversaries:
    settings = AnoEAN(variant="paper", **parameters)
    x = normal_rows(50)
    data = Training(normal=x, held_out=x, rng=RNG(0), anomalies=x[:5])
    generator = torch.Generator().manual_seed(0)
    inputs = Inputs.of(x, cap=1.0)
    return Adversaries(3, settings, Odd(settings, inputs, data, generator), generator)


class Known(torch.nn.Module):
    """A discriminator whose logit is a code's first value."""

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return codes[:, :1]


def test_the_discriminator_s_loss_is_equation_1() -> None:
    """At D = 3/4 of noise, 1/2 of normal codes and 1/4 of odd ones it is -log 3/4 - log 1/2 - log 3/4."""
    game = adversaries()
    game.discriminator = Known()
    three, zero = torch.full((4, 2), float(np.log(3))), torch.zeros(7, 2)
    wanted = -np.log(0.75) - np.log(0.5) - np.log(0.75)

    assert game.judged(three, zero, -three).item() == pytest.approx(wanted, rel=1e-6)
    assert game.judged(three, zero, zero[:0]).item() == pytest.approx(-np.log(0.75) - np.log(0.5), rel=1e-6)


def test_the_encoder_s_loss_is_that_of_the_algorithm() -> None:
    """-log D of normal codes, -log(1 - D) of odd ones."""
    game = adversaries()
    game.discriminator, game.encoder = Known(), torch.nn.Identity()
    three = torch.full((4, 3), float(np.log(3)))

    assert game.encoded(three, -three).item() == pytest.approx(-2 * np.log(0.75), rel=1e-6)


def test_odd_rows_are_pushed_no_further_than_the_margin() -> None:
    game = adversaries(margin=2.0)

    assert game.repelled(torch.tensor([-2.0, -50.0])).item() == 0.0
    assert game.repelled(torch.tensor([1.0, -1.0])).item() == 2.0


def test_the_paper_s_variant_is_the_paper_s() -> None:
    paper = AnoEAN(variant="paper").parameters()

    assert paper["hidden"] == (128, 64, 32)
    assert paper["discriminator"] == (32, 16)
    assert (paper["batch"], paper["learning_rate"], paper["beta"]) == (200, 2e-4, 0.5)
    assert (paper["made_share"], paper["smoothing"], paper["margin"]) == (0.0, 1.0, 0.0)
    assert (paper["spectral"], paper["reconstruction"]) == (False, 0.0)


def test_a_minibatch_has_the_shares_it_should() -> None:
    x = normal_rows(400)
    settings = AnoEAN(batch=100, known_share=0.1, made_share=0.4)
    inputs = Inputs.of(x, cap=1.0)
    generator = torch.Generator().manual_seed(0)
    for anomalies, n in ((shifted(3), 50), (None, 40), (shifted(0), 40)):
        data = Training(normal=x, held_out=x, rng=RNG(0), anomalies=anomalies)
        odd = Odd(settings, inputs, data, generator)

        assert odd.per_batch == n == len(odd.batch(torch.zeros(60, 3)))


def test_mixtures_lie_between_normal_rows_and_known_anomalies() -> None:
    x = np.zeros((60, 3))
    known = np.ones((5, 3))
    inputs = Inputs.of(x, cap=10.0)
    data = Training(normal=x, held_out=x, rng=RNG(0), anomalies=known)
    odd = Odd(AnoEAN(), inputs, data, torch.Generator().manual_seed(0))
    mixed = odd.made(torch.zeros(60, 3))[::3]

    assert torch.all((mixed >= 0) & (mixed <= 1))
    assert torch.equal(mixed[:, 0], mixed[:, 1])
    assert mixed[:, 0].unique().numel() == len(mixed)


def test_without_anomalies_the_paper_s_variant_is_refused() -> None:
    for anomalies in (None, shifted(0)):
        with pytest.raises(FitError, match="no known anomalies, expected at least 1"):
            fitted(variant="paper", anomalies=anomalies)


def test_known_anomalies_are_found_in_the_paper_s_variant() -> None:
    detector = fitted(variant="paper", anomalies=shifted(100, 5), learning_rate=2e-3)

    assert auc(detector, shifted(300)) > 0.95


def test_exposure_finds_what_no_known_anomaly_is_like() -> None:
    """The paper's encoder repels the family it has seen; the other is found by odd rows that are made."""
    paper = fitted(variant="paper", anomalies=shifted(100, 5), learning_rate=2e-3)
    stable = fitted(anomalies=shifted(100, 5))

    assert auc(stable, broken(300)) > auc(paper, broken(300)) + 0.1
    assert auc(stable, broken(300)) > 0.85
    assert auc(stable, shifted(300)) > 0.95


def test_exposure_needs_no_known_anomaly(detector: AnoEAN) -> None:
    assert auc(detector, broken(300)) > 0.85
    assert auc(detector, shifted(300)) > 0.95
    assert detector.state().parameters["report"]["known_anomalies"] == 0


def test_training_improves_the_held_out_objective(detector: AnoEAN) -> None:
    report = detector.state().parameters["report"]

    assert report["objective"] < 0.5 * report["objectives"][0] or report["objective"] < 0.05


def test_the_score_is_the_squared_distance_from_held_out_codes(detector: AnoEAN) -> None:
    """Mean number of directions over held-out rows, up to shrinkage."""
    assert detector.score(normal_rows(500, 1)).mean() == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize(
    "parameters",
    [
        {"latent": 0},
        {"hidden": (0,)},
        {"made_share": 1.0},
        {"made_share": 0.5, "known_share": 0.5},
        {"smoothing": 0.2},
        {"margin": -1.0},
        {"spectral": "yes"},
        {"variant": "best"},
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, object]) -> None:
    with pytest.raises(ParameterError, match="expected"):
        AnoEAN(**parameters)


def test_the_discrepancy_of_samples_is_small_where_they_are_alike() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(500, 3), torch.randn(500, 3)

    assert mmd(x, x).item() == pytest.approx(0.0, abs=1e-5)
    assert 0 < mmd(y, x).item() < 0.05 < mmd(y + 1.0, x).item() < mmd(y + 3.0, x).item()


def test_overlap_is_a_chance() -> None:
    torch.manual_seed(0)
    x = torch.randn(1000, 3) @ torch.randn(3, 3)

    assert overlap(x, x).item() == pytest.approx(0.5, abs=0.01)
    assert overlap(x, 100.0 + x).item() == 0.0
