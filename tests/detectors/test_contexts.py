"""Contexts: each has its own idea of normal, and all of them one scale."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from detectors.base import Matrix, State
from detectors.calibration import Calibration
from detectors.contexts import Contexts
from detectors.errors import ParameterError, StateError
from detectors.rarity import Rarity
from detectors.registry import create, names

ROUTES = {"routes": [0, 1, 2], "names": ["tcp", "udp", ""]}
TCP, UDP, OTHER = range(3)


def rows(context: int, n: int, *, spread: float, seed: int = 0) -> Matrix:
    """Return rows of one context: the columns that tell it, then two columns of its spread."""
    values = spread * np.random.default_rng([seed, context]).normal(size=(n, 2))
    return np.column_stack([np.tile(np.eye(3)[context], (n, 1)), values])


def traffic(n: int, *, seed: int = 0) -> Matrix:
    """Return much wild TCP and some tame UDP traffic."""
    return np.concatenate([rows(TCP, 4 * n, spread=1.0, seed=seed), rows(UDP, n, spread=0.05, seed=seed)])


def contexts(**changes: Any) -> Contexts:
    parameters = {"detector": "knn", **ROUTES, "least_fit": 200, "least_held_out": 100, **changes}
    made = create("contexts", parameters)
    assert isinstance(made, Contexts)
    return made


@pytest.fixture(scope="module")
def fitted() -> Contexts:
    return contexts(detector="bn").fit(
        traffic(1000), held_out=traffic(1000, seed=1), rng=np.random.default_rng(0)
    )


finite = st.floats(-1e300, 1e300)


@given(hnp.arrays(np.float64, st.integers(1, 60), elements=finite), st.lists(finite, min_size=2))
def test_rarity_never_falls_as_a_score_rises(held_out: Matrix, scores: list[float]) -> None:
    """Whatever the held-out scores are, ranks within a context stay, finite and positive."""
    found = Rarity.of(held_out)(np.sort(np.array(scores)))

    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found) >= 0).all()


def test_rarity_is_the_decades_of_the_p_value() -> None:
    """In the body and in the tail it says what a calibration on the same scores says."""
    held_out = np.random.default_rng(0).exponential(size=5000)
    scores = np.array([0.5, 2.0, 5.0, 12.0, 15.0])
    expected = -np.log10(Calibration.fit(held_out).p_value(scores))

    np.testing.assert_allclose(Rarity.of(held_out)(scores), expected, atol=0.02)


def test_between_and_beyond_held_out_scores_no_two_are_alike() -> None:
    """Interpolation and tail leave no steps, with a tail or without."""
    scores = np.linspace(-3.0, 9.0, 500)
    for held_out in (np.arange(5.0), np.arange(1000.0) / 200):
        assert (np.diff(Rarity.of(held_out)(scores)) > 0).all()


def test_each_context_alarms_at_the_same_rate(fitted: Contexts) -> None:
    """One calibration for all rows gives tame and wild traffic about the stated rate of false alarms."""
    calibration = Calibration.fit(fitted.score(traffic(2000, seed=2)))
    for context, spread in ((TCP, 1.0), (UDP, 0.05)):
        p_values = calibration.p_value(fitted.score(rows(context, 20_000, spread=spread, seed=3)))
        assert 0.5 < float(np.mean(p_values <= 0.01)) / 0.01 < 2.0


def test_what_is_usual_elsewhere_is_odd_in_its_own_context(fitted: Contexts) -> None:
    """Ten times the spread of tame traffic leads all of it; one model for all does not see it."""
    odd = np.array([[0.0, 1.0, 0.0, 0.5, 0.5]])
    one = create("bn").fit(
        traffic(1000)[:, 3:], held_out=traffic(1000, seed=1)[:, 3:], rng=np.random.default_rng(0)
    )
    normal = traffic(1000, seed=2)

    assert fitted.score(odd)[0] > fitted.score(normal).max()
    assert one.score(odd[:, 3:])[0] < np.quantile(one.score(normal[:, 3:]), 0.9)


def test_terms_of_another_context_are_nothing(fitted: Contexts) -> None:
    """A row's terms, deviations and contributions are those of its own context, in the outer columns."""
    x = np.array([[0.0, 1.0, 0.0, 0.5, 0.0]])
    said = fitted.explain(x)
    own = np.array([label.id.startswith("udp:") for label in fitted.labels])

    assert [label.id for label in fitted.labels] == [
        f"{c}:c{j}" for c in ("tcp", "udp", "any") for j in (3, 4)
    ]
    assert said.labels[said.terms[0].argmax()].id == "udp:c3"
    assert not said.terms[0, ~own].any()
    assert not said.contributions[0, ~own].any()
    assert not said.contributions[:, :, :3].any()
    np.testing.assert_array_equal(said.expected[0, :3], x[0, :3])


@pytest.mark.parametrize("route", [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
def test_what_training_never_saw_is_judged_by_the_model_of_all_rows(
    fitted: Contexts, route: list[float]
) -> None:
    """Other categories, and rows of no category, have a verdict as well."""
    *_, anyone = fitted.contexts
    x = np.array([[*route, 1.5, -0.5]])

    assert anyone.name == "any"
    np.testing.assert_array_equal(fitted.score(x), anyone.score(x[:, 3:]))


def test_contexts_of_few_rows_share_the_model_of_all(fitted: Contexts) -> None:
    """Too few rows to fit on, or too few to compare with: no model of its own."""
    few = contexts(least_fit=1001).fit(traffic(1000), held_out=traffic(1000), rng=np.random.default_rng(0))
    unheld = contexts(least_held_out=1001).fit(
        traffic(1000), held_out=traffic(1000), rng=np.random.default_rng(0)
    )

    assert [c.name for c in fitted.contexts] == ["tcp", "udp", "any"]
    assert [(c.name, c.n_fit, c.n_held_out) for c in few.contexts] == [
        ("tcp", 4000, 4000), ("any", 5000, 5000),
    ]  # fmt: skip
    assert [c.name for c in unheld.contexts] == ["tcp", "any"]


def test_other_categories_are_never_a_context() -> None:
    """However many rows are of categories without a name, they are judged by the model of all rows."""
    normal = np.concatenate([traffic(300), rows(OTHER, 2000, spread=1.0)])
    found = contexts().fit(normal, held_out=normal, rng=np.random.default_rng(0))

    assert [context.name for context in found.contexts] == ["tcp", "udp", "any"]


def test_a_detector_that_needs_more_rows_leaves_small_contexts_to_the_model_of_all() -> None:
    """The detector's own least number counts, too: no fit fails for a rare protocol."""
    few = np.concatenate([rows(TCP, 600, spread=1.0), rows(UDP, 6, spread=0.05)])
    found = contexts(detector="bn", least_fit=1, least_held_out=1).fit(
        few, held_out=few, rng=np.random.default_rng(0)
    )

    assert [context.name for context in found.contexts] == ["tcp", "any"]


def test_detectors_of_categories_are_given_the_routes() -> None:
    """Where a detector takes no categories it never sees the columns that tell the context."""
    taken = {}
    for detector in ("isolation_forest", "bn"):
        made = contexts(detector=detector).fit(
            traffic(300), held_out=traffic(300, seed=1), rng=np.random.default_rng(0)
        )
        taken[detector] = made.contexts[0].detector.n_columns
        assert made.n_columns == 5

    assert taken == {"isolation_forest": 5, "bn": 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"detector": "pu_gan"}, "looks back on rows"),
        ({"detector": "svm"}, "learns from anomalies"),
        ({"detector": ""}, "name another one"),
        ({"routes": []}, "no routes are given"),
        ({"names": ["tcp", "tcp", ""]}, "names that differ"),
        ({"names": ["tcp", "any", ""]}, "none of them 'any'"),
        ({"names": ["tcp"]}, "expected 3 names"),
        ({"settings": {"kk": 3}}, "knn.kk is no parameter"),
        ({"routes": [0, 1, -1]}, "expected a whole number"),
    ],
)
def test_what_cannot_be_done_in_contexts_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        contexts(**changes)


def test_it_is_no_detector_to_choose() -> None:
    """It is made by an option of the training, so no list shows it."""
    assert "contexts" not in names()


@pytest.mark.parametrize("at", ["contexts", "udp", "detector"])
def test_a_state_that_lost_something_is_refused(fitted: Contexts, at: str) -> None:
    """What is missing of the JSON is named."""
    state = fitted.state()

    def without(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: without(one) for key, one in value.items() if key != at}

    broken = State(parameters=without(dict(state.parameters)), arrays=state.arrays)
    if at == "udp":  # a context that nothing tells of is one that was never fitted
        assert [c.name for c in contexts(detector="bn").restore(broken).contexts] == ["tcp", "any"]
        return
    with pytest.raises(StateError, match=at):
        contexts(detector="bn").restore(broken)
