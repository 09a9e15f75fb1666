"""Forests in arrays take the paths that scikit-learn's take."""

import numpy as np
import pytest
from sklearn import ensemble

from detectors.base import Matrix
from detectors.errors import StateError
from detectors.isolation_forest import Forest, IsolationForest, average_path, planted
from detectors.state import dump_state, load_state

RNG = np.random.default_rng(0)
NORMAL = np.column_stack([RNG.normal(size=(600, 3)), RNG.integers(0, 3, 600)]).astype(np.float64)
ROWS = np.concatenate([NORMAL[:150], 3.0 * NORMAL[:106]])


def fit(x: Matrix = NORMAL, **parameters: object) -> IsolationForest:
    return IsolationForest(**parameters).fit(x, held_out=x[:100], rng=np.random.default_rng(0))


@pytest.fixture(scope="module")
def theirs() -> ensemble.IsolationForest:
    return ensemble.IsolationForest(n_estimators=30, random_state=1).fit(NORMAL)


@pytest.fixture(scope="module")
def ours(theirs: ensemble.IsolationForest) -> Forest:
    return planted([each.tree_ for each in theirs.estimators_])


def test_path_lengths_are_those_of_scikit_learn(theirs: ensemble.IsolationForest, ours: Forest) -> None:
    expected = ours.length[ours.roots].mean()
    paths = expected - ours.on_tile(np.ascontiguousarray(ROWS.T))[0]

    np.testing.assert_allclose(2.0 ** (-paths / average_path(np.array([256]))), -theirs.score_samples(ROWS))


def test_the_detector_ranks_as_scikit_learn_does() -> None:
    """With the same seed, the paper's setting is scikit-learn's forest on rows in other units."""
    detector = fit(variant="paper")
    seed = int(np.random.default_rng(0).integers(2**31))
    units = (NORMAL - NORMAL.mean(axis=0)) / NORMAL.std(axis=0)
    asked = (ROWS - NORMAL.mean(axis=0)) / NORMAL.std(axis=0)
    theirs = ensemble.IsolationForest(max_samples=256, random_state=seed).fit(units)
    paths = -np.log2(-theirs.score_samples(asked)) * average_path(np.array([256]))
    total = detector.score(ROWS) + paths

    np.testing.assert_allclose(total, total[0], rtol=1e-9)


def test_a_column_s_term_is_what_its_splits_take_away(ours: Forest) -> None:
    """Followed by hand, split after split, for a few rows."""
    found = ours.by_column(np.ascontiguousarray(ROWS.T))
    for row in (0, 77, 200):
        wanted = np.zeros(4)
        for root in ours.roots:
            at = root
            while ours.children[at, 0] != at:
                column = ours.column[at]
                goes_left = np.float32(ROWS[row, column]) <= ours.threshold[at]
                below = ours.children[at, int(goes_left)]
                wanted[column] += ours.length[at] - ours.length[below]
                at = below
        np.testing.assert_allclose(found[:, row], wanted / len(ours.roots), rtol=1e-9, atol=1e-12)


def test_a_training_row_may_expect_what_the_root_says(theirs: ensemble.IsolationForest) -> None:
    """The length at a root is the mean over the rows that the tree was grown from."""
    for each, drawn in zip(theirs.estimators_, theirs.estimators_samples_, strict=True):
        one = planted([each.tree_])
        tile = np.ascontiguousarray(NORMAL[drawn].T)
        np.testing.assert_allclose(one.on_tile(tile).mean(), 0.0, atol=1e-9)


def test_an_ignored_column_has_no_term() -> None:
    x = np.column_stack([NORMAL[:, :2], np.full(600, 3.0)])
    detector = fit(x)

    np.testing.assert_array_equal(detector.terms(x)[:, 2], 0.0)


def test_planted_outliers_are_told_by_their_column() -> None:
    """In the paper's setting too, where nothing beyond the trees counts."""
    odd = NORMAL[:50].copy()
    odd[:, 1] += 8.0
    for detector in (fit(), fit(variant="paper")):
        assert (detector.terms(odd).argmax(axis=1) == 1).mean() > 0.9
        assert np.median(detector.score(odd)) > np.quantile(detector.score(NORMAL), 0.95)


def test_more_trees_make_seeds_agree() -> None:
    """The reason for more trees than the paper's."""

    def disagreement(n_trees: int) -> float:
        found = []
        for seed in range(4):
            detector = IsolationForest(n_trees=n_trees, beyond=False)
            detector.fit(NORMAL, held_out=NORMAL[:100], rng=np.random.default_rng(seed))
            found.append(detector.score(ROWS))
        return float(np.std(found, axis=0).mean())

    assert disagreement(90) < 0.7 * disagreement(30)


@pytest.mark.parametrize(
    ("column", "value", "message"), [(0, 9.0, "0 .. 3"), (2, 0.5, "points outside"), (3, 0.0, "before its")]
)
def test_a_state_that_is_no_forest_is_refused(column: int, value: float, message: str) -> None:
    state = load_state(dump_state(fit(n_trees=2).state()))
    inner = np.flatnonzero(state.arrays["nodes"][:, 2] != np.arange(len(state.arrays["nodes"])))[-1]
    state.arrays["nodes"][inner, column] = value

    with pytest.raises(StateError, match=message):
        IsolationForest(n_trees=2).restore(state)
