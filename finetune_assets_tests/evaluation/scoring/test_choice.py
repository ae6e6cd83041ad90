"""Metrics of choices, by hand and against scikit-learn."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.scoring.choice import METRICS, ChoiceScoring
from finetune_assets.task.answers import ChoiceAnswer
from finetune_assets_tests.evaluation.predictions import prediction

OPTIONS = ["a", "b", "c", "d"]
SCORING = ChoiceScoring(ChoiceAnswer(kind="choice", options=OPTIONS))
answers = st.lists(st.tuples(st.sampled_from(OPTIONS[:3]), st.sampled_from([*OPTIONS, None])), min_size=2, max_size=40)


def metrics(rows: list[tuple[str, str | None]], weights: list[int] | None = None) -> dict[str, float]:
    scored = SCORING.score([prediction(true, given) for true, given in rows])
    drawn = np.array([weights or [1] * len(rows)], dtype=float)
    return {name: metric.resampled(scored, drawn)[0] for name, metric in METRICS.items()}


def test_metrics_by_hand() -> None:
    # a: 2 of 3 found, 1 false; b: 1 of 2 found, 1 false; c: not found once, unreadable
    rows = [("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"), ("b", "a"), ("c", None)]
    found = metrics(rows)
    assert found["accuracy"] == pytest.approx(3 / 6)
    assert found["macro_f1"] == pytest.approx((4 / 6 + 2 / 4 + 0) / 3)
    assert found["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)


@given(answers)
@settings(deadline=None)
def test_metrics_equal_scikit_learns(rows: list[tuple[str, str | None]]) -> None:
    truth, predicted = [true for true, _ in rows], [given or "unreadable" for _, given in rows]
    found, occur = metrics(rows), sorted((set(truth) | set(predicted)) - {"unreadable"})
    assert found["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    assert found["macro_f1"] == pytest.approx(
        sklearn.metrics.f1_score(truth, predicted, labels=occur, average="macro", zero_division=0)  # pyright: ignore[reportArgumentType]
    )
    assert found["balanced_accuracy"] == pytest.approx(
        sklearn.metrics.recall_score(truth, predicted, labels=sorted(set(truth)), average="macro")
    )


@given(answers, st.data())
@settings(deadline=None)
def test_a_weight_is_a_number_of_copies(rows: list[tuple[str, str | None]], data: st.DataObject) -> None:
    copies = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    repeated = [row for row, times in zip(rows, copies, strict=True) for _ in range(times)]
    if repeated:
        assert metrics(rows, copies) == pytest.approx(metrics(repeated))


def test_the_trivial_model_gives_the_most_frequent_option() -> None:
    rows = [prediction(true, None) for true in "bcbca"]
    [constant] = SCORING.constants(rows)
    assert (constant.name, constant.answer) == ("always “b”", "b")


def test_an_option_that_the_task_does_not_have_is_refused() -> None:
    with pytest.raises(EvaluationError, match=r"found \['e'\]"):
        SCORING.score([prediction("a", "e")])
