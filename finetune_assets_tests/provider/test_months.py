"""What a task may spend in a month, held against what its provider says it has trained."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_assets.errors import OverBudgetError
from finetune_assets.provider.months import require_within_month
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider

NOW = 1_795_000_000  # 2026-11-18
OCTOBER = NOW - 30 * 86_400


def limited(provider: ScriptedProvider, **changes: Any) -> Task:
    said = {"base_model": "base", "prices": {"training": 10}, "monthly_budget_usd": 5}
    return make_task(provider=provider.base_url, **said | changes)


def spend(provider: ScriptedProvider, job_id: str, tokens: int | None, **fields: Any) -> None:
    state = {"status": "succeeded", "metadata": {"task": "cells"}, "created_at": NOW - 60, "trained_tokens": tokens}
    provider.add_job(job_id, **state | fields)


def test_a_month_s_jobs_of_the_task_and_the_new_one_may_cost_as_much_as_it_says(provider: ScriptedProvider) -> None:
    spend(provider, "ftjob-0", 900_000, created_at=OCTOBER)
    spend(provider, "ftjob-1", 300_000)
    spend(provider, "ftjob-2", 900_000, metadata={"task": "others"})
    task, client = limited(provider), provider.client()
    require_within_month(client, task, 2.0, NOW)
    with pytest.raises(
        OverBudgetError, match=r"its 1 jobs of 2026-11 cost 3\.00 USD, and this one about 2\.01 USD more"
    ):
        require_within_month(client, task, 2.01, NOW)


def test_an_open_job_counts_with_what_it_was_expected_to_cost(provider: ScriptedProvider) -> None:
    spend(provider, "ftjob-1", None, status="running", metadata={"task": "cells", "estimate_usd": "4.5"})
    with pytest.raises(OverBudgetError, match=r"cost 4\.50 USD"):
        require_within_month(provider.client(), limited(provider), 1, NOW)


def test_a_job_that_failed_without_training_costs_nothing(provider: ScriptedProvider) -> None:
    spend(provider, "ftjob-1", None, status="failed")
    require_within_month(provider.client(), limited(provider), 5, NOW)


def test_what_nobody_knows_is_refused_and_what_costs_nothing_is_not(provider: ScriptedProvider) -> None:
    client = provider.client()
    with pytest.raises(OverBudgetError, match="state `prices`"):
        require_within_month(client, limited(provider, prices=None), None, NOW)
    require_within_month(client, limited(provider), 0.0, NOW)
    spend(provider, "ftjob-1", None, status="running")
    with pytest.raises(OverBudgetError, match=r"is not known \(ftjob-1\)"):
        require_within_month(client, limited(provider), 1, NOW)


def test_jobs_without_metadata_are_known_by_the_suffix_of_their_model(provider: ScriptedProvider) -> None:
    spend(provider, "ftjob-1", 450_000, metadata=None, fine_tuned_model="ft:base:org:cells-mono:1")
    spend(provider, "ftjob-2", 450_000, metadata=None, fine_tuned_model="ft:base:org:other-mono:2")
    with pytest.raises(OverBudgetError, match=r"its 1 jobs of 2026-11 cost 4\.50"):
        require_within_month(provider.client(), limited(provider), 1, NOW)
