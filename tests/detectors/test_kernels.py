"""Support vector machines in arrays decide as scikit-learn's do."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn import svm
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import LogisticRegression

from detectors.attribution import completeness
from detectors.base import Matrix
from detectors.errors import FitError, ParameterError, StateError
from detectors.kernels import Expansion, Landmarks, width
from detectors.ocsvm import OneClassSVM
from detectors.state import dump_state, load_state
from detectors.svm import SupportVectors

RNG = np.random.default_rng(0)
# Two clusters with nothing between them: no single Gaussian.
NORMAL = RNG.normal(size=(400, 3)) * 0.5 + np.where(RNG.random((400, 1)) < 0.5, 4.0, -4.0)
ROWS = np.concatenate([NORMAL[:128], RNG.normal(size=(128, 3)) * 4.0])


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def units(x: Matrix) -> Matrix:
    return (x - NORMAL.mean(axis=0)) / NORMAL.std(axis=0)


def expansion(seed: int = 0) -> Expansion:
    drawn = np.random.default_rng(seed)
    return Expansion.of(drawn.normal(size=(7, 3)), drawn.normal(size=7), 0.5, 0.3)


def test_gradients_are_those_of_small_steps() -> None:
    f, tile = expansion(), np.random.default_rng(1).normal(size=(3, 20))
    _, back = f.pullback(tile)
    found = back(np.ones((1, 20)))
    for column in range(3):
        step = np.zeros_like(tile)
        step[column] = 1e-6
        measured = (f.on_tile(tile + step) - f.on_tile(tile - step))[0] / 2e-6
        np.testing.assert_allclose(found[column], measured, rtol=1e-5, atol=1e-7)


def test_integrated_gradients_of_an_expansion_are_complete() -> None:
    rows = np.random.default_rng(1).normal(size=(20, 3))

    assert completeness(expansion(), rows, np.zeros(3)).max() < 0.01


def test_widths_are_what_they_say() -> None:
    x = units(NORMAL)
    distances = ((x[:, None] - x[None]) ** 2).sum(axis=2)[np.triu_indices(400, k=1)]

    assert width(0.25, x, rng()) == 0.25
    assert width("scale", x, rng()) == pytest.approx(1 / 3)
    assert width("median", x, rng()) == pytest.approx(1 / np.median(distances))
    assert width("local", x, rng()) == pytest.approx(10 / np.median(distances))
    assert width("local", np.ones((50, 3)), rng()) == 1.0


def test_landmarks_are_those_of_nystroem() -> None:
    x = units(NORMAL)
    landmarks = Landmarks.of(x, 0.3, 50, rng())
    seed = int(rng().integers(2**31))
    theirs = Nystroem(gamma=0.3, n_components=50, random_state=seed).fit(x)
    model = LogisticRegression().fit(theirs.transform(x), NORMAL[:, 0] > 0)
    ours = landmarks.expansion(model.coef_[0], model.intercept_[0])
    tile = np.ascontiguousarray(units(ROWS).T)

    np.testing.assert_allclose(
        ours.on_tile(tile)[0], model.decision_function(theirs.transform(units(ROWS))), rtol=1e-6, atol=1e-6
    )


def straight(ours: Matrix, theirs: Matrix) -> None:
    """Say that one is the other up to scale, by a positive factor, and shift."""
    slope, shift = np.polyfit(theirs, ours, 1)
    assert slope > 0
    np.testing.assert_allclose(ours, slope * theirs + shift, rtol=1e-6, atol=1e-6 * np.ptp(ours))


@pytest.mark.parametrize("variant", ["stable", "paper"])
def test_the_one_class_score_is_minus_the_decision_function(variant: str) -> None:
    """Within the bounds, up to scale and shift."""
    detector = OneClassSVM(variant=variant).fit(NORMAL, held_out=NORMAL[:100], rng=rng())
    gamma = width(detector.gamma, units(NORMAL), rng())
    theirs = svm.OneClassSVM(nu=detector.nu, gamma=gamma).fit(units(NORMAL))
    inside = np.abs(units(ROWS)).max(axis=1) < 3.0

    straight(detector.score(ROWS)[inside], -theirs.decision_function(units(ROWS))[inside])


def test_the_paper_leaves_out_next_to_nothing() -> None:
    paper = OneClassSVM(variant="paper")

    assert (paper.nu, paper.gamma) == (1e-4, "scale")
    assert OneClassSVM().nu > paper.nu


def test_the_gap_between_two_clusters_is_outside() -> None:
    """What no single Gaussian sees; exactly and by landmarks."""
    for settings in ({}, {"exact_rows": 10, "n_landmarks": 200}):
        detector = OneClassSVM(**settings).fit(NORMAL, held_out=NORMAL[:100], rng=rng())
        middle = 0.3 * np.random.default_rng(5).normal(size=(50, 3))

        assert detector.score(middle).min() > np.quantile(detector.score(NORMAL), 0.99)


def test_landmarks_rank_much_as_the_exact_machine() -> None:
    exact, near = (
        OneClassSVM(exact_rows=most, n_landmarks=300).fit(NORMAL, held_out=NORMAL[:100], rng=rng())
        for most in (1000, 10)
    )
    order = [np.argsort(np.argsort(each.score(ROWS))) for each in (exact, near)]

    assert np.corrcoef(*order)[0, 1] > 0.95


ODD = np.random.default_rng(6).normal(size=(40, 3)) * 0.5 + [4.0, -4.0, 4.0]


def test_the_score_is_the_decision_function_of_the_cost_sensitive_machine() -> None:
    detector = SupportVectors(variant="paper", cap=10.0)
    detector.fit(NORMAL, held_out=NORMAL[:100], anomalies=ODD, rng=rng())
    x, kinds = units(np.concatenate([NORMAL, ODD])), np.repeat([0, 1], [400, 40])
    theirs = svm.SVC(C=1.0, gamma=1 / (3 * x.var()), class_weight="balanced").fit(x, kinds)

    straight(detector.score(ROWS), theirs.decision_function(units(ROWS)))


@pytest.mark.parametrize("settings", [{}, {"variant": "paper"}, {"exact_rows": 10}])
def test_known_anomalies_score_above_normal_rows(settings: dict[str, object]) -> None:
    detector = SupportVectors(**settings).fit(NORMAL, held_out=NORMAL[:100], anomalies=ODD, rng=rng())
    more = np.random.default_rng(7).normal(size=(40, 3)) * 0.5 + [4.0, -4.0, 4.0]

    assert np.median(detector.score(more)) > np.quantile(detector.score(NORMAL), 0.99)


def test_anomalies_of_a_kind_it_was_not_told_of_are_found_by_the_default() -> None:
    """Told of one column that lies far off, asked about columns that no longer hang together."""
    drawn = np.random.default_rng(8)
    causes = drawn.normal(size=(3, 12))
    normal = drawn.normal(size=(600, 3)) @ causes + 0.3 * drawn.normal(size=(600, 12))
    told = normal[:40] + 4.0 * np.eye(12)[0]
    other = drawn.permuted(normal[500:], axis=0)

    def found(**settings: object) -> float:
        detector = SupportVectors(**settings)
        detector.fit(normal[:500], held_out=normal[:100], anomalies=told, rng=rng())
        return float(np.mean(detector.score(other)[:, None] > detector.score(normal[500:])))

    assert found(variant="paper") < 0.7
    assert found(scattered=0.0) > 0.9
    assert found() > found(scattered=0.0)


@pytest.mark.parametrize("anomalies", [None, NORMAL[:0]])
def test_no_known_anomalies_are_refused_in_words(anomalies: Matrix | None) -> None:
    with pytest.raises(FitError, match="no known anomalies, expected at least one; give it anomalies, or"):
        SupportVectors().fit(NORMAL, held_out=NORMAL[:100], anomalies=anomalies, rng=rng())


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: OneClassSVM(nu=0.0), "nu is 0.0, expected a number in"),
        (lambda: OneClassSVM(gamma="wide"), "gamma is 'wide', expected one of 'scale', 'median'"),
        (lambda: SupportVectors(cost=-1), "cost is -1"),
        (lambda: SupportVectors(gamma=0), "gamma is 0, expected a number in"),
    ],
)
def test_bad_parameters_are_refused(made: Callable[[], object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        made()


def test_a_state_without_width_is_refused() -> None:
    state = load_state(dump_state(OneClassSVM().fit(NORMAL, held_out=NORMAL[:100], rng=rng()).state()))
    state.arrays["shape"][1] = 0.0

    with pytest.raises(StateError, match="without width"):
        OneClassSVM().restore(state)
