"""The normaliser: what the matrix holds, what is watched, and the way back to units and words."""

import json
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from connectors.records import KDD
from pipeline.errors import BundleError, FeatureSetError, PipelineError
from pipeline.features.base import UNKNOWN, Feature, FeatureSet
from pipeline.features.feature_sets import FEATURE_SETS
from pipeline.features.lane import LaneFeatures
from pipeline.features.normaliser import LIMITS, OTHER, Normaliser
from pipeline.features.statistics import NumberStats, Scaling

MakeRows = Callable[..., pa.RecordBatch]
ALL = frozenset({"numeric", "binary", "categorical"})
NUMBERS = frozenset({"numeric", "binary"})
LARGEST_SINGLE = float(np.finfo(np.float32).max)

SMALL = FeatureSet(
    name="small",
    version=1,
    record_type=KDD,
    features=(
        Feature(name="size", transform="log1p", unit="bytes", text="size"),
        Feature(name="place", kind="categorical", vocabulary=("a", "b", "c"), text="place"),
        Feature(name="rate", unit="ratio", text="rate"),
        Feature(name="still", text="never moves"),
        Feature(name="flag", kind="binary", text="flag"),
    ),
    compute=lambda _rows, _windows: {},
)
"""Few enough columns to say by hand what comes out."""


def _batch(**columns: list[float]) -> pa.RecordBatch:
    types = {feature.name: feature.type for feature in SMALL.features}
    return pa.RecordBatch.from_pydict({name: pa.array(v, types[name]) for name, v in columns.items()})


FIT = _batch(
    size=[0.0, 1.0, 3.0, 7.0],
    place=[1, 1, 2, 1],
    rate=[0.2, 0.4, 0.6, 0.8],
    still=[5.0, 5.0, 5.0, 5.0],
    flag=[0.0, 0.0, 0.0, 1.0],
)
EVERY = [*ALL]


def _fitted(kinds: frozenset[str] = ALL, scaling: Scaling = "standard") -> Normaliser:
    return Normaliser.fit(SMALL, FIT, kinds=kinds, scaling=scaling)


def _rows(
    size: float = 1.0, place: int = 1, rate: float = 0.5, still: float = 5.0, flag: float = 0.0
) -> pa.RecordBatch:
    return _batch(size=[size], place=[place], rate=[rate], still=[still], flag=[flag])


def _features(make_rows: MakeRows, name: str, n: int, seed: int) -> pa.RecordBatch:
    chosen = FEATURE_SETS[name]
    return LaneFeatures(chosen).process(make_rows(chosen.record_type, n, seed, chosen.required))


def test_columns_are_features_and_the_categories_seen() -> None:
    """Constants are left out, a category is a column, and the rest of them is one more."""
    labels = [column.label for column in _fitted().columns]

    assert ["size", "place=a", "place=b", f"place={OTHER}", "rate", "flag"] == labels
    assert _fitted().watched == ("still",)
    assert [column.label for column in _fitted(NUMBERS).columns] == ["size", "rate", "flag"]


def test_standard_columns_have_mean_0_and_sd_1() -> None:
    """After log1p, over the rows of the fit; one-hot columns stay 0 and 1."""
    normaliser = _fitted()
    x = normaliser.matrix(FIT)
    numbers = [0, 4, 5]

    np.testing.assert_allclose(x[:, numbers].mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(x[:, numbers].std(axis=0), 1.0)
    np.testing.assert_array_equal(x[:, 1:4], [[1, 0, 0], [1, 0, 0], [0, 1, 0], [1, 0, 0]])
    assert x.flags.c_contiguous
    assert np.float64 == x.dtype


def test_minmax_columns_span_0_to_1_and_are_cut_at_10() -> None:
    """The fit fills [0, 1]; what lies outside shows, up to a bound."""
    normaliser = _fitted(scaling="minmax")
    x = normaliser.matrix(FIT)

    assert (x.min(), x.max()) == (0.0, 1.0)
    far = normaliser.matrix(_rows(size=LARGEST_SINGLE, rate=LARGEST_SINGLE, flag=2.0))[0]
    assert (far[0], far[4], far[5]) == (10.0, 10.0, 2.0)


def test_table_and_batch_give_the_same_matrix() -> None:
    """Training hands over tables of many chunks, the stream single batches."""
    table = pa.Table.from_batches([FIT.slice(0, 1), FIT.slice(1)])

    assert _fitted().to_json() == Normaliser.fit(SMALL, table, kinds=ALL, scaling="standard").to_json()
    np.testing.assert_array_equal(_fitted().matrix(FIT), _fitted().matrix(table))


def test_categories_outside_the_fit_share_one_column() -> None:
    """An unlisted value, and a listed one that the fit never saw, are the rest, and are told as moved."""
    normaliser = _fitted()
    for code in (UNKNOWN, 3, 60_000):
        rows = _rows(place=code)

        np.testing.assert_array_equal([[0.0, 0.0, 1.0]], normaliser.matrix(rows)[:, 1:4])
        assert normaliser.moved(rows).first.tolist() == [1]
    assert not normaliser.moved(_rows(place=2)).rows.any()


def test_unknown_category_of_the_fit_is_not_moved() -> None:
    """Where the fit held unlisted values they have the same column and surprise no one."""
    fit = FIT.set_column(1, "place", pa.array([0, 1, 2, 0], pa.uint16()))
    normaliser = Normaliser.fit(SMALL, fit, kinds=ALL, scaling="standard")

    np.testing.assert_array_equal([1, 0, 0, 1], normaliser.matrix(fit)[:, 3])
    assert not normaliser.moved(fit).rows.any()


@pytest.mark.parametrize(
    ("value", "moved"), [(5.0, False), (5.0 + 4e-6, False), (5.1, True), (0.0, True), (LARGEST_SINGLE, True)]
)
def test_constant_is_watched(value: float, *, moved: bool) -> None:
    """A row that leaves the constant of the fit is told, beyond float32's last digit."""
    found = _fitted().moved(_rows(still=value))

    assert ([moved], [3 if moved else -1]) == (found.rows.tolist(), found.first.tolist())


def test_first_moved_feature_is_the_first_of_the_set() -> None:
    """Where several left the fit, the one that the set declares first is named."""
    assert _fitted().moved(_rows(place=3, still=9.0)).first.tolist() == [1]


def test_constants_tell_what_the_fit_saw() -> None:
    """Of everything that can move: the value, or the categories by name."""
    assert _fitted().constants == {"place": "a, b", "still": 5.0}


def test_constants_of_many_categories_tell_the_first_and_how_many_more() -> None:
    """An alert does not list seventy services."""
    many = replace(
        SMALL,
        features=(
            Feature(name="place", kind="categorical", vocabulary=tuple("abcdefgh")),
            *SMALL.features[4:],
        ),
    )
    batch = pa.RecordBatch.from_pydict(
        {"place": pa.array(range(8), pa.uint16()), "flag": pa.array([0, 1] * 4, pa.float32())}
    )
    normaliser = Normaliser.fit(many, batch, kinds=ALL, scaling="standard")

    assert f"{OTHER}, a, b, c, d or 3 more" == normaliser.constants["place"]


def test_watching_covers_kinds_that_the_detector_does_not_take() -> None:
    """A model of numbers alone still notices a category that was never there."""
    assert _fitted(NUMBERS).moved(_rows(place=3)).rows.tolist() == [True]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), scaling=st.sampled_from(sorted(LIMITS)))
@pytest.mark.parametrize("name", sorted(FEATURE_SETS))
def test_matrix_is_finite_and_bounded(make_rows: MakeRows, name: str, seed: int, scaling: Scaling) -> None:
    """Whatever was fitted and whatever comes, the matrix stays within the limit of its scaling."""
    fit, other = (_features(make_rows, name, 40, s) for s in (seed, seed + 1000))
    normaliser = Normaliser.fit(FEATURE_SETS[name], fit, kinds=ALL, scaling=scaling)
    x = normaliser.matrix(other)

    assert np.abs(x).max() <= LIMITS[scaling]
    assert (other.num_rows, len(normaliser.columns)) == x.shape
    assert not normaliser.moved(fit).rows.any()


@settings(max_examples=50, deadline=None)
@given(
    values=hnp.arrays(np.float32, st.integers(1, 70), elements=st.floats(0, LARGEST_SINGLE, width=32)),
    offset=st.integers(0, 9),
)
def test_a_row_has_the_same_bits_in_every_place(values: np.ndarray, offset: int) -> None:
    """Alone, among others, and with others before it."""
    normaliser = _fitted()

    def column(sizes: np.ndarray) -> np.ndarray:
        n = len(sizes)
        rows = _batch(size=list(sizes), place=[1] * n, rate=[0.3] * n, still=[5.0] * n, flag=[0.0] * n)
        return normaliser.matrix(rows)[:, 0]

    shifted = column(np.concatenate([np.ones(offset, np.float32), values]))[offset:]
    alone = [column(values[i : i + 1])[0] for i in range(values.size)]

    assert np.array(alone).tobytes() == shifted.tobytes()


@pytest.mark.parametrize("length", range(1, 71))
def test_rows_have_the_same_bits_in_batches_of_every_length(make_rows: MakeRows, length: int) -> None:
    """Rows of every offset in a batch of every length are those of the whole."""
    features = _features(make_rows, "conn", 90, 4)
    normaliser = Normaliser.fit(FEATURE_SETS["conn"], features, kinds=ALL, scaling="standard")
    whole = normaliser.matrix(features)
    for offset in range(0, 90 - length, 7):
        part = normaliser.matrix(features.slice(offset, length))

        assert whole[offset : offset + length].tobytes() == part.tobytes()


@pytest.mark.parametrize("scaling", sorted(LIMITS))
def test_to_unit_undoes_the_matrix(scaling: Scaling) -> None:
    """Matrix rows come back as values in their unit, and one-hot blocks as names."""
    normaliser = _fitted(scaling=scaling)
    values = normaliser.to_unit(normaliser.matrix(FIT))

    assert ["size", "place", "rate", "flag"] == list(values) == [f.name for f in normaliser.inputs]
    for name in ("size", "rate", "flag"):
        np.testing.assert_allclose(values[name], FIT.column(name).to_numpy(), atol=1e-6)
    assert values["place"].tolist() == ["a", "a", "b", "a"]
    assert normaliser.observed(FIT)["place"].tolist() == ["a", "a", "b", "a"]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
@pytest.mark.parametrize("name", sorted(FEATURE_SETS))
def test_to_unit_agrees_with_observed(make_rows: MakeRows, name: str, seed: int) -> None:
    """Rows of the fit come back as they are, within float32's digits or a thousandth of a sd."""
    features = _features(make_rows, name, 50, seed)
    normaliser = Normaliser.fit(FEATURE_SETS[name], features, kinds=ALL, scaling="minmax")
    seen, back = normaliser.observed(features), normaliser.to_unit(normaliser.matrix(features))

    for feature in normaliser.inputs:
        if feature.kind == "categorical":
            assert seen[feature.name].tolist() == back[feature.name].tolist()
        else:
            tolerance = (
                1e-6 * max(1.0, np.abs(seen[feature.name]).max()) if feature.transform == "none" else 1e-9
            )
            np.testing.assert_allclose(back[feature.name], seen[feature.name], rtol=1e-6, atol=tolerance)


def test_expected_values_stay_possible() -> None:
    """A model may expect less than nothing; the alert says 0 bytes, and a flag between 0 and 1."""
    wild = np.array([[-50.0, 0.1, 0.4, 0.2, -50.0, 50.0], [1e300, 0.0, 0.0, 0.9, 1.0, -9.0]])
    values = _fitted().to_unit(wild)

    assert tuple(values[name][0] for name in ("size", "rate", "flag", "place")) == (0.0, 0.0, 1.0, "b")
    assert np.isfinite(values["size"]).all()
    assert (values["flag"][1], values["place"][1]) == (0.0, OTHER)


def test_contributions_fold_into_their_feature() -> None:
    """The columns of a category are summed, others stand alone; the sum is kept."""
    normaliser = _fitted()
    parts = np.arange(24.0).reshape(2, 2, 6)

    folded = normaliser.contribution_fold(parts)

    np.testing.assert_array_equal([0.0, 1 + 2 + 3, 4.0, 5.0], folded[0, 0])
    np.testing.assert_array_equal(parts.sum(axis=-1), folded.sum(axis=-1))
    assert (2, 2, len(normaliser.inputs)) == folded.shape


def test_rare_flag_has_a_floor_under_its_sd() -> None:
    """One row in four million cannot make a flag worth two thousand standard deviations."""
    n = 4_000_000
    flag = np.zeros(n, np.float32)
    flag[17] = 1.0
    one = replace(SMALL, features=(SMALL.features[4],))
    batch = pa.RecordBatch.from_pydict({"flag": pa.array(flag)})
    normaliser = Normaliser.fit(one, batch, kinds=ALL, scaling="standard")

    assert pytest.approx(1000.0, rel=1e-3) == normaliser.matrix(batch.slice(17, 1))[0, 0]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
@pytest.mark.parametrize("name", sorted(FEATURE_SETS))
def test_json_is_exact(make_rows: MakeRows, name: str, seed: int) -> None:
    """What was written and read again gives the same bits."""
    features = _features(make_rows, name, 30, seed)
    normaliser = Normaliser.fit(FEATURE_SETS[name], features, kinds=NUMBERS, scaling="standard")
    again = Normaliser.from_json(normaliser.to_json(), FEATURE_SETS[name])

    assert normaliser == again
    assert normaliser.matrix(features).tobytes() == again.matrix(features).tobytes()


def test_other_feature_set_is_refused_with_both_names() -> None:
    """A normaliser is read only by the very set it was fitted with."""
    other = replace(SMALL, version=2)

    with pytest.raises(FeatureSetError, match=rf"{SMALL.id}, but this program has {other.id}; train again"):
        Normaliser.from_json(_fitted().to_json(), other)


def _damaged(change: Callable[[dict], object]) -> str:
    content = json.loads(_fitted().to_json())
    change(content)
    return json.dumps(content)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        _damaged(lambda c: c.update(format=99)),
        _damaged(lambda c: c["features"].pop()),
        _damaged(lambda c: c["features"][0].update(name="other")),
        _damaged(lambda c: c["features"][0].pop("scale")),
        _damaged(lambda c: c.update(scaling="robust")),
        _damaged(lambda c: c["features"][0].update(scale=0.0)),
        _damaged(lambda c: c["features"][0].update(centre="x")),
        _damaged(lambda c: c["features"][1].update(seen=[9])),
    ],
)
def test_damaged_json_is_refused(text: str) -> None:
    """No half-read normaliser: one sentence instead."""
    with pytest.raises(BundleError, match="normaliser: "):
        Normaliser.from_json(text, SMALL)


def test_fit_needs_rows_that_vary() -> None:
    """One row, or rows that are all alike, teach nothing."""
    with pytest.raises(PipelineError, match="1 rows to fit on, expected 2 or more"):
        Normaliser.fit(SMALL, FIT.slice(0, 1), kinds=ALL, scaling="standard")
    with pytest.raises(PipelineError, match="no binary feature varies"):
        Normaliser.fit(SMALL, FIT.slice(0, 3), kinds=frozenset({"binary"}), scaling="standard")


SINGLES = st.one_of(
    st.integers(-3, 20_000).map(float),  # looked up where it is small and whole
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@settings(max_examples=200, deadline=None)
@given(sizes=st.lists(SINGLES, min_size=1, max_size=300), scaling=st.sampled_from(["standard", "minmax"]))
def test_the_compiled_loop_is_the_formula(sizes: list[float], scaling: Scaling) -> None:
    """Every bit is that of (t(v) - centre) / scale, wherever in a batch a value stands."""
    normaliser = _fitted(scaling=scaling)
    n = len(sizes)
    rows = _batch(size=sizes, place=[1] * n, rate=[0.3] * n, still=[5.0] * n, flag=[0.0] * n)
    stats = normaliser.stats[0]
    assert isinstance(stats, NumberStats)
    values = np.array([math.copysign(math.log1p(abs(v)), v) for v in rows.column("size").to_pylist()])

    expected = np.clip((values - stats.centre) / stats.scale, -LIMITS[scaling], LIMITS[scaling])

    np.testing.assert_array_equal(normaliser.matrix(rows)[:, 0], expected)
