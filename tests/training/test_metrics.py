"""Metrics: equal to scikit-learn's where it has them, refused where rows do not suffice."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_curve, roc_curve

from training import metrics
from training.errors import TrainingError
from training.metrics import NORMAL

FEW_SCORES = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=60).filter(
    lambda rows: len({attack for attack, _ in rows}) == 2
)


def columns(rows: list[tuple[bool, int]]) -> tuple[metrics.Mask, metrics.Floats]:
    attack = np.array([attack for attack, _ in rows])
    return attack, np.array([score for _, score in rows], dtype=np.float64)


def draw(n_normal: int, n_attack: int, shift: float = 2.0) -> tuple[metrics.Mask, metrics.Floats]:
    rng = np.random.default_rng(0)
    attack = np.repeat([False, True], [n_normal, n_attack])
    return attack, np.concatenate([rng.normal(size=n_normal), rng.normal(shift, 1, n_attack)])


@settings(max_examples=50)
@given(FEW_SCORES)
def test_roc_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, int]]) -> None:
    """Every attack is compared with every normal row; ties count half."""
    attack, scores = columns(rows)
    pairs = np.sign(scores[attack][:, None] - scores[~attack][None, :])

    assert metrics.roc_auc(attack, scores) == pytest.approx(float(((pairs + 1) / 2).mean()))


@settings(max_examples=50)
@given(FEW_SCORES)
def test_average_precision_takes_ties_together_and_never_the_trapezoid(rows: list[tuple[bool, int]]) -> None:
    """Equal scores are one step of the curve, in whatever order the rows stand."""
    attack, scores = columns(rows)
    precision, recall, _ = precision_recall_curve(attack, scores)
    steps = -np.sum(np.diff(recall) * precision[:-1])

    assert metrics.average_precision(attack, scores) == pytest.approx(float(steps))
    assert metrics.average_precision(attack[::-1], scores[::-1]) == pytest.approx(float(steps))


def test_average_precision_of_constant_scores_is_the_prevalence() -> None:
    """Scores that say nothing get the random level, at any stated prevalence."""
    attack = np.arange(100) < 25

    assert metrics.average_precision(attack, np.zeros(100)) == pytest.approx(0.25)
    assert metrics.average_precision(attack, np.zeros(100), prevalence=0.01) == pytest.approx(0.01)


def test_average_precision_at_a_common_prevalence_does_not_depend_on_the_share_of_attacks() -> None:
    """The same rows with every attack doubled give the same figure."""
    attack, scores = draw(2000, 300)
    more_attack = np.concatenate([attack, attack[attack]])
    more_scores = np.concatenate([scores, scores[attack]])

    expected = metrics.average_precision(attack, scores, prevalence=0.01)
    assert metrics.average_precision(more_attack, more_scores, prevalence=0.01) == pytest.approx(expected)


@settings(max_examples=50)
@given(FEW_SCORES, st.sampled_from([0.05, 0.2, 0.5]))
def test_recall_at_fpr_is_the_best_point_of_the_roc_curve_within_the_limit(
    rows: list[tuple[bool, int]], fpr: float
) -> None:
    """With enough normal rows the figure equals scikit-learn's curve, ties included."""
    attack, scores = columns(rows * 200)
    false_positive, true_positive, _ = roc_curve(attack, scores, drop_intermediate=False)
    expected = true_positive[false_positive <= fpr + 1e-12].max()

    assert metrics.recall_at_fpr(attack, scores, fpr).recall == pytest.approx(float(expected))


def test_recall_at_fpr_is_refused_where_it_would_be_chance() -> None:
    """Nine false positives at the limit give no figure but the number of rows that would."""
    attack, scores = draw(9_999, 100)

    few = metrics.recall_at_fpr(attack, scores, 1e-3)
    enough = metrics.recall_at_fpr(*draw(10_000, 100), 1e-3)

    assert few.recall is None
    assert few.note == "9999 normal rows, 10000 needed"
    assert enough.recall is not None


def test_honest_p_values_have_a_ratio_of_one_inside_the_interval() -> None:
    """Uniform p-values give as many alarms as stated; p-values half as large give twice as many."""
    p_values = np.random.default_rng(1).uniform(size=50_000)

    honest = metrics.false_alarms(p_values, 0.01)
    loud = metrics.false_alarms(p_values / 2, 0.01)

    assert honest.low <= 0.01 <= honest.high
    assert honest.ratio == pytest.approx(1, abs=0.1)
    assert loud.low > 0.01
    assert loud.ratio == pytest.approx(2, abs=0.2)


def test_no_alarm_still_has_an_upper_bound() -> None:
    """Silence on 100 rows does not prove a rate of zero: the bound is the rule of three."""
    silent = metrics.false_alarms(np.ones(100), 1e-3)

    assert (silent.n_flagged, silent.low) == (0, 0.0)
    assert silent.high == pytest.approx(1 - 0.025 ** (1 / 100))


def test_recall_by_kind_counts_each_kind_alone() -> None:
    """Kinds are counted apart; normal rows are no kind; p = alpha is an alarm."""
    kinds = np.array([NORMAL, "scan", "scan", "flood", NORMAL], dtype=object)
    p_values = np.array([1e-9, 0.01, 0.5, 0.001, 1.0])

    found = {
        row.kind: (row.n, row.found, row.recall) for row in metrics.recall_by_kind(kinds, p_values, 0.01)
    }

    assert found == {"flood": (1, 1, 1.0), "scan": (2, 1, 0.5)}


def test_trivial_f1_is_that_of_flagging_everything() -> None:
    """Precision p and recall 1."""
    attack = np.arange(10) < 3

    assert metrics.trivial_f1(attack) == pytest.approx(2 * 0.3 * 1 / 1.3)


def test_figures_are_json_and_honest_about_what_they_lack() -> None:
    """One class only gives no ROC-AUC; everything survives JSON."""
    kinds = np.array([NORMAL] * 50, dtype=object)
    one_class = metrics.figures(kinds, np.arange(50.0), np.linspace(0.02, 1, 50))
    attack, scores = draw(1000, 50)
    both = metrics.figures(np.where(attack, "scan", NORMAL).astype(object), scores, np.full(1050, 0.5))

    assert one_class.roc_auc is None
    assert one_class.prevalence == 0
    assert both.roc_auc == metrics.roc_auc(attack, scores)
    assert [row.recall is None for row in both.recall_at_fpr] == [False, True, True]
    assert json.loads(json.dumps(both.to_json()))["n_attacks"] == 50


@pytest.mark.parametrize(
    ("attack", "scores", "message"),
    [
        ([True, False], [1.0], "expected one for each row"),
        ([True, True], [1.0, 2.0], "attacks only"),
        ([False, False], [1.0, 2.0], "no attack"),
        ([True, False], [np.nan, 2.0], "NaN or infinity"),
    ],
)
def test_senseless_input_is_refused(attack: list[bool], scores: list[float], message: str) -> None:
    """A figure is never made of rows that cannot carry it."""
    with pytest.raises(TrainingError, match=message):
        metrics.roc_auc(np.array(attack), np.array(scores))
