"""Metrics of binary answers by hand, against scikit-learn on arbitrary answers, and consistent under weights."""

from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.scoring.binary import METRICS, BinaryScoring
from finetune_assets.evaluation.scoring.metric import confusion
from finetune_assets_tests.evaluation.predictions import prediction
from finetune_assets_tests.evaluation.predictions import rows as answered

Answer = tuple[str, float, str | None]
answers = st.lists(
    st.tuples(
        st.sampled_from(["Yes", "No"]),
        st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.5001, 0.9, 1.0]),
        st.sampled_from(["Yes", "No", None]),
    ),
    min_size=2,
    max_size=40,
).filter(lambda rows: len({truth for truth, _, _ in rows}) == 2)


def metrics(truth: Sequence[str], p: Sequence[float | None], predicted: Sequence[str | None]) -> dict[str, float]:
    """All metrics of these answers."""
    scored = BinaryScoring().score(answered(truth, predicted, p))
    return {name: metric.resampled(scored, np.ones((1, len(truth))))[0] for name, metric in METRICS.items()}


def test_metrics_by_hand() -> None:
    # 3 true positives, 1 false negative; 4 true negatives, 2 false positives
    truth = ["Yes"] * 4 + ["No"] * 6
    predicted = ["Yes", "Yes", "Yes", "No", "No", "No", "No", "No", "Yes", "Yes"]
    p = [0.9, 0.8, 0.6, 0.4, 0.3, 0.2, 0.2, 0.1, 0.7, 0.6]
    found = metrics(truth, p, predicted)
    assert found["accuracy"] == pytest.approx(7 / 10)
    assert found["balanced_accuracy"] == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert found["f1"] == pytest.approx(6 / 9)
    assert found["mcc"] == pytest.approx((3 * 4 - 2 * 1) / np.sqrt(5 * 4 * 6 * 5))
    # pairs won by each positive: 6, 6, 4 and a tie, 4
    assert found["roc_auc"] == pytest.approx((6 + 6 + 4.5 + 4) / 24)
    counted = confusion(answered(truth, predicted, p), ("Yes", "No"))
    assert (counted.labels, counted.counts) == (("Yes", "No"), ((3, 1, 0), (2, 4, 0)))


@given(answers)
@settings(deadline=None)
def test_metrics_equal_scikit_learns_with_unparseable_answers_wrong(rows: list[Answer]) -> None:
    truth, p, predicted = zip(*rows, strict=True)
    found = metrics(truth, p, predicted)
    positive = [word == "Yes" for word in truth]
    given_or_wrong = [not t if word is None else word == "Yes" for t, word in zip(positive, predicted, strict=True)]
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(positive, given_or_wrong))
    assert found["balanced_accuracy"] == pytest.approx(
        sklearn.metrics.balanced_accuracy_score(positive, given_or_wrong)
    )
    assert found["f1"] == pytest.approx(sklearn.metrics.f1_score(positive, given_or_wrong))
    assert found["mcc"] == pytest.approx(sklearn.metrics.matthews_corrcoef(positive, given_or_wrong))
    assert found["roc_auc"] == pytest.approx(sklearn.metrics.roc_auc_score(positive, p))
    assert found["pr_auc"] == pytest.approx(sklearn.metrics.average_precision_score(positive, p))
    counted = confusion(answered(truth, predicted, p), ("Yes", "No"))
    assert predicted.count(None) == sum(row[2] for row in counted.counts)


@given(answers, st.data())
@settings(deadline=None)
def test_a_weight_is_a_number_of_copies(rows: list[Answer], data: st.DataObject) -> None:
    copies = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    repeated = [row for row, times in zip(rows, copies, strict=True) for _ in range(times)]
    if not repeated:
        return
    weighted, plain = (
        BinaryScoring().score([prediction(truth, given, p_positive=p) for truth, p, given in some])
        for some in (rows, repeated)
    )
    for metric in METRICS.values():
        value = metric.resampled(weighted, np.array([copies], dtype=float))[0]
        expected = metric.resampled(plain, np.ones((1, len(repeated))))[0]
        assert value == pytest.approx(expected, nan_ok=True)


def test_roc_auc_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(1)
    positive, p = rng.random(80) < 0.4, rng.random(80).round(1)
    truth = ["Yes" if yes else "No" for yes in positive]
    statistic = scipy.stats.mannwhitneyu(p[positive], p[~positive]).statistic
    assert metrics(truth, p.tolist(), truth)["roc_auc"] == pytest.approx(statistic / positive.sum() / (~positive).sum())


def test_examples_without_probability_are_not_ranked_but_counted() -> None:
    found = metrics(["Yes", "No", "No"], [0.9, None, 0.2], ["Yes", "No", "Yes"])
    assert (found["roc_auc"], found["accuracy"]) == (1, pytest.approx(2 / 3))


def test_without_any_probability_there_is_no_ranking() -> None:
    found = metrics(["Yes", "No"], [None, None], ["Yes", "No"])
    assert found["accuracy"] == 1
    assert np.isnan([found["roc_auc"], found["pr_auc"]]).all()


def test_one_true_class_leaves_only_what_is_defined() -> None:
    found = metrics(["No", "No"], [0.1, 0.6], ["No", "Yes"])
    assert (found["accuracy"], found["f1"]) == (0.5, 0)
    assert np.isnan([found[name] for name in ("balanced_accuracy", "mcc", "roc_auc", "pr_auc")]).all()


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (["Yes", "Maybe"], ["Yes", "No"], r"must be \['No', 'Yes'\], found \['Maybe'\]"),
        (["Yes", "No"], ["Yes", "no"], r"found \['no'\]"),
        ([], [], "at least 1 answer"),
    ],
)
def test_words_that_are_not_the_tasks_are_refused(truth: list[str], predicted: list[str], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        BinaryScoring().score(answered(truth, predicted, [0.5] * len(truth)))


counts = st.tuples(*[st.integers(0, 3000)] * 6).filter(lambda c: sum(c[:3]) > 0 and sum(c[3:]) > 0)


@given(counts)
@settings(max_examples=25, deadline=None)
def test_counts_of_a_published_benchmark_give_its_accuracy_and_f1(found: tuple[int, ...]) -> None:
    """As the MIRP benchmark is scored: an answer that cannot be parsed counts as the opposite of the true one.

    Wolf et al., MICCAI 2025; the rule is that of the evaluation published with it, whose tables give accuracy and F1 of
    the answer 1. The weights of six examples are the counts: true yes answered yes, no and unreadably, then true no.
    """
    cells = [("Yes", "Yes"), ("Yes", "No"), ("Yes", None), ("No", "No"), ("No", "Yes"), ("No", None)]
    scored = BinaryScoring().score([prediction(true, given) for true, given in cells])
    accuracy, f1 = (METRICS[name].resampled(scored, np.array([found], dtype=float))[0] for name in ("accuracy", "f1"))
    truth, parsed = [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, 1, 1]
    assert accuracy == pytest.approx(sklearn.metrics.accuracy_score(truth, parsed, sample_weight=found))
    assert f1 == pytest.approx(sklearn.metrics.f1_score(truth, parsed, sample_weight=found))
