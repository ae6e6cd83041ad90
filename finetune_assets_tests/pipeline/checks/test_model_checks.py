"""Checks about the model itself, asked of a real server whose `models.yaml` announces an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import numpy as np
import openai
import pandas as pd
import pytest
import yaml

from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.statistics import Outcome
from finetune_assets.pipeline.checks import model_checks
from finetune_assets.task.answers import Answer, BinaryAnswer, NumberAnswer, TextAnswer
from finetune_assets_tests.evaluation import predictions as built
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.server_process import ServerProcess

ANSWER = BinaryAnswer(kind="binary", positive="Yes", negative="No")
IN_60_DAYS = datetime.now(UTC).date() + timedelta(days=60)


@pytest.fixture(scope="module")
def leaving(server: ServerProcess) -> str:
    """A model of the server that is announced to go in 60 days."""
    names = server.home / "models.yaml"
    announced = {"leaving-text": {"model": "tiny-text", "shutdown_date": IN_60_DAYS}}
    names.write_text(names.read_text() + yaml.safe_dump(announced))
    return "leaving-text"


def test_a_model_that_goes_away_warns_with_the_days_left_and_the_way_out(client: openai.OpenAI, leaving: str) -> None:
    result = model_checks.model_stays("mono", client, make_task(), f"ft:{leaving}:org::abc", leaving)
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert f"Region mono: {leaving} ends on {IN_60_DAYS}, in 60 days" in (result.description or "")
    assert "finetune-assets migrate cells --to local" in (result.description or "")
    assert result.metadata == {"days_left": dg.IntMetadataValue(60)}


def test_training_on_a_model_that_goes_away_warns_before_it_is_paid_for(client: openai.OpenAI, leaving: str) -> None:
    result = model_checks.base_model_stays("mono", client, make_task(base_model=leaving))
    assert (result.passed, result.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "in 60 days" in (result.description or "") and "take a model or a provider" in (result.description or "")


def test_a_model_that_stays_passes(client: openai.OpenAI) -> None:
    assert model_checks.base_model_stays("mono", client, make_task(base_model="tiny-text")).passed
    assert model_checks.model_stays("mono", client, make_task(), "ft:tiny-text:org::abc", "tiny-text").passed


def test_at_openai_the_end_of_new_jobs_is_said_too(client: openai.OpenAI) -> None:
    result = model_checks.base_model_stays("mono", client, make_task(provider="openai"))
    assert "jobs at openai end" in (result.description or "") and "2027-01-14" in (result.description or "")


def judged(losses: pd.DataFrame, step: int | None = None) -> dict[str, dg.AssetCheckResult]:
    return {str(result.check_name): result for result in model_checks.training_went_well("mono", losses, step)}


def test_a_bad_training_is_explained_with_what_to_do() -> None:
    step, rising = np.arange(1, 13), np.linspace(1, 3, 12)
    losses = pd.DataFrame({"step": step, "train_loss": rising, "valid_loss": np.nan, "full_valid_loss": np.nan})
    diverged = judged(losses)
    assert "lower learning_rate_multiplier" in (diverged["training_converged"].description or "")
    assert diverged["enough_steps"].description == (
        "Region mono: 12 steps were trained; at least 20 are usual: raise n_epochs, lower batch_size or add examples."
    )
    overfits = judged(losses.assign(train_loss=rising[::-1], full_valid_loss=rising))
    assert "checkpoint_step in the run's config" in (overfits["no_overfitting"].description or "")
    failed = {name: result for name, result in (diverged | overfits).items() if not result.passed}
    assert {result.severity for result in failed.values()} == {dg.AssetCheckSeverity.WARN}


def test_an_earlier_checkpoint_is_judged_by_what_came_before_it() -> None:
    step, valley = np.arange(1, 41), np.abs(np.arange(1, 41) - 25) / 25 + 0.5
    losses = pd.DataFrame({"step": step, "train_loss": 2 - step / 25, "valid_loss": np.nan, "full_valid_loss": valley})
    assert not judged(losses)["no_overfitting"].passed
    assert judged(losses, 25)["no_overfitting"].passed
    assert "25 steps were trained" in (judged(losses, 25)["enough_steps"].description or "")


@pytest.mark.parametrize(("outcome", "passed"), [("better", True), ("inconclusive", False), ("worse", False)])
def test_only_a_significant_gain_passes(outcome: Outcome, passed: bool) -> None:
    result = model_checks.better_than_base("mono", outcome, "verdict")
    assert (result.passed, result.severity) == (passed, dg.AssetCheckSeverity.WARN)


def both_splits(table: pd.DataFrame, **changes: object) -> pd.DataFrame:
    """Predictions of the test split, and the fine-tuned model's again as its calibration split."""
    again = table[table["role"] == "fine_tuned"].assign(split="calibration")
    return pd.concat([table, again], ignore_index=True).assign(**changes)


PRICE = NumberAnswer(kind="number", template="${}")
TEXT = TextAnswer(kind="text")


@pytest.mark.parametrize(
    ("answer", "table"), [(ANSWER, built.predictions()), (PRICE, built.numbers()), (TEXT, built.texts())]
)
def test_scores_in_both_splits_are_enough(answer: Answer, table: pd.DataFrame) -> None:
    assert model_checks.enough_scores("mono", both_splits(table), answer).passed


@pytest.mark.parametrize(
    ("answer", "table", "why"),
    [
        (ANSWER, both_splits(built.predictions(), p_positive=float("nan")), "without log-probabilities"),
        (ANSWER, both_splits(built.predictions(), group="one"), "2 of different groups"),
        (PRICE, both_splits(built.numbers(), predicted_value=float("nan")), "answers without a number"),
        (TEXT, built.texts(), "0 in calibration, 100 in test"),
    ],
)
def test_too_few_scores_stop_before_the_calibrator(answer: Answer, table: pd.DataFrame, why: str) -> None:
    result = model_checks.enough_scores("mono", table, answer)
    assert not result.passed and why in (result.description or "")


@pytest.mark.parametrize(("shift", "passed"), [(1.0, True), (9.0, False)])
def test_intervals_that_hold_too_few_numbers_do_not_pass(shift: float, passed: bool) -> None:
    table = both_splits(built.numbers())
    drifted = table["split"] == "test"
    table.loc[drifted, "truth_value"] *= shift
    fitted = calibration.fit(calibration.evidence(table, "calibration", PRICE), PRICE, "ft:a")
    report = calibration.judge(fitted, calibration.evidence(table, "test", PRICE), "ft:a")
    result = model_checks.calibration_helps("mono", report)
    assert (result.passed, result.description) == (passed, f"Region mono: {report.verdict}")
