"""The jobs of several providers in one table."""

from __future__ import annotations

import pytest

from finetune_assets.provider.overview import overview
from finetune_assets_tests.scripted_provider import ScriptedProvider


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")


def test_every_job_has_a_row_with_what_a_person_asks_for(provider: ScriptedProvider) -> None:
    labels = {"task": "cells", "region": "mono"}
    provider.add_job("ftjob-1", "succeeded", metadata=labels)
    provider.add_job("ftjob-2", "failed", error={"code": "exceeded_quota", "message": "no money", "param": None})
    provider.add_job("ftjob-3", "running", metadata=labels, estimated_finish=1_800_000_600)
    provider.add_step("ftjob-3", step=3, total_steps=9, train_loss=0.5)

    found = overview([provider.base_url, f"{provider.base_url}/"])

    running, failed, succeeded = found.jobs
    assert found.silent == ()
    assert (running.task, running.region, running.created) == ("cells", "mono", "2027-01-15 08:00")
    assert running.progress == "step 3 of 9, training loss 0.5000, ends 2027-01-15 08:10"
    assert (failed.task, failed.error) == ("", "no money (exceeded_quota)")
    assert (succeeded.fine_tuned_model, succeeded.training_file, succeeded.error) == ("ft:ftjob-1", "file-1", "")


def test_a_provider_that_is_silent_hides_nothing_of_the_others(provider: ScriptedProvider) -> None:
    provider.add_job("ftjob-1", "queued")

    found = overview([provider.base_url, "http://127.0.0.1:9/v1"])

    assert [job.job_id for job in found.jobs] == ["ftjob-1"]
    assert len(found.silent) == 1 and "127.0.0.1:9" in found.silent[0]


def test_only_the_newest_are_asked_for(provider: ScriptedProvider) -> None:
    for number in range(300):
        provider.add_job(f"ftjob-{number}", "succeeded")

    found = overview([provider.base_url], newest=120)

    assert [job.job_id for job in found.jobs] == [f"ftjob-{number}" for number in range(299, 179, -1)]
    assert provider.asked == {"list": 2}
