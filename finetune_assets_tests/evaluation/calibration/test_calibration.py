"""Calibrators by kind of answer, and reports whose words follow the numbers."""

import dataclasses
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from scipy.special import expit, logit

from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation.calibration import Evidence, evidence, fit, judge, load
from finetune_assets.evaluation.calibration.choice import choose
from finetune_assets.evaluation.calibration.conformal import ConformalCalibrator, CoverageReport
from finetune_assets.evaluation.calibration.platt import PlattCalibrator
from finetune_assets.evaluation.calibration.reliability import log_losses
from finetune_assets.evaluation.calibration.report import judge_probabilities
from finetune_assets.evaluation.calibration.score_calibrator import ScoreCalibrator
from finetune_assets.evaluation.sample_size import needed_examples
from finetune_assets.evaluation.statistics import p_words, paired_permutation
from finetune_assets.task.answers import Answer, BinaryAnswer, ChoiceAnswer, NumberAnswer, TextAnswer
from finetune_assets_tests.evaluation.calibration.test_platt import oversure
from finetune_assets_tests.evaluation.predictions import choices, numbers, predictions, texts

YES_NO = BinaryAnswer(kind="binary")
CHOICE = ChoiceAnswer(kind="choice", options=["a", "b", "c"])
NUMBER = NumberAnswer(kind="number", template="${}", minimum=0)
TEXT = TextAnswer(kind="text")
TABLES: list[tuple[Answer, pd.DataFrame]] = [
    (YES_NO, predictions()),
    (CHOICE, choices(CHOICE.options)),
    (NUMBER, numbers()),
    (TEXT, texts()),
]
kinds = pytest.mark.parametrize(("answer", "table"), TABLES, ids=[answer.kind for answer, _ in TABLES])


def both_splits(table: pd.DataFrame) -> pd.DataFrame:
    """The fine-tuned model's answers to the examples again, as its calibration split."""
    again = table[table["role"] == "fine_tuned"].assign(split="calibration")
    return pd.concat([table, again], ignore_index=True)


@kinds
def test_every_kind_has_a_calibrator_that_survives_json_and_refuses_another_model(
    answer: Answer, table: pd.DataFrame
) -> None:
    calibration, test = (evidence(both_splits(table), split, answer) for split in ("calibration", "test"))
    calibrator = fit(calibration, answer, "ft:a")
    stored = json.loads(json.dumps(calibrator.to_dict()))
    assert (stored["kind"], stored["model"], stored["n"]) == (answer.kind, "ft:a", len(calibration))
    assert len(stored["fingerprint"]) == 64
    assert load(stored) == calibrator
    report = judge(calibrator, test, "ft:a")
    assert report.n == len(test)
    assert json.loads(json.dumps(report.to_dict()))["verdict"] == report.verdict
    with pytest.raises(EvaluationError, match="fitted on answers of 'ft:a' and says nothing about those of 'ft:b'"):
        judge(calibrator, test, "ft:b")


def test_evidence_of_a_binary_answer_is_the_positive_probability_and_whether_it_is_true() -> None:
    table = predictions()
    tuned = table[table["role"] == "fine_tuned"]
    found = evidence(table, "test", YES_NO)
    assert found.score.tolist() == tuned["p_positive"].tolist()
    assert found.truth.tolist() == (tuned["truth"] == "Yes").astype(float).tolist()


def test_evidence_of_a_choice_is_the_probability_of_the_option_given_and_whether_it_is_right() -> None:
    table = choices(CHOICE.options)
    table.loc[table["predicted"].isna(), "p_predicted"] = np.nan
    given = table[(table["role"] == "fine_tuned") & table["predicted"].notna()]
    found = evidence(table, "test", CHOICE)
    assert found.score.tolist() == given["p_predicted"].tolist()
    assert found.truth.tolist() == (given["truth"] == given["predicted"]).astype(float).tolist()


def test_evidence_of_a_text_is_its_probability_and_whether_it_holds_the_answer() -> None:
    table = texts()
    tuned = table[table["role"] == "fine_tuned"]
    found = evidence(table, "test", TEXT)
    assert found.score.tolist() == tuned["p_predicted"].tolist()
    assert found.truth.tolist() == [float(text.startswith("word")) for text in tuned["text"]]


@pytest.mark.parametrize("missing", [{"predicted_value": np.nan}, {"error": "timed out"}])
def test_answers_without_a_score_are_left_out(missing: dict[str, Any]) -> None:
    table = numbers().astype({"error": object})
    table.loc[150, list(missing)] = list(missing.values())
    assert len(evidence(table, "test", NUMBER)) == 149
    assert len(evidence(table, "calibration", NUMBER)) == 0


def test_a_text_model_that_is_surer_where_it_is_right_is_calibrated_to_its_share_of_right_answers() -> None:
    table = both_splits(texts(n=400))
    found = fit(evidence(table, "calibration", TEXT), TEXT, "ft:a")
    test = evidence(table, "test", TEXT)
    assert isinstance(found, ScoreCalibrator) and found.warning is None
    assert found.apply(test.score).mean() == pytest.approx(test.truth.mean(), abs=0.01)


def test_numbers_get_intervals_that_hold_what_they_say() -> None:
    table = both_splits(numbers(n=400))
    found = fit(evidence(table, "calibration", NUMBER), NUMBER, "ft:a")
    report = judge(found, evidence(table, "test", NUMBER), "ft:a")
    assert isinstance(found, ConformalCalibrator) and isinstance(report, CoverageReport)
    assert report.coverage.estimate == pytest.approx(0.9, abs=0.03)
    assert report.outcome == "inconclusive"


def test_nothing_to_calibrate_is_refused() -> None:
    nothing = Evidence(np.array([]), np.array([]), np.array([]))
    for answer in (YES_NO, NUMBER):
        with pytest.raises(EvaluationError):
            fit(nothing, answer, "ft:a")


@pytest.mark.parametrize("data", [{}, {"method": "isotonic"}, {"method": "conformal", "reach": 1}])
def test_json_of_something_else_is_no_calibrator(data: dict[str, Any]) -> None:
    with pytest.raises(EvaluationError, match="materialise the calibrator again"):
        load(data)


def test_a_report_gives_scikit_learns_numbers_before_and_after() -> None:
    p, y = oversure(9, 300)
    after = PlattCalibrator.fit(*oversure(10, 300), model="ft:m").apply(p)
    report = judge_probabilities(p, after, y)
    assert report.before.brier == pytest.approx(sklearn.metrics.brier_score_loss(y, p))
    assert report.after.log_loss == pytest.approx(sklearn.metrics.log_loss(y, after))
    assert report.brier_difference.estimate == pytest.approx(report.after.brier - report.before.brier)
    assert report.log_loss_difference.estimate == pytest.approx(report.after.log_loss - report.before.log_loss)
    assert json.loads(json.dumps(report.to_dict()))["before"]["ece"]["estimate"] == report.before.ece.estimate


def test_calibration_of_an_oversure_model_is_called_better() -> None:
    p, y = oversure(11, 1000)
    report = judge_probabilities(p, PlattCalibrator.fit(*oversure(12, 500), model="ft:m").apply(p), y)
    assert report.outcome == "better"
    assert report.after.ece.estimate < report.before.ece.estimate
    assert report.verdict.startswith("Calibration lowered the Brier score significantly: -0.0")


def test_spoiled_probabilities_are_called_worse() -> None:
    p, y = oversure(13, 500)
    report = judge_probabilities(expit(logit(p) / 2.5), p, y)
    assert report.outcome == "worse"
    assert report.verdict.startswith("Calibration raised the Brier score significantly: +0.0")


def test_unchanged_probabilities_are_called_unchanged() -> None:
    p, y = oversure(14, 100)
    report = judge_probabilities(p, p, y)
    assert report.outcome == "inconclusive"
    assert report.verdict.startswith(
        "Calibration did not change the Brier score significantly: 0.0000 (95 % interval 0.0000 to 0.0000). "
        "Calibration did not change the log loss significantly: 0.0000 (95 % interval 0.0000 to 0.0000, p = 1). "
        "Before, the probabilities were "
    )
    assert "would be needed" not in report.verdict


def test_a_lower_log_loss_has_the_p_of_its_paired_test() -> None:
    p, y = oversure(16, 400)
    after = expit(logit(p) / 2.5)
    groups = np.repeat(np.arange(200), 2)
    report = judge_probabilities(p, after, y, groups)
    assert report.log_loss_p == paired_permutation(log_losses(p, y), log_losses(after, y), groups) < 0.05
    assert report.why_not is None
    assert "Calibration lowered the log loss significantly: -0." in report.verdict
    assert f"{p_words(report.log_loss_p)}). Before, the probabilities were too sure" in report.verdict


def flat(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that mean what they say, and labels."""
    rng = np.random.default_rng(seed)
    p = rng.random(n)
    return p, (rng.random(n) < p).astype(float)


def shaken(p: np.ndarray, by: float) -> np.ndarray:
    """Every other probability surer, the others less sure."""
    return expit(logit(p) * np.where(np.arange(len(p)) % 2, 1 + by, 1 - by))


SURE = np.repeat([0.002, 0.998], 100)
OFF, OFF_LABELS = np.repeat([0.1, 0.9], 60), np.tile([0.0, 1.0], 60)
FAIR, FAIR_LABELS = flat(18, 80)


@pytest.mark.parametrize(
    ("before", "after", "y", "words"),
    [
        (SURE, shaken(SURE, 0.01), SURE > 0.5, "There was nothing to gain"),
        (FAIR, shaken(FAIR, 0.1), FAIR_LABELS, "are not shown to be off"),
        (OFF, shaken(OFF, 0.1), OFF_LABELS, "were off, they had a calibration error"),
        (FAIR, np.full(80, 0.5), FAIR_LABELS, "do not tell the answers apart"),
        (FAIR, expit(5 * logit(FAIR)), FAIR_LABELS, "What holds on the calibration split"),
    ],
    ids=["calibrated already", "too few to tell", "no gain", "constant", "other data"],
)
def test_a_log_loss_that_is_not_lower_has_a_reason(
    before: np.ndarray, after: np.ndarray, y: np.ndarray, words: str
) -> None:
    report = judge_probabilities(before, after, y)
    assert words in (report.why_not or "")
    assert report.verdict.endswith(report.why_not or "nothing")


def test_a_gain_that_is_not_shown_comes_with_the_number_of_examples_that_would() -> None:
    p, y = oversure(22, 25)
    after = expit(0.9 * logit(p))
    report = judge_probabilities(p, after, y)
    assert report.log_loss_p > 0.05 and report.log_loss_difference.estimate < 0
    needed = needed_examples(log_losses(p, y), log_losses(after, y), np.arange(25))
    assert f"About {needed:,} test examples would be needed to show a gain of this size" in report.verdict


def test_the_choice_of_a_calibrator_is_made_by_whole_groups() -> None:
    p, y = oversure(23, 100)
    groups = np.repeat(np.arange(50), 2)
    found = fit(Evidence(p, y.astype(float), groups.astype(object)), YES_NO, "ft:a")
    assert found == choose(p, y, groups, model="ft:a")


def test_groups_widen_the_report() -> None:
    p, y = (np.repeat(values, 4) for values in oversure(15, 100))
    after = expit(logit(p) / 2.5)
    grouped, alone = (
        judge_probabilities(p, after, y, groups=np.repeat(np.arange(100), 4)),
        judge_probabilities(p, after, y),
    )
    assert grouped.brier_difference.low < alone.brier_difference.low
    assert dataclasses.replace(grouped.brier_difference, low=0, high=0) == dataclasses.replace(
        alone.brier_difference, low=0, high=0
    )
