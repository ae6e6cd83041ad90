"""What stops a region, what warns, and in which words."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from finetune_assets.dataset.splits import Leak
from finetune_assets.pipeline import checks
from finetune_assets.task import BinaryAnswer
from finetune_assets.training_file.validation import validate

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")


def clean(train: int, validation: int = 2, calibration: int = 2, test: int = 2) -> pd.DataFrame:
    """Clean examples with so many in each split, the answers taking turns."""
    counts = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    rows = [(split, ("Yes", "No")[number % 2]) for split, n in counts.items() for number in range(n)]
    return pd.DataFrame(rows, columns=["split", "answer"])


@pytest.mark.parametrize(("frame", "passed"), [(clean(10), True), (clean(9), False), (clean(10, test=0), False)])
def test_ten_training_examples_and_one_in_every_other_split_are_enough(frame: pd.DataFrame, passed: bool) -> None:
    assert checks.enough_examples("mono", frame).passed is passed


def test_too_few_examples_are_counted() -> None:
    said = checks.enough_examples("mono", clean(5, validation=0)).description
    assert said == (
        "Region mono has 5 for train, 0 for validation, 2 for calibration, 2 for test; at least 10 for train and 1 for "
        "every other split are needed; add labelled examples, or sample a larger share of them."
    )


def test_a_split_with_one_answer_is_named() -> None:
    result = checks.both_answers("mono", clean(10, calibration=1), ANSWER)
    assert (result.passed, result.description) == (False, "Region mono: calibration has no 'No'.")


def test_validation_may_have_one_answer() -> None:
    assert checks.both_answers("mono", clean(10, validation=1), ANSWER).passed


def test_the_first_leak_is_named() -> None:
    leak = Leak("image_sha256", "abc", ("test", "train"))
    result = checks.no_leakage("mono", [leak])
    assert not result.passed and "abc" in (result.description or "")
    assert checks.no_leakage("mono", []).passed


@pytest.mark.parametrize(("n_quarantined", "passed"), [(0, True), (25, True), (26, False)])
def test_a_quarter_in_quarantine_is_the_most_that_passes(n_quarantined: int, passed: bool) -> None:
    assert checks.little_quarantine("mono", n_quarantined, 100).passed is passed


def test_nothing_sampled_is_nothing_set_aside() -> None:
    assert checks.little_quarantine("mono", 0, 0).passed


def test_a_format_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": []}\n' * 12)
    result = checks.valid_format("mono", validate(path))
    assert not result.passed
    assert f"{path} line 1" in (result.description or "")


@pytest.mark.parametrize(
    ("cost", "budget", "passed", "severity"),
    [
        (4.99, 5.0, True, dg.AssetCheckSeverity.ERROR),
        (5.01, 5.0, False, dg.AssetCheckSeverity.ERROR),
        (0.0, 0.0, True, dg.AssetCheckSeverity.ERROR),
        (1000.0, None, True, dg.AssetCheckSeverity.ERROR),
        (None, 5.0, False, dg.AssetCheckSeverity.WARN),
        (None, None, True, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_a_budget_is_kept(
    cost: float | None, budget: float | None, passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    result = checks.within_budget("mono", cost, budget)
    assert (result.passed, result.severity) == (passed, severity)


@pytest.mark.parametrize(("outcome", "passed"), [("better", True), ("inconclusive", False), ("worse", False)])
def test_only_a_significant_gain_passes(outcome: checks.Outcome, passed: bool) -> None:
    result = checks.better_than_base("mono", outcome, "verdict")
    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)


def predictions(calibration: list[str], test: list[str], p_positive: float | None = 0.5) -> pd.DataFrame:
    """Scores of the fine-tuned model for these truths."""
    rows = [("calibration", truth) for truth in calibration] + [("test", truth) for truth in test]
    frame = pd.DataFrame(rows, columns=["split", "truth"])
    return frame.assign(role="fine_tuned", group="g", p_positive=p_positive)


def test_scores_of_both_answers_in_both_splits_are_enough() -> None:
    assert checks.enough_scores("mono", predictions(["Yes", "No"], ["Yes", "No"]), ANSWER).passed


@pytest.mark.parametrize(
    "frame",
    [predictions(["Yes", "Yes"], ["Yes", "No"]), predictions(["Yes", "No"], ["Yes", "No"], p_positive=float("nan"))],
)
def test_too_few_scores_stop_before_the_calibrator(frame: pd.DataFrame) -> None:
    result = checks.enough_scores("mono", frame, ANSWER)
    assert not result.passed and "give no scores" in (result.description or "")
