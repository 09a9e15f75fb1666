"""A mixture of networks finds the kinds of normal rows, and is the density that it says it is."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from sklearn.mixture import GaussianMixture

from detectors.base import Matrix, no_progress
from detectors.beaa import BEAA
from detectors.bn import BayesianNetwork
from detectors.bn_mixture import BNMixture
from detectors.errors import FitError, ParameterError, StateError
from detectors.mixture import Mixture, Rows, Rules, bic, expect_and_maximise, learn_mixture, network_of
from detectors.state import dump_state, load_state

RNG = np.random.default_rng(0)
KIND = (RNG.random(1500) < 0.4).astype(np.float64)


def of_kinds(rng: np.random.Generator, kind: Matrix) -> Matrix:
    """Return rows of two kinds: apart from each other, and with opposite dependencies."""
    first = rng.normal(size=kind.size)
    second = np.where(kind > 0, 1.0, -1.0) * first + 0.3 * rng.normal(size=kind.size)
    return np.column_stack([first + 6.0 * kind, second, rng.normal(size=kind.size)])


NORMAL = of_kinds(RNG, KIND)
ROWS = of_kinds(np.random.default_rng(1), KIND[:400])


def fit(x: Matrix = NORMAL, **parameters: object) -> BNMixture:
    return BNMixture(**parameters).fit(x, held_out=x[:100], rng=np.random.default_rng(0))


def plain(x: Matrix) -> Rows:
    return Rows(x, np.zeros((len(x), 0)))


def test_the_score_is_the_negative_log_density() -> None:
    """Of the mixture of Gaussians that the networks are, worked out by SciPy."""
    state = fit(n_components=2).state().arrays
    total = np.zeros(len(ROWS))
    units = (ROWS - state["centre"]) / state["spread"]
    for k in range(2):
        through = np.linalg.inv(np.eye(3) - state["coefficients"][k])
        covariance = through @ np.diag(state["variances"][k]) @ through.T
        density = stats.multivariate_normal(through @ state["intercepts"][k], covariance).pdf(units)
        total += state["shares"][k] * density

    np.testing.assert_allclose(fit(n_components=2).score(ROWS), -np.log(total), rtol=1e-9)


def test_em_ends_where_that_of_scikit_learn_does() -> None:
    """Without prior and floor, from the same start."""
    start = np.column_stack([1.0 - KIND, KIND])
    rules = Rules(prior_rows=1e-9, variance_floor=1e-12)
    ours = expect_and_maximise(plain(NORMAL), start, rules, None)
    theirs = GaussianMixture(2, random_state=0).fit(NORMAL)

    assert ours.logl(NORMAL).mean() == pytest.approx(theirs.score(NORMAL), abs=1e-3)
    assert bic(ours, plain(NORMAL)) == pytest.approx(theirs.bic(NORMAL), rel=1e-3)


def test_no_round_of_em_lowers_the_likelihood() -> None:
    start = 0.4 + 0.2 * np.column_stack([1.0 - KIND, KIND])
    rules = [Rules(prior_rows=1e-9, variance_floor=1e-12, rounds=n) for n in range(1, 20)]
    found = [expect_and_maximise(plain(NORMAL), start, each, None).logl(NORMAL).mean() for each in rules]

    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(found))
    assert found[-1] > found[0] + 0.1


def test_the_bic_finds_how_many_kinds_there_are() -> None:
    _, two = learn_mixture(plain(NORMAL), Rules(), np.random.default_rng(0), no_progress)
    _, one = learn_mixture(plain(NORMAL[KIND > 0]), Rules(), np.random.default_rng(0), no_progress)

    assert (one["components"], two["components"]) == (1, 2)
    assert sorted(two["shares"]) == pytest.approx(sorted([KIND.mean(), 1 - KIND.mean()]), abs=0.02)


def test_rows_between_the_kinds_are_found_where_one_network_finds_none() -> None:
    """The reason for the mixture."""
    middle = 0.3 * np.random.default_rng(2).normal(size=(200, 3)) + [3.0, 0.0, 0.0]

    def caught(score: Matrix, normal: Matrix) -> float:
        return float(np.mean(score > np.quantile(normal, 0.99)))

    single = BayesianNetwork().fit(NORMAL, held_out=NORMAL[:100], rng=np.random.default_rng(0))
    assert caught(single.score(middle), single.score(NORMAL)) < 0.05
    assert caught(fit().score(middle), fit().score(NORMAL)) > 0.7


def test_columns_of_yes_and_no_have_chances_not_variances() -> None:
    """Kinds that only a yes/no column tells apart are found, and a wrong answer there stands out."""
    answer = np.abs(KIND - (np.random.default_rng(4).random(1500) < 0.01))
    detector = fit(np.column_stack([NORMAL, answer]), n_components=2)
    row = NORMAL[KIND > 0][:50]
    right, wrong = (detector.terms(np.column_stack([row, np.full(50, value)]))[:, 3] for value in (1.0, 0.0))

    assert np.median(wrong - right) == pytest.approx(np.log(99), abs=1.0)
    np.testing.assert_allclose(sorted(detector.state().arrays["chances"][:, 0]), [0.01, 0.99], atol=0.01)


def test_neither_yes_nor_no_is_as_odd_as_it_is_far_from_both() -> None:
    detector = fit(np.column_stack([NORMAL, KIND]))
    found = [detector.score(np.append(NORMAL[0], value)[None]).item() for value in (1.0, 1.5, 3.0, 30.0)]

    assert found == sorted(found)
    assert found[-1] - found[0] > 1e5


def test_a_context_gives_a_network_to_each_of_its_values() -> None:
    x = np.column_stack([KIND, 1.0 - KIND, NORMAL])
    detector = fit(x, context=[0, 1])
    slopes = detector.state().arrays["coefficients"][:, 1, 0]

    np.testing.assert_allclose(
        sorted(slopes), np.array([-1.0, 1.0]) * NORMAL[:, 0].std() / NORMAL[:, 1].std(), atol=0.15
    )
    assert detector.state().parameters["report"]["components"] == 2
    # Rows of one kind that claim to be of the other.
    swapped = x[:, [1, 0, 2, 3, 4]]
    assert np.median(detector.score(swapped)) > np.quantile(detector.score(x), 0.99)


def test_rare_values_of_a_context_share_a_network() -> None:
    rare = np.random.default_rng(5).integers(0, 300, 1500)
    block = np.stack([rare == 0, rare == 1, rare > 1], axis=1).astype(np.float64)
    detector = fit(np.column_stack([block, NORMAL]), context=(0, 1, 2))

    assert len(detector.state().arrays["shares"]) == 2


@pytest.mark.parametrize("column", [3, 9])
def test_a_context_of_other_columns_is_refused(column: int) -> None:
    with pytest.raises(
        FitError, match=rf"context columns \[{column}\] are not among the 1 yes/no columns of 4"
    ):
        fit(np.column_stack([KIND, NORMAL]), context=(0, column))


@pytest.mark.parametrize("structure", ["pc", "hc"])
def test_structures_are_learned_in_each_component(structure: str) -> None:
    """One arc, between the first two columns, in either kind."""
    detector = fit(structure=structure, n_components=2)

    assert [sorted(map(sorted, arcs)) for arcs in detector.state().parameters["arcs"]] == [[[0, 1]], [[0, 1]]]
    np.testing.assert_allclose(detector.score(ROWS), fit(n_components=2).score(ROWS), atol=1.0)


def test_all_arcs_and_no_arcs_give_the_likeliest_networks() -> None:
    x = NORMAL[KIND > 0]
    mean, covariance = x.mean(axis=0), np.cov(x.T, ddof=0)
    every = network_of(mean, covariance, [(0, 1), (0, 2), (1, 2)])
    saturated, none = network_of(mean, covariance, None), network_of(mean, covariance, [])

    np.testing.assert_allclose(every.logl(x), saturated.logl(x))
    np.testing.assert_allclose(none.variances, x.var(axis=0))
    np.testing.assert_allclose(every.mean, mean)


def test_deviations_are_those_of_the_likeliest_component() -> None:
    """A row of the second kind is explained by the second kind's network."""
    detector = fit(n_components=2)
    row = np.array([[6.0, 3.0, 0.0]])
    explanation = detector.explain(row)

    assert explanation.terms.argmax() in (0, 1)
    assert explanation.expected[0, 1] == pytest.approx(0.0, abs=0.1)
    assert explanation.deviations[0, 1] == pytest.approx(9.0, abs=1.5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("yes", 0.5, "yes"),
        ("shares", 0.0, "shares"),
        ("variances", -1.0, "variances"),
        ("chances", 1.0, "chances"),
    ],
)
def test_a_state_that_is_no_mixture_is_refused(name: str, value: float, message: str) -> None:
    state = load_state(dump_state(fit(np.column_stack([NORMAL, KIND])).state()))
    state.arrays[name].flat[0] = value

    with pytest.raises(StateError, match=message):
        BNMixture().restore(state)


def test_bad_parameters_are_refused() -> None:
    with pytest.raises(ParameterError, match="context is -1, expected a whole number of at least 0"):
        BNMixture(context=(-1,))
    with pytest.raises(ParameterError, match="structure is 'tree'"):
        BNMixture(structure="tree")


def test_the_generator_keeps_a_mixture_s_two_clusters_apart() -> None:
    """A single Gaussian likes best what lies between the clusters, where no normal row is; G follows it."""
    found = {}
    for discriminator in ("full", "mixture"):
        detector = BEAA(
            selection="truncation",
            discriminator=discriminator,
            n_noise=1,
            n_generated=2000,
            max_epochs=10,
        )
        detector.fit(NORMAL, held_out=ROWS, rng=np.random.default_rng(0))
        found[discriminator] = detector.report["members"][0]

    assert found["mixture"]["held_out_logl"] > found["full"]["held_out_logl"] + 5.0
    assert found["mixture"]["variance_ratio"] > 3 * found["full"]["variance_ratio"]


def test_a_mixture_knows_two_clusters_better_than_one_gaussian() -> None:
    mixture, _ = learn_mixture(plain(NORMAL), Rules(), np.random.default_rng(0), no_progress)
    single = network_of(NORMAL.mean(axis=0), np.cov(NORMAL.T), None)

    assert isinstance(mixture, Mixture)
    assert mixture.logl(ROWS).mean() > single.logl(ROWS).mean() + 0.5
