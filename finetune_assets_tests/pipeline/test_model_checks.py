"""Checks about the model itself, asked of a real server whose `models.yaml` announces an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import numpy as np
import openai
import pandas as pd
import pytest
import yaml

from finetune_assets.pipeline import model_checks
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.server_process import ServerProcess

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
