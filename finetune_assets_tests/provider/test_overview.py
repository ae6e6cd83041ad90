"""The jobs of several providers in one table."""

from __future__ import annotations

import time

import pytest

from finetune_assets.provider.overview import overview
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")


def tasks(*providers: str) -> list[Task]:
    names = ("cells", "marks")
    return [make_task(task=name, provider=provider) for name, provider in zip(names, providers, strict=False)]


def test_every_job_has_a_row_with_what_a_person_asks_for(provider: ScriptedProvider) -> None:
    labels = {"task": "cells", "region": "mono"}
    provider.add_job("ftjob-1", "succeeded", metadata=labels)
    provider.add_job("ftjob-2", "failed", error={"code": "exceeded_quota", "message": "no money", "param": None})
    provider.add_job("ftjob-3", "running", metadata=labels, estimated_finish=1_800_000_600)
    provider.add_step("ftjob-3", step=3, total_steps=9, train_loss=0.5)

    found = overview(tasks(provider.base_url, f"{provider.base_url}/"))

    running, failed, succeeded = found.jobs
    assert found.silent == ()
    assert (running.task, running.region, running.created) == ("cells", "mono", "2027-01-15 08:00")
    assert running.progress == "step 3 of 9, training loss 0.5000, ends 2027-01-15 08:10"
    assert (failed.task, failed.error) == ("", "no money (exceeded_quota)")
    assert (succeeded.fine_tuned_model, succeeded.training_file, succeeded.error) == ("ft:ftjob-1", "file-1", "")


def test_a_provider_that_is_silent_hides_nothing_of_the_others(provider: ScriptedProvider) -> None:
    provider.add_job("ftjob-1", "queued")

    found = overview(tasks(provider.base_url, "http://127.0.0.1:9/v1"))

    assert [job.job_id for job in found.jobs] == ["ftjob-1"]
    assert len(found.silent) == 1 and "127.0.0.1:9" in found.silent[0]


def test_only_the_newest_are_asked_for(provider: ScriptedProvider) -> None:
    for number in range(300):
        provider.add_job(f"ftjob-{number}", "succeeded", created_at=1_700_000_000)

    found = overview(tasks(provider.base_url), newest=120)

    assert [job.job_id for job in found.jobs] == [f"ftjob-{number}" for number in range(299, 179, -1)]
    assert provider.asked == {"list": 2}


def test_what_was_spent_is_added_up_by_month_task_and_provider_from_what_was_really_trained(
    provider: ScriptedProvider,
) -> None:
    priced = make_task(provider=provider.base_url, prices={"training": 10}, base_model="base")
    november, labels = 1_795_000_000, {"task": "cells", "region": "mono"}  # 2026-11-18
    provider.add_job("ftjob-0", "succeeded", metadata=labels, created_at=november - 40 * 86_400, trained_tokens=300_000)
    provider.add_job("ftjob-1", "succeeded", metadata=labels, created_at=november, trained_tokens=200_000)
    provider.add_job("ftjob-2", "running", metadata=labels | {"estimate_usd": "1.5"}, created_at=november)
    provider.add_job("ftjob-3", "failed", metadata=labels, created_at=november)
    provider.add_job("ftjob-4", "succeeded", created_at=november, trained_tokens=7)

    found = overview([priced])

    assert [(row.month, row.task, row.jobs, row.cost_usd, row.unknown) for row in found.months] == [
        ("2026-11", "cells", 3, 2 + 1.5, 0),
        ("2026-11", "", 1, 0, 1),
        ("2026-10", "cells", 1, 3, 0),
    ]
    assert [job.cost_usd for job in found.jobs] == [None, 0, 1.5, 2, 3]


def test_all_jobs_of_this_month_are_added_up_however_many_rows_are_shown(provider: ScriptedProvider) -> None:
    priced = make_task(provider=provider.base_url, prices={"training": 10}, base_model="base")
    for number in range(7):
        job = {"metadata": {"task": "cells"}, "created_at": int(time.time()), "trained_tokens": 100_000}
        provider.add_job(f"ftjob-{number}", "succeeded", **job)
    found = overview([priced], newest=2)
    assert len(found.jobs) == 2 and [(row.jobs, row.cost_usd) for row in found.months] == [(7, 7)]
