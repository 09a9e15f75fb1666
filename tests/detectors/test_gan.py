"""What adversarial training shares."""

import numpy as np
import pytest

from detectors.base import no_progress

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from torch.nn.functional import binary_cross_entropy_with_logits  # noqa: E402 - torch may be missing

from detectors.neural.bigan import QUESTIONS, PairJudge, Pairs  # noqa: E402
from detectors.neural.build import mlp, tensor  # noqa: E402
from detectors.neural.gan import (  # noqa: E402
    Discrepancy,
    GanPlan,
    called_made,
    called_real,
    glorot,
    train_gan,
    train_inverse,
)
from detectors.neural.training import Schedule, repeatable  # noqa: E402


def test_losses_are_cross_entropies() -> None:
    logits = torch.tensor([0.0, 2.0, -30.0])

    torch.testing.assert_close(called_real(logits), binary_cross_entropy_with_logits(logits, torch.ones(3)))
    torch.testing.assert_close(called_made(logits), binary_cross_entropy_with_logits(logits, torch.zeros(3)))


def two_heaps(n: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return tensor(rng.normal(size=(n, 3)) + 4.0 * rng.choice([-1.0, 1.0], size=(n, 1)))


def test_the_discrepancy_is_near_zero_for_rows_of_one_distribution_alone() -> None:
    discrepancy = Discrepancy(two_heaps(800, 0))
    same, shifted = discrepancy(two_heaps(800, 1)), discrepancy(two_heaps(800, 1) + 1.0)
    made = two_heaps(800, 1)
    one_heap = discrepancy(made[made[:, 0] > 0])

    assert float(same) < 0.005
    assert float(shifted) > 5 * float(same)
    assert float(one_heap) > 20 * float(same)  # good rows, but of one kind: modes have collapsed


@pytest.mark.parametrize("rows", [torch.ones(50, 3), torch.zeros(1, 2)])
def test_the_discrepancy_of_constant_rows_is_finite(rows: torch.Tensor) -> None:
    assert torch.isfinite(Discrepancy(rows)(rows + 1.0))


def test_public_codes_start_without_biases() -> None:
    plain, spectral = mlp([200, 100, 1]), mlp([4, 4, 1], spectral=True)
    glorot(plain, spectral)

    assert torch.all(plain[0].bias == 0)
    assert plain[0].weight.abs().max() <= (6 / 300) ** 0.5
    assert torch.all(plain[0].weight.std() > 0.9 * (2 / 300) ** 0.5)


PLAN = GanPlan(
    latent=2,
    generator=(16,),
    discriminator=(16, 16),
    learning_rate=3e-3,
    schedule=Schedule(epochs=12, patience=12, batch=64),
)


def line(n: int, seed: int) -> torch.Tensor:
    """Return rows whose three columns are nearly the same."""
    rng = np.random.default_rng(seed)
    return tensor(rng.normal(size=(n, 1)) + 0.3 * rng.normal(size=(n, 3)))


def test_a_gan_learns_the_distribution_and_an_encoder_its_inverse() -> None:
    """Generated columns hang together as the normal ones do, and held-out rows are found again."""
    with repeatable(np.random.default_rng(0)) as generator:
        gan = train_gan(line(1500, 0), line(400, 1), PLAN, generator, no_progress)
        made = gan.generator(torch.randn(1000, 2, generator=generator)).detach()
        encoder = mlp([3, 16, 2], hidden="leaky_relu")
        before = rebuilt_error(gan.generator, encoder)
        plan = Schedule(epochs=5, patience=5, batch=64)
        train_inverse(gan, line(1500, 0), line(400, 1), encoder, plan, generator, no_progress)

    assert gan.report["objective"] < 0.25 * gan.report["objectives"][0]
    assert float(torch.corrcoef(made.T)[0, 1]) > 0.6
    assert rebuilt_error(gan.generator, encoder) < 0.5 * before


def rebuilt_error(generator: torch.nn.Module, encoder: torch.nn.Module) -> float:
    rows = line(300, 2)
    with torch.no_grad():
        return float(((generator(encoder(rows)) - rows) ** 2).mean())


def test_negatives_are_called_made() -> None:
    """A discriminator that is shown rows far off knows that they are not real."""
    far = torch.full((1, 3), 6.0)
    logits = []
    for negatives in (None, lambda batch: batch.sign() * 6.0):
        with repeatable(np.random.default_rng(0)) as generator:
            gan = train_gan(line(1000, 0), line(300, 1), PLAN, generator, no_progress, negatives=negatives)
            logits.append(gan.discriminator(far).item())

    assert logits[1] < logits[0]
    assert logits[1] < 0


@pytest.mark.parametrize(
    "options", [{"spectral": True, "row_norm": False}, {"spectral": False, "row_norm": True}]
)
def test_a_judge_of_pairs_is_one_network_in_arrays(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    judge = PairJudge(5, 2, width=7, hidden="leaky_relu_0.1", dropout=(0.2, 0.2, 0.2), **options)
    rows, noise = torch.randn(256, 5), torch.randn(256, 2)
    for _ in range(5):
        judge(rows, noise)
    judge.eval()
    with torch.no_grad():
        wanted = judge(rows, noise).numpy()

    found = judge.arrays().on_tile(np.concatenate([rows.numpy(), noise.numpy()], axis=1).astype(float).T)

    np.testing.assert_allclose(found.T, wanted, rtol=1e-4, atol=1e-5)


def test_each_discriminator_is_asked_about_its_own_pairs() -> None:
    """Real: (x, E(x)), (x, x), (z, z). Made: (G(z), z), (G(E(x)), x), (E(G(z)), z)."""
    pairs = Pairs(*(torch.tensor([[float(value)]]) for value in (1, 2, 3, 4, 5, 6)))
    asked: list[list[float]] = []

    def judge(*given: torch.Tensor) -> torch.Tensor:
        asked.append(torch.cat(given, dim=1)[0].tolist())
        return given[0]

    for question in QUESTIONS.values():
        question(judge, pairs)

    assert asked == [[1, 2], [4, 3], [1, 1], [5, 1], [3, 3], [6, 3]]
