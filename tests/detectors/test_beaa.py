"""The autoencoder is what the paper says, and its training is as stable as it claims."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from detectors.base import Matrix
from detectors.beaa import BEAA, importance
from detectors.beaa.generator import Generator, varimax
from detectors.beaa.importance import selection
from detectors.beaa.plan import Plan
from detectors.beaa.scoring import Scale, mean_square
from detectors.beaa.training import shrunk_covariance, target_of, train_one
from detectors.beaa.truncation import fittest, learn_generator, learn_inverse
from detectors.errors import ParameterError


def generator(seed: int = 0, d: int = 8, m: int = 3) -> Generator:
    rng = np.random.default_rng(seed)
    return Generator(rng.normal(size=d), rng.normal(size=(d, m)), rng.uniform(0.2, 1.0, size=d))


def normal_rows(n: int = 3000, seed: int = 1) -> Matrix:
    x = generator().sample(n, np.random.default_rng(seed))[1]
    return (x - x.mean(axis=0)) / x.std(axis=0)


def fit(x: Matrix | None = None, seed: int = 0, **parameters: object) -> BEAA:
    x = normal_rows() if x is None else x
    detector = BEAA(**parameters)
    return detector.fit(x, held_out=normal_rows(800, 2), rng=np.random.default_rng(seed))


def test_generated_rows_have_the_covariance_of_factor_analysis() -> None:
    """The covariance of a million rows of G is B B' + diag psi."""
    g = generator()
    _, x = g.sample(1_000_000, np.random.default_rng(0))

    np.testing.assert_allclose(g.covariance, np.cov(x.T), atol=0.03)
    np.testing.assert_allclose(g.offset, x.mean(axis=0), atol=0.01)


def test_the_closed_form_inverse_is_the_regression_on_samples() -> None:
    """R from G equals the regression of noise on a million generated rows."""
    g = generator()
    z, x = g.sample(1_000_000, np.random.default_rng(0))
    design = np.column_stack([np.ones(len(x)), x])
    learned = np.linalg.lstsq(design, z)[0]
    inverse = g.inverse()

    np.testing.assert_allclose(inverse.offset, learned[0], atol=0.01)
    np.testing.assert_allclose(inverse.weights, learned[1:].T, atol=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 4))
def test_likelihood_of_the_generator_is_that_of_its_gaussian(seed: int, d: int, m: int) -> None:
    g = generator(seed, d, m)
    x = np.random.default_rng(seed).normal(size=(5, d))

    np.testing.assert_allclose(
        stats.multivariate_normal(g.offset, g.covariance).logpdf(x), g.logl(x), rtol=1e-7
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_naming_the_directions_changes_no_distribution(seed: int) -> None:
    """The rows stay as likely; largest loadings are positive, and directions sorted by variance."""
    g = generator(seed)
    named, inverse = g.named(g.inverse(), rotate=True)

    np.testing.assert_allclose(g.covariance, named.covariance, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(named.inverse().weights, inverse.weights, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(named.inverse().offset, inverse.offset, rtol=1e-7, atol=1e-10)
    assert (named.loadings.max(axis=0) >= -named.loadings.min(axis=0)).all()
    assert (np.diff(np.sum(named.loadings**2, axis=0)) <= 0).all()


def test_varimax_finds_directions_that_few_attributes_share() -> None:
    """A simple structure that was rotated comes back."""
    simple = np.kron(np.eye(3), np.ones((4, 1)))
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    back = np.abs(simple @ turn @ varimax(simple @ turn))

    np.testing.assert_allclose(np.sort(back, axis=1)[:, -1], 1.0, atol=1e-4)
    np.testing.assert_allclose(np.sort(back, axis=1)[:, :-1], 0.0, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1e4), st.floats(0.05, 0.9))
def test_selection_keeps_enough_rows(seed: int, size: float, share: float) -> None:
    """The weights sum to 1, rise with p_D / p_G, and leave the effective share that was asked for."""
    ratio = size * np.random.default_rng(seed).normal(size=500)
    weights = selection(ratio, share)

    assert weights.sum() == pytest.approx(1.0)
    assert 1 / np.sum(weights**2) / 500 >= share * (1 - 1e-6)
    assert (np.diff(weights[np.argsort(ratio)]) >= 0).all()


def test_truncation_keeps_the_rows_that_the_discriminator_likes_best() -> None:
    assert set(fittest(np.array([-3.0, 5.0, 1.0, 4.0, -9.0, 0.0]), 0.5)) == {1, 3, 2}


def test_truncated_generators_keep_to_their_tiers() -> None:
    """G: noise to attributes; R: attributes to noise; learned by PC, they find the arcs that exist."""
    g = Generator(np.zeros(4), np.array([[1.0, 0], [1, 0], [0, 1], [0, 1]]), np.full(4, 0.3))
    z, x = g.sample(5000, np.random.default_rng(0))
    learned, inverse = learn_generator(z, x, 0.01), learn_inverse(z, x, 0.01)

    np.testing.assert_allclose(g.loadings, learned.loadings, atol=0.05)
    assert (learned.loadings[g.loadings == 0] == 0).all()
    np.testing.assert_allclose(g.inverse().weights, inverse.weights, atol=0.05)


def test_importance_finds_the_number_of_noise_nodes() -> None:
    """Rows of three hidden causes get three noise directions."""
    assert fit(normal_rows(8000), n_members=1).report["n_noise"] == 3


def test_importance_reaches_the_likelihood_of_the_truth_from_a_random_start() -> None:
    detector = fit(start="chance", n_noise=3, n_members=1, max_epochs=150, patience=20)
    member = detector.report["members"][0]

    assert member["held_out_logl"] > member["held_out_logl_under_discriminator"] - 0.5
    assert 0.9 < member["variance_ratio"] < 1.1


def test_truncation_shows_the_pathology_that_the_paper_reports() -> None:
    """Its rows please D more than real rows do, while their variance is lost."""
    member = fit(selection="truncation", n_noise=3, max_epochs=40).report["members"][0]

    assert member["batch_logl_under_discriminator"] > member["held_out_logl_under_discriminator"]
    assert member["variance_ratio"] < 0.5


def test_truncation_stops_at_its_target() -> None:
    """Training ends once D likes a batch as much as was asked for."""
    member = fit(selection="truncation", n_noise=3, target_logl=-12.0).report["members"][0]

    assert member["stopped_by"] == "target log-likelihood"
    assert member["epochs"] < 60


@pytest.mark.parametrize(
    ("search", "most", "tried"),
    [
        ("each", 4, [1, 2, 3, 4]),
        ("doubling", 6, [1, 2, 4, 6]),
        ("doubling", 8, [1, 2, 4, 8]),
        ("each", 1, [1]),
    ],
)
def test_the_search_tries_what_it_says(search: str, most: int, tried: list[int]) -> None:
    assert Plan(search=search, max_noise=most).candidates(30) == tried


def test_half_the_columns_is_the_most_noise() -> None:
    assert Plan().candidates(9) == [1, 2, 3, 4]
    assert Plan().candidates(1) == [1]
    assert Plan(n_noise=7).candidates(9) == [7]
    assert Plan(n_noise=7).candidates(2) == [2]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5))
def test_one_map_scores_as_the_mean_of_the_members(seed: int, d: int, members: int) -> None:
    rng = np.random.default_rng(seed)
    maps = [(rng.normal(size=(4, d)), rng.normal(size=4)) for _ in range(members)]
    x = rng.normal(size=(5, d))
    weights, constants = mean_square(maps)
    mean = np.mean([np.sum((x @ w.T + c) ** 2, axis=1) for w, c in maps], axis=0)

    np.testing.assert_allclose(mean, np.sum((x @ weights.T + constants) ** 2, axis=1), rtol=1e-8)


def test_the_members_vote_and_the_first_explains() -> None:
    """More members change the score, not the published directions; terms keep their proportions."""
    x = normal_rows(50, 5)
    alone, five = fit(n_noise=3, n_members=1), fit(n_noise=3, n_members=5)
    one, many = alone.explain(x), five.explain(x)

    assert not np.array_equal(alone.score(x), five.score(x))
    np.testing.assert_array_equal(one.deviations, many.deviations)
    np.testing.assert_allclose(
        one.terms / one.terms.sum(axis=1, keepdims=True),
        many.terms / many.terms.sum(axis=1, keepdims=True),
        rtol=1e-9,
    )


def test_the_papers_scores_are_norms_of_noise_and_residuals() -> None:
    """Unwhitened: |z|, |x - x'| and their product."""
    x = normal_rows(50, 5)
    settings_ = {"n_noise": 3, "n_members": 1, "whitening": "none"}
    noise, residual, both = (
        fit(measure=measure, **settings_) for measure in ("noise", "reconstruction", "combined")
    )
    scale = Scale.of(normal_rows())
    gaps = (x - residual.explain(x).expected) / scale.spread

    np.testing.assert_allclose(np.linalg.norm(gaps, axis=1), residual.score(x), rtol=1e-9)
    np.testing.assert_allclose(noise.score(x) * residual.score(x), both.score(x), rtol=1e-9)


def test_the_summed_score_is_the_sum_of_squared_deviations() -> None:
    detector, x = fit(n_noise=3, n_members=1), normal_rows(50, 5)

    np.testing.assert_allclose(
        np.sum(detector.explain(x).deviations ** 2, axis=1), detector.score(x), rtol=1e-9
    )


@pytest.mark.parametrize("whitening", ["diagonal", "full"])
def test_deviations_are_in_standard_deviations_of_held_out_rows(whitening: str) -> None:
    detector = fit(n_noise=3, whitening=whitening)
    deviations = detector.explain(normal_rows(800, 2)).deviations

    np.testing.assert_allclose(deviations.mean(axis=0), 0.0, atol=0.05)
    np.testing.assert_allclose(deviations.std(axis=0), 1.0, atol=0.05)
    if whitening == "full":
        np.testing.assert_allclose(np.cov(deviations[:, :3].T), np.eye(3), atol=0.05)


def test_units_of_the_columns_do_not_matter() -> None:
    """Bytes or megabytes: the same scores, expected values in the units given."""
    x, held_out, test = normal_rows(), normal_rows(800, 2), normal_rows(50, 5)
    unit, shift = np.logspace(-6, 6, 8), np.arange(8.0)

    def fitted(u: Matrix, v: Matrix) -> BEAA:
        return BEAA(n_noise=3, n_members=2).fit(u, held_out=v, rng=np.random.default_rng(0))

    plain, other = fitted(x, held_out), fitted(unit * x + shift, unit * held_out + shift)
    moved = unit * test + shift

    np.testing.assert_allclose(plain.score(test), other.score(moved), rtol=1e-4)
    np.testing.assert_allclose(
        unit * plain.explain(test).expected + shift, other.explain(moved).expected, rtol=1e-3, atol=1e-5
    )


def test_shrinkage_is_that_of_ledoit_and_wolf() -> None:
    from sklearn.covariance import ledoit_wolf

    x = np.random.default_rng(0).normal(size=(40, 12)) @ np.diag(np.arange(1.0, 13.0))
    x = x - x.mean(axis=0)

    np.testing.assert_allclose(ledoit_wolf(x, assume_centered=True)[0], shrunk_covariance(x, 0.0), rtol=1e-9)


def test_floors_hold() -> None:
    """No attribute is explained beyond the cap, none is left less than the floor."""
    plan = Plan(communality_cap=0.9)
    x = normal_rows()
    target = target_of(plan, x, x, np.random.default_rng(0))
    g = importance.guarded(Generator(np.zeros(8), np.full((8, 1), 3.0), np.full(8, 1e-9)), target, plan)

    assert (g.psi >= target.floor(plan)).all()
    np.testing.assert_allclose(0.9, 9.0 / (9.0 + g.psi))


def test_the_report_says_how_training_went() -> None:
    report = fit(max_noise=4, n_members=2).report

    assert report["n_noise"] == 3
    assert [member["stopped_by"] for member in report["members"]] == ["held-out log-likelihood"] * 2
    assert all(0 < member["communality"] < 1 for member in report["members"])


def test_loadings_are_what_a_direction_does_in_the_units_of_the_columns() -> None:
    """The card of a direction: one column a direction, the largest loading positive."""
    detector = fit(n_noise=3)

    assert detector.loadings.shape == (8, 3)
    assert (detector.loadings.max(axis=0) >= -detector.loadings.min(axis=0)).all()


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"selection": "luck"}, "selection is 'luck', expected one of 'importance', 'truncation'"),
        ({"measure": "sum"}, "measure"),
        ({"whitening": "half"}, "whitening"),
        ({"n_noise": 0}, "n_noise is 0, expected a whole number of at least 1"),
        ({"n_members": 1.5}, "n_members"),
        ({"max_epochs": True}, "max_epochs"),
        ({"damping": 0.0}, r"damping is 0.0, expected a number in \(0, 1\]"),
        ({"alpha": "x"}, "alpha"),
        ({"communality_cap": 1.5}, "communality_cap"),
        ({"target_logl": float("nan")}, "target_logl"),
    ],
)
def test_bad_parameters_are_named(parameters: dict[str, object], named: str) -> None:
    with pytest.raises(ParameterError, match=named):
        BEAA(**parameters)


@pytest.mark.data
def test_importance_reaches_factor_analysis_on_letter(data_dir: Path) -> None:
    """From random coefficients, the held-out likelihood of scikit-learn's fit within half a nat."""
    import pyarrow.parquet as pq
    from sklearn.decomposition import FactorAnalysis

    table = pq.read_table(data_dir / "odds" / "letter.parquet")
    names = table.schema.names
    label = next(name for name in names if name.lower() in {"label", "y", "outlier", "anomaly"})
    x = np.column_stack([table[name].to_numpy().astype(float) for name in names if name != label])
    x = np.random.default_rng(0).permutation(x[table[label].to_numpy() == 0])
    x = (x - x[:1000].mean(axis=0)) / x[:1000].std(axis=0)
    plan = Plan(start="chance", max_epochs=250, patience=20)
    target = target_of(plan, x[:1000], x[1000:], np.random.default_rng(0))
    found = train_one(plan, target, 10, np.random.default_rng(0), jitter=0.0)

    assert found.held_out_logl.mean() > FactorAnalysis(10).fit(x[:1000]).score(x[1000:]) - 0.5
