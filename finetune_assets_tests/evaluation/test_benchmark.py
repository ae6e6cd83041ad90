"""The comparison of two models, from the table of predictions to the report."""

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.benchmark import compare
from finetune_assets.evaluation.scoring import binary_metrics
from finetune_assets.evaluation.statistics import accuracy_interval, mcnemar, paired_bootstrap
from finetune_assets.task import BinaryAnswer

from .predictions import predictions


def correct(frame: pd.DataFrame, role: str) -> np.ndarray:
    rows = frame[frame["role"] == role]
    return (rows["truth"] == rows["predicted"]).to_numpy()


def changed(frame: pd.DataFrame, row: int, **columns: Any) -> pd.DataFrame:
    """The frame with some cells of one row replaced."""
    frame = frame.astype(dict.fromkeys(columns, object))
    for column, value in columns.items():
        frame.at[row, column] = value
    return frame


def test_difference_interval_and_p_are_those_of_the_paired_answers() -> None:
    frame = predictions()
    report = compare(frame)
    base, tuned = correct(frame, "base"), correct(frame, "fine_tuned")
    expected, difference = paired_bootstrap(base, tuned), report.difference
    assert difference.estimate == pytest.approx(tuned.mean() - base.mean())
    assert (difference.low, difference.high) == pytest.approx((expected.low, expected.high))
    assert report.p_value == mcnemar(base, tuned)
    assert report.comparisons["accuracy"].base == accuracy_interval(base)
    assert (report.n_fixed, report.n_broken) == (np.sum(tuned & ~base), np.sum(base & ~tuned))


def test_each_model_has_the_metrics_of_its_own_answers() -> None:
    frame = predictions()
    report = compare(frame)
    rows = frame[frame["role"] == "fine_tuned"]
    expected = binary_metrics(rows["truth"].tolist(), rows["p_positive"].tolist(), rows["predicted"].tolist())
    assert report.fine_tuned.metrics == expected
    assert report.fine_tuned.model == "fine_tuned-model"
    assert report.fine_tuned.median_latency_s == pytest.approx(np.median(rows["latency_s"].tolist()))
    for name, row in report.comparisons.items():
        assert row.fine_tuned.estimate == pytest.approx(getattr(expected, name))
        assert row.fine_tuned.low <= row.fine_tuned.estimate <= row.fine_tuned.high


@pytest.mark.parametrize(
    ("base", "fine_tuned", "outcome", "words"),
    [
        (0.55, 0.9, "better", "The fine-tuned model is better: +"),
        (0.9, 0.55, "worse", "The fine-tuned model is worse: -"),
        (0.7, 0.7, "inconclusive", "No significant gain or loss"),
    ],
)
def test_the_verdict_follows_the_numbers(base: float, fine_tuned: float, outcome: str, words: str) -> None:
    report = compare(predictions(base=base, fine_tuned=fine_tuned))
    assert report.outcome == outcome
    assert report.verdict.startswith(words)


def test_a_gain_over_a_poor_base_model_is_held_against_the_majority() -> None:
    frame = predictions(base=0.2, fine_tuned=0.55)
    report = compare(frame)
    shares = frame["truth"].value_counts(normalize=True)
    assert report.outcome == "better"
    assert (report.majority_answer, report.majority_accuracy) == ("No", pytest.approx(shares["No"]))
    assert report.over_majority.estimate == pytest.approx(report.fine_tuned.metrics.accuracy - shares["No"])
    assert report.over_majority.low < 0


def test_only_the_test_split_is_judged() -> None:
    frame = predictions()
    other = predictions(base=0.9, fine_tuned=0.1, seed=9).assign(split="calibration")
    other["example_id"] = "other" + other["example_id"]
    assert compare(pd.concat([frame, other])) == compare(frame)


def test_row_order_and_parquet_change_nothing() -> None:
    frame = changed(predictions(), 150, predicted=None, p_positive=None).astype({"p_positive": float})
    stored = io.BytesIO()
    frame.sample(frac=1, random_state=1).to_parquet(stored)
    assert compare(pd.read_parquet(stored)) == compare(frame)


def test_an_unparseable_answer_is_wrong() -> None:
    frame = predictions(fine_tuned=1.0)
    report = compare(changed(frame, 125, predicted=None, text="The cell"))
    assert report.fine_tuned.metrics.n_unparseable == 1
    assert report.fine_tuned.metrics.accuracy == pytest.approx(119 / 120)
    assert [(example.example_id, example.text, example.predicted) for example in report.worst] == [
        ("cell0005", "The cell", None)
    ]


def test_a_failed_request_leaves_the_example_out_for_both_models() -> None:
    frame = predictions()
    report = compare(changed(frame, 125, error="timed out", predicted=None))
    assert (report.n, report.n_unanswered) == (119, 1)
    assert dataclasses.replace(report, n_unanswered=0) == compare(frame.drop(index=[5, 125]))


def test_models_are_ranked_on_the_same_examples() -> None:
    report = compare(changed(predictions(), 3, p_positive=None))
    assert report.base.metrics.n_ranked == report.fine_tuned.metrics.n_ranked == 119


def test_without_log_probabilities_the_answers_are_still_compared() -> None:
    report = compare(predictions().assign(p_positive=None))
    assert list(report.comparisons) == ["accuracy", "balanced_accuracy", "f1", "mcc"]
    assert all(example.p_truth is None for example in report.worst)


def test_examples_of_one_group_count_as_one_draw() -> None:
    frame = predictions()
    copies = [frame.assign(example_id=frame["example_id"] + f"-{k}") for k in range(4)]
    alone, grouped = compare(frame).difference, compare(pd.concat(copies)).difference
    assert (grouped.low, grouped.high) == pytest.approx((alone.low, alone.high), abs=1e-9)


def test_the_worst_examples_are_the_surest_mistakes() -> None:
    report = compare(predictions(fine_tuned=0.6))
    p_truth = [example.p_truth for example in report.worst if example.p_truth is not None]
    assert len(p_truth) == len(report.worst) == 12
    assert p_truth == sorted(p_truth)
    assert max(p_truth) < 0.5
    assert all(example.predicted != example.truth for example in report.worst)


def test_other_words_than_yes_and_no_come_from_the_task() -> None:
    frame = predictions().replace({"Yes": "Defective", "No": "Intact"})
    report = compare(frame, BinaryAnswer(kind="binary", positive="Defective", negative="Intact"))
    assert report.difference == compare(predictions()).difference
    with pytest.raises(EvaluationError, match="found \\['Defective', 'Intact'\\]"):
        compare(frame)


def test_the_report_is_json() -> None:
    report = compare(predictions())
    data = json.loads(json.dumps(report.to_dict()))
    assert data["comparisons"]["accuracy"]["difference"]["low"] == report.difference.low
    assert data["base"]["metrics"]["confusion"]["labels"] == ["Yes", "No"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: f.drop(columns=["latency_s", "error"]), r"lack the columns \['latency_s', 'error'\]"),
        (lambda f: f.drop(index=125), "1 test examples were asked of one model only, such as 'cell0005'"),
        (lambda f: pd.concat([f, f.head(1)]), "asked once of each role"),
        (lambda f: changed(f, 0, truth="Yes" if f["truth"][0] == "No" else "No"), "'cell0000' differs"),
        (lambda f: f.assign(error="no answer"), "got 0 of 120: enlarge the test split"),
        (lambda f: f[f["example_id"] == "cell0000"], "got 1 of 1"),
        (lambda f: f.assign(split="calibration"), "got 0 of 0"),
    ],
)
def test_predictions_that_cannot_be_compared_are_refused(spoil: Any, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        compare(spoil(predictions()))
