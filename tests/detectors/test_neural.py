"""What the training of all networks shares."""

from itertools import pairwise

import numpy as np
import pytest

from detectors.base import no_progress
from detectors.errors import FitError

torch = pytest.importorskip("torch", reason="networks are trained with torch: pip install 'weir[neural]'")

from detectors.neural.build import ACTIVATIONS, arrays_of, mlp, tensor  # noqa: E402 - torch may be missing
from detectors.neural.training import Average, Schedule, batches, descend, repeatable, train  # noqa: E402


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("options", [{}, {"spectral": True}, {"batch_norm": True}, {"dropout": 0.3}])
def test_arrays_compute_what_the_trained_network_does(name: str, options: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = mlp([5, 7, 7, 3], hidden=name, last=name, **options)
    rows = np.random.default_rng(0).normal(size=(256, 5))
    network.train()
    for _ in range(5):
        network(tensor(rows))  # batch norms and spectral norms learn by being used
    network.eval()
    with torch.no_grad():
        wanted = network(tensor(rows)).numpy()

    np.testing.assert_allclose(arrays_of(network).on_tile(rows.T).T, wanted, rtol=1e-4, atol=1e-5)


def test_a_network_that_diverged_is_refused() -> None:
    network = mlp([2, 2])
    with torch.no_grad():
        network[0].weight[0, 0] = float("nan")

    with pytest.raises(FitError, match="diverged"):
        arrays_of(network)


@pytest.mark.parametrize("n", [1, 2, 9, 10, 11, 21])
def test_batches_hold_every_row_once_and_never_a_lonely_one(n: int) -> None:
    """Batch norms know no variance of one row."""
    found = list(batches(torch.arange(n), 5, torch.Generator().manual_seed(0)))

    assert sorted(torch.cat(found).tolist()) == list(range(n))
    assert n == 1 or min(map(len, found)) >= 2


def fitted_line(seed: int, **schedule: int) -> tuple[dict[str, object], float]:
    """Train y = x on 50 rows; return the report and the objective of what is left."""
    x = tensor(np.random.default_rng(0).normal(size=(50, 1)))
    with repeatable(np.random.default_rng(seed)) as generator:
        network = mlp([1, 1])
        optimiser = torch.optim.SGD(network.parameters(), lr=0.2)

        def objective() -> torch.Tensor:
            return ((network(x) - x) ** 2).mean()

        plan = Schedule(**{"epochs": 30, "patience": 3, "batch": 10, **schedule})
        report = train(
            x,
            lambda rows: descend(optimiser, ((network(rows) - rows) ** 2).mean()),
            objective,
            [network],
            plan,
            generator,
            no_progress,
        )
        return report, objective().item()


def test_equal_seeds_give_equal_networks_whatever_the_program_drew() -> None:
    one = fitted_line(1)
    torch.rand(7)

    assert one == fitted_line(1)
    assert one != fitted_line(2)


def test_training_leaves_the_program_s_random_state_alone() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(2).tolist()
    torch.manual_seed(3)
    fitted_line(1)

    assert torch.rand(2).tolist() == wanted


def test_the_best_networks_are_left() -> None:
    report, left = fitted_line(1)

    assert left == report["objective"] == min(report["objectives"])


def test_training_ends_when_nothing_improves() -> None:
    report, _ = fitted_line(1, epochs=1000)

    assert report["epochs"] == report["best_epoch"] + 3 < 1000


def test_without_patience_the_last_networks_are_left() -> None:
    report, left = fitted_line(1, patience=0, epochs=7)

    assert report["best_epoch"] == report["epochs"] == 7
    assert left == report["objectives"][-1]


def test_training_that_diverges_at_once_is_told() -> None:
    with pytest.raises(FitError, match="diverged in its first epoch"):
        train(
            torch.zeros(4, 1),
            lambda _rows: None,
            lambda: float("nan"),
            [mlp([1, 1])],
            Schedule(epochs=3, patience=1, batch=2),
            torch.Generator(),
            no_progress,
        )


def test_an_average_follows_its_network() -> None:
    network = mlp([1, 1])
    average = Average(network, 0.5)
    before = average.network[0].weight.item()
    with torch.no_grad():
        network[0].weight += 1.0
    found = [before]
    for _ in range(20):
        average.update()
        found.append(average.network[0].weight.item())

    assert all(one < two for one, two in pairwise(found[:8]))
    assert found[-1] == pytest.approx(network[0].weight.item(), abs=1e-4)
