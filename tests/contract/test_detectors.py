"""Every detector keeps the promises of the contract."""

import inspect
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from detector_variants import VARIANTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import detectors
from detectors.base import Detector, Explanation, Matrix, Scores
from detectors.errors import DetectorError, NotFittedError, ShapeError, StateError
from detectors.registry import create
from detectors.state import dump_state, load_state

NOISE, COLUMNS = 3, 12

FIXED = np.random.default_rng(7).normal(size=(COLUMNS, NOISE))


def draw(rng: np.random.Generator, n: int) -> Matrix:
    """Return rows of unit variance whose columns hang together by three hidden causes."""
    x = rng.normal(size=(n, NOISE)) @ FIXED.T + 0.5 * rng.normal(size=(n, COLUMNS))
    return x / np.sqrt(np.sum(FIXED**2, axis=1) + 0.25)


def shuffled(rng: np.random.Generator, x: Matrix) -> Matrix:
    """Return the rows with each column shuffled by itself: no dependencies are left."""
    return np.column_stack([rng.permutation(column) for column in x.T])


def untrained(variant: str) -> Detector:
    return create(VARIANTS[variant].detector, VARIANTS[variant].parameters)


def trained(variant: str, normal: Matrix | None = None) -> Detector:
    normal = draw(np.random.default_rng(1), 2000) if normal is None else normal
    return fit(variant, normal, normal[: len(normal) // 4])


def fit(variant: str, normal: Matrix, held_out: Matrix, detector: Detector | None = None) -> Detector:
    return (detector or untrained(variant)).fit(
        normal,
        held_out=held_out,
        anomalies=odd_rows(normal if len(normal) else held_out) if VARIANTS[variant].anomalies else None,
        rng=np.random.default_rng(0),
    )


def odd_rows(normal: Matrix) -> Matrix:
    """Return known anomalies: rows whose columns no longer hang together, and rows that were moved far."""
    rng = np.random.default_rng(11)
    some = normal[rng.integers(0, len(normal), 100)]
    spread = normal.std(axis=0)
    far = 6.0 * np.where(spread > 0, spread, 1.0) * np.sign(rng.normal(size=some.shape))
    return np.concatenate([rng.permuted(some, axis=0), some + far])


def led(detector: Detector, x: Matrix) -> Matrix:
    """Return rows behind as many normal ones as the detector looks back on; most look back on none."""
    before = draw(np.random.default_rng(6), detector.history)
    return np.concatenate([before, x])


def promises(variant: str, promise: str) -> bool:
    return promise not in VARIANTS[variant].waived


@pytest.fixture(scope="module", params=sorted(VARIANTS))
def variant(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def detector(variant: str) -> Detector:
    return trained(variant)


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return draw(np.random.default_rng(2), 700)


def explanations_equal(one: Explanation, other: Explanation) -> None:
    for name in ("terms", "deviations", "contributions", "constants", "expected"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.labels == other.labels


def ask(detector: Detector, method: str, rows: Matrix) -> object:
    found = getattr(detector, method)
    if method == "state":
        return found()
    return found(rows) if callable(found) else found


@pytest.mark.parametrize("method", ["score", "terms", "explain", "state", "labels", "n_columns"])
def test_unfitted_refuses(variant: str, method: str, rows: Matrix) -> None:
    """Without a fit there is an error, not a comforting zero."""
    detector = untrained(variant)

    with pytest.raises(NotFittedError, match=r"call \w+\.fit\(\) first"):
        ask(detector, method, rows)


def test_planted_outliers_score_above_normal_rows(detector: Detector, rows: Matrix) -> None:
    """The sign is right: what was moved far away is more anomalous."""
    moved = rows + 6.0 * np.sign(np.random.default_rng(3).normal(size=rows.shape))

    assert np.median(detector.score(rows)) < np.median(detector.score(moved))


def test_training_trains(detector: Detector, variant: str, rows: Matrix) -> None:
    """Rows that break the learned dependencies stand out more than for a fit without them."""
    broken = shuffled(np.random.default_rng(4), rows)
    ignorant = trained(variant, shuffled(np.random.default_rng(5), draw(np.random.default_rng(1), 2000)))

    def separation(one: Detector) -> float:
        normal, odd = one.score(rows), one.score(broken)
        return float(np.mean(odd[:, None] > normal[None, :]))

    if not promises(variant, "dependencies"):
        assert np.median(detector.score(rows)) < np.median(detector.score(3.0 * rows))
        return
    assert separation(detector) > 0.6
    assert separation(detector) > separation(ignorant) + 0.05


def test_scores_are_finite_float64_and_differ(detector: Detector, variant: str, rows: Matrix) -> None:
    scores = detector.score(led(detector, rows))

    assert scores.shape == (len(rows),)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    assert np.unique(scores).size == len(rows) or not promises(variant, "distinct")


def test_scoring_is_pure(detector: Detector, rows: Matrix) -> None:
    """Neither the rows nor the detector change, and the same question gets the same answer."""
    before, files = rows.copy(), dump_state(detector.state())
    first = detector.score(rows)
    detector.explain(rows)

    np.testing.assert_array_equal(before, rows)
    assert files == dump_state(detector.state())
    np.testing.assert_array_equal(first, detector.score(rows))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 700), max_size=6))
def test_batches_do_not_matter(detector: Detector, rows: Matrix, cuts: list[int]) -> None:
    """A flow's score, terms and explanation have the same bits however the batches are cut."""
    stream, ends = led(detector, rows), [0, *sorted(cuts), len(rows)]
    parts = [stream[a : b + detector.history] for a, b in pairwise(ends) if a < b]
    whole = detector.explain(stream)
    split = [detector.explain(part) for part in parts]

    np.testing.assert_array_equal(detector.score(stream), np.concatenate([detector.score(x) for x in parts]))
    np.testing.assert_array_equal(detector.terms(stream), np.concatenate([detector.terms(x) for x in parts]))
    for name in ("terms", "deviations", "contributions", "expected"):
        together = np.concatenate([getattr(each, name) for each in split])
        np.testing.assert_array_equal(getattr(whole, name), together)


def test_a_flow_alone_scores_as_in_a_crowd(detector: Detector, rows: Matrix) -> None:
    stream = led(detector, rows)
    alone = np.concatenate([detector.score(stream[i : i + detector.history + 1]) for i in range(80)])

    np.testing.assert_array_equal(detector.score(stream)[:80], alone)


def test_memory_layout_does_not_matter(detector: Detector, rows: Matrix) -> None:
    """Columns first, every second row or a copy: the same bits."""
    np.testing.assert_array_equal(detector.score(rows), detector.score(np.asfortranarray(rows)))
    np.testing.assert_array_equal(detector.score(rows[::2].copy()), detector.score(rows[::2]))


def test_no_rows_give_no_scores(detector: Detector, rows: Matrix) -> None:
    k, none = len(detector.labels), led(detector, rows[:0])

    assert detector.score(none).shape == (0,)
    assert detector.terms(none).shape == (0, k)
    assert detector.explain(none).contributions.shape == (0, k, COLUMNS)


def test_missing_history_is_refused(detector: Detector, rows: Matrix) -> None:
    """A detector that looks back says how many rows it needs; the history alone has no scores."""
    for method in (detector.score, detector.terms, detector.explain):
        if detector.history:
            with pytest.raises(ShapeError, match=f"expected at least {detector.history}"):
                method(rows[: detector.history - 1])
    assert len(detector.score(rows)) == len(rows) - detector.history


def test_seeds_repeat(detector: Detector, variant: str, rows: Matrix) -> None:
    """The same rows and the same seed give the same detector, bit for bit."""
    assert dump_state(detector.state()) == dump_state(trained(variant).state())


def test_fitting_again_forgets(detector: Detector, variant: str) -> None:
    """A second fit leaves nothing of the first."""
    again = trained(variant, shuffled(np.random.default_rng(5), draw(np.random.default_rng(9), 500)))
    normal = draw(np.random.default_rng(1), 2000)
    fit(variant, normal, normal[:500], again)

    assert dump_state(detector.state()) == dump_state(again.state())


def test_saved_and_loaded_scores_are_equal_bit_for_bit(detector: Detector, rows: Matrix) -> None:
    files = dump_state(detector.state())
    loaded = type(detector)(**detector.parameters()).restore(load_state(files))

    np.testing.assert_array_equal(detector.score(rows), loaded.score(rows))
    explanations_equal(detector.explain(rows), loaded.explain(rows))
    assert files == dump_state(loaded.state())


def test_a_damaged_state_is_refused(detector: Detector) -> None:
    """A missing, misshapen or non-finite array is named."""
    state = detector.state()
    for name, value in state.arrays.items():
        for broken in (None, value[..., None], np.full_like(value, np.nan)):
            arrays = {k: v for k, v in state.arrays.items() if k != name}
            arrays |= {} if broken is None else {name: broken}
            fresh = type(detector)(**detector.parameters())
            with pytest.raises(StateError, match=name.split(".", maxsplit=1)[0]):
                fresh.restore(type(state)(parameters=state.parameters, arrays=arrays))


def test_parameters_rebuild_the_detector(detector: Detector) -> None:
    again = type(detector)(**detector.parameters())

    assert detector.parameters() == again.parameters()
    assert set(inspect.signature(type(detector)).parameters) == set(again.parameters())


def test_bad_rows_are_refused(detector: Detector, rows: Matrix) -> None:
    """NaN, infinity, another width and another type are errors that say where."""
    for bad in (np.nan, np.inf, -np.inf):
        broken = rows.copy()
        broken[3, 2] = bad
        with pytest.raises(ShapeError, match=r"x\[3, 2\]"):
            detector.score(broken)
    for wrong in (rows[:, :-1], rows[0], rows.astype(np.float32)):
        with pytest.raises(ShapeError, match="expected"):
            detector.explain(wrong)


def test_bad_training_rows_are_refused(variant: str, rows: Matrix) -> None:
    broken = rows.copy()
    broken[3, 2] = np.nan
    for normal, held_out in ((broken, rows), (rows, broken), (rows[:, :0], rows[:, :0]), (rows, rows[:0])):
        with pytest.raises(DetectorError, match="expected"):
            fit(variant, normal, held_out)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_rows_train_or_are_refused_in_words(variant: str, n: int) -> None:
    """A handful of rows gives finite scores, or an error that says how many are needed."""
    x = draw(np.random.default_rng(0), 3)
    try:
        detector = fit(variant, x[:n], x)
    except DetectorError as error:
        assert "expected at least" in str(error)  # noqa: PT017 - either outcome is right, silence is not
        return
    assert np.isfinite(detector.score(x)).all()


def constant_column(x: Matrix) -> Matrix:
    x = x.copy()
    x[:, 1] = 5.0
    x[:, 4] = 0.0
    return x


HARD = {
    "constant columns": constant_column,
    "all constant": np.ones_like,
    "duplicated rows": lambda x: np.repeat(x[:40], 20, axis=0),
    "one column": lambda x: x[:, :1],
    "duplicated columns": lambda x: np.column_stack([x, x[:, :3], x[:, 0] + x[:, 1]]),
    "200 columns": lambda x: np.column_stack([x, np.random.default_rng(0).normal(size=(len(x), 188))]),
    "one huge value": lambda x: np.vstack([x, np.full(x.shape[1], 1e12)]),
    "binary": lambda x: (x > 1.0).astype(float),
    "tiny numbers": lambda x: x * 1e-12,
}

CONSTANT = ("all constant", "tiny numbers")  # what differs by less than the rounding of 1 does not differ


@pytest.mark.parametrize("case", sorted(HARD))
def test_hard_training_rows_give_finite_scores(variant: str, case: str) -> None:
    """Whatever the traffic looks like, scores are finite, and a row that is far off scores higher."""
    x = HARD[case](draw(np.random.default_rng(0), 900))
    if case == "one column" and not promises(variant, "narrow"):
        with pytest.raises(DetectorError, match="1 columns, expected at least"):
            trained(variant, x)
        return
    detector = trained(variant, x)
    far = x[:50] + 1e3 * (1.0 + np.abs(x[:50]).max())
    assert detector.history < len(far)

    explanation = detector.explain(x[:100])

    assert np.isfinite(detector.score(x)).all()
    assert all(np.isfinite(getattr(explanation, part)).all() for part in ("terms", "deviations", "expected"))
    if case in CONSTANT and not promises(variant, "constant"):
        return
    if case != "one huge value":  # after it, what was far is near
        assert np.median(detector.score(far)) > np.median(detector.score(x))


@pytest.mark.parametrize("size", [1e12, np.finfo(np.float64).max, -np.finfo(np.float64).max])
def test_huge_values_score_finite_and_high(
    detector: Detector, variant: str, rows: Matrix, size: float
) -> None:
    """No value overflows a score; a huge one is as anomalous as can be."""
    huge = led(detector, rows[:5])
    huge[-5:, 2] = size
    explanation = detector.explain(huge)

    assert np.isfinite(detector.score(huge)).all()
    assert np.isfinite(explanation.terms).all()
    assert detector.score(huge).min() > detector.score(rows).max() or not promises(variant, "huge")


def test_terms_sum_to_the_score(detector: Detector, rows: Matrix) -> None:
    explanation = detector.explain(rows)

    np.testing.assert_array_equal(detector.terms(rows), explanation.terms)
    if explanation.additive:
        np.testing.assert_allclose(
            explanation.terms.sum(axis=1), detector.score(rows), rtol=1e-11, atol=1e-11
        )


def test_contributions_sum_to_the_deviations(detector: Detector, rows: Matrix) -> None:
    explanation = detector.explain(rows)
    total = explanation.contributions.sum(axis=2) + explanation.constants

    np.testing.assert_allclose(total, explanation.deviations, rtol=1e-9, atol=1e-9)


def test_shapes_of_explanations_fit_together(detector: Detector, rows: Matrix) -> None:
    explanation, k = detector.explain(led(detector, rows)), len(detector.labels)

    assert explanation.labels == detector.labels
    assert explanation.terms.shape == explanation.deviations.shape == (len(rows), k)
    assert explanation.contributions.shape == (len(rows), k, COLUMNS)
    assert explanation.constants.shape == (k,)
    assert explanation.expected.shape == rows.shape
    assert len({(label.kind, label.id) for label in explanation.labels}) == k


@pytest.mark.parametrize("column", [0, 5, 11])
def test_a_planted_column_is_named(detector: Detector, variant: str, rows: Matrix, column: int) -> None:
    """A deviation planted in one column leads: its own term, or it pushes the leading direction most."""
    planted = rows[:200].copy()
    planted[:, column] += 8.0 if promises(variant, "columns") else 40.0
    explanation = detector.explain(led(detector, planted))
    leading = explanation.terms.argmax(axis=1)
    pushed = np.abs(explanation.contributions[np.arange(200), leading]).argsort(axis=1)[:, -1]
    named = np.mean(
        [
            explanation.labels[term].id == f"c{column}" or most == column
            for term, most in zip(leading, pushed, strict=True)
        ]
    )

    assert named > (0.85 if promises(variant, "columns") else 0.6)


LAZY = """
import sys
import numpy as np
from detectors.registry import create
from detectors.state import load_state
folder, name, parameters = sys.argv[1], sys.argv[2], eval(sys.argv[3])
files = {f: open(f"{folder}/{f}", "rb").read() for f in ("state.json", "weights.safetensors")}
detector = create(name, parameters).restore(load_state(files))
x = np.zeros((detector.history + 3, detector.n_columns))
detector.score(x), detector.explain(x)
print(*sorted({"pybnesian", "torch", "sklearn", "scipy", "pyarrow", "pandas"} & set(sys.modules)))
"""


def test_scoring_loads_no_training_library(detector: Detector, variant: str, tmp_path: Path) -> None:
    """A worker that scores has neither PyBNesian nor torch nor scikit-learn in memory."""
    for name, content in dump_state(detector.state()).items():
        (tmp_path / name).write_bytes(content)
    name = VARIANTS[variant].detector
    command = [sys.executable, "-c", LAZY, str(tmp_path), name, repr(detector.parameters())]
    root = Path(detectors.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)

    assert done.stderr == ""
    assert done.stdout.split() == []


def test_nothing_is_ever_unpickled() -> None:
    """No module of the detectors knows pickle, nor what reads pickles by default."""
    forbidden = ("import pickle", "joblib", "allow_pickle=True", "torch.load(", "cloudpickle", "import dill")
    folder = Path(detectors.__file__).parent
    found = [
        f"{path.name}: {word}"
        for path in sorted(folder.rglob("*.py"))
        for word in forbidden
        if word in path.read_text() and "weights_only=True" not in path.read_text()
    ]

    assert found == []


def test_terms_of_anomalies_are_scores(detector: Detector) -> None:
    """Anomalous rows, too, have terms that sum to the score."""
    odd = 50.0 * np.random.default_rng(8).normal(size=(300, COLUMNS))
    scores: Scores = detector.score(odd)

    if detector.explain(odd[: detector.history + 1]).additive:
        np.testing.assert_allclose(detector.terms(odd).sum(axis=1), scores, rtol=1e-11)
