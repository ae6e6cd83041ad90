"""Metrics by hand, against scikit-learn on arbitrary answers, and consistent under weights."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.scoring import METRICS, YES_NO, binary_metrics, scored

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


def test_metrics_by_hand() -> None:
    # 3 true positives, 1 false negative; 4 true negatives, 2 false positives
    truth = ["Yes"] * 4 + ["No"] * 6
    predicted = ["Yes", "Yes", "Yes", "No", "No", "No", "No", "No", "Yes", "Yes"]
    p = [0.9, 0.8, 0.6, 0.4, 0.3, 0.2, 0.2, 0.1, 0.7, 0.6]
    metrics = binary_metrics(truth, p, predicted)
    assert metrics.accuracy == pytest.approx(7 / 10)
    assert metrics.balanced_accuracy == pytest.approx((3 / 4 + 4 / 6) / 2)
    assert metrics.f1 == pytest.approx(6 / 9)
    assert metrics.mcc == pytest.approx((3 * 4 - 2 * 1) / np.sqrt(5 * 4 * 6 * 5))
    # pairs won by each positive: 6, 6, 4 and a tie, 4
    assert metrics.roc_auc == pytest.approx((6 + 6 + 4.5 + 4) / 24)
    assert metrics.confusion.labels == ("Yes", "No")
    assert metrics.confusion.counts == ((3, 1, 0), (2, 4, 0))


@given(answers)
@settings(deadline=None)
def test_metrics_equal_scikit_learns_with_unparseable_answers_wrong(rows: list[Answer]) -> None:
    truth, p, predicted = zip(*rows, strict=True)
    metrics = binary_metrics(truth, p, predicted)
    positive = [word == "Yes" for word in truth]
    given_or_wrong = [not t if word is None else word == "Yes" for t, word in zip(positive, predicted, strict=True)]
    assert metrics.accuracy == pytest.approx(sklearn.metrics.accuracy_score(positive, given_or_wrong))
    assert metrics.balanced_accuracy == pytest.approx(sklearn.metrics.balanced_accuracy_score(positive, given_or_wrong))
    assert metrics.f1 == pytest.approx(sklearn.metrics.f1_score(positive, given_or_wrong))
    assert metrics.mcc == pytest.approx(sklearn.metrics.matthews_corrcoef(positive, given_or_wrong))
    assert metrics.roc_auc == pytest.approx(sklearn.metrics.roc_auc_score(positive, p))
    assert metrics.pr_auc == pytest.approx(sklearn.metrics.average_precision_score(positive, p))
    assert metrics.n_unparseable == predicted.count(None) == sum(row[2] for row in metrics.confusion.counts)


@given(answers, st.data())
@settings(deadline=None)
def test_a_weight_is_a_number_of_copies(rows: list[Answer], data: st.DataObject) -> None:
    copies = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    repeated = [row for row, times in zip(rows, copies, strict=True) for _ in range(times)]
    if not repeated:
        return
    weighted, plain = (scored(*map(list, zip(*some, strict=True)), answer=YES_NO) for some in (rows, repeated))
    for metric in METRICS.values():
        value = metric(weighted, np.array([copies], dtype=float))[0]
        expected = metric(plain, np.ones((1, len(repeated))))[0]
        assert value == pytest.approx(expected, nan_ok=True)


def test_roc_auc_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(1)
    positive, p = rng.random(80) < 0.4, rng.random(80).round(1)
    truth = ["Yes" if yes else "No" for yes in positive]
    statistic = scipy.stats.mannwhitneyu(p[positive], p[~positive]).statistic
    assert binary_metrics(truth, p.tolist(), truth).roc_auc == pytest.approx(
        statistic / positive.sum() / (~positive).sum()
    )


def test_examples_without_probability_are_not_ranked_but_counted() -> None:
    metrics = binary_metrics(["Yes", "No", "No"], [0.9, None, 0.2], ["Yes", "No", "Yes"])
    assert (metrics.n, metrics.n_ranked, metrics.roc_auc) == (3, 2, 1)
    assert metrics.accuracy == pytest.approx(2 / 3)


def test_without_any_probability_there_is_no_ranking() -> None:
    metrics = binary_metrics(["Yes", "No"], [None, None], ["Yes", "No"])
    assert (metrics.accuracy, metrics.roc_auc, metrics.pr_auc) == (1, None, None)


def test_one_true_class_leaves_only_what_is_defined() -> None:
    metrics = binary_metrics(["No", "No"], [0.1, 0.6], ["No", "Yes"])
    assert (metrics.accuracy, metrics.f1) == (0.5, 0)
    assert (metrics.balanced_accuracy, metrics.mcc, metrics.roc_auc, metrics.pr_auc) == (None, None, None, None)


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (["Yes", "Maybe"], ["Yes", "No"], r"must be \['No', 'Yes'\], found \['Maybe'\]"),
        (["Yes", "No"], ["Yes", "no"], r"found \['no'\]"),
        (["Yes"], ["Yes", "No"], "got 1, 2 and 2"),
    ],
)
def test_words_that_are_not_the_tasks_are_refused(truth: list[str], predicted: list[str], message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        binary_metrics(truth, [0.5, 0.5], predicted)


def test_nothing_to_score_is_refused() -> None:
    with pytest.raises(EvaluationError, match="not be empty"):
        binary_metrics([], [], [])
