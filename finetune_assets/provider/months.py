"""What jobs really cost, by calendar month (UTC): from the tokens that the provider says it trained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from finetune_assets.errors import OverBudgetError
from finetune_assets.provider import fine_tuning, pricing
from finetune_assets.provider.client import Client, explained
from finetune_assets.task import Task
from finetune_assets.training_file.target import base_of

ESTIMATE = "estimate_usd"
"""In a job's metadata: what it was expected to cost, until the provider says what was trained."""
MAX_JOBS = 5000
"""Of a provider's list; a month that has more cannot be added up."""


@dataclass(frozen=True, slots=True)
class MonthRow:
    """What one task spent at one provider in one month."""

    month: str
    """Such as 2026-11."""
    task: str
    """Empty for jobs that were made elsewhere."""
    provider: str
    jobs: int
    cost_usd: float
    """Of the jobs whose cost is known; of open ones what was expected."""
    unknown: int
    """Jobs whose cost nobody knows."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def cost_of(task: Task | None, job: fine_tuning.Job) -> float | None:
    """Return what a job cost in USD, or is expected to while it is open; None where nobody knows.

    Args:
        task: Whose job it is, or None of a job that was made elsewhere, whose price is not known then.
        job: As the provider has it.
    """
    if job.trained_tokens is None and job.status in fine_tuning.FAILED:
        return 0.0
    if job.trained_tokens is None:
        expected = (job.metadata or {}).get(ESTIMATE)
        return float(expected) if expected else None
    if task is None:
        return None
    if task.prices and base_of(job.model) != base_of(task.base_model):
        task = task.model_copy(update={"prices": None})
    return pricing.training_cost(task.model_copy(update={"base_model": job.model}), job.trained_tokens, epochs=1)


def month_of(moment: float) -> str:
    """Return the calendar month of a moment in Unix seconds."""
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m}"


def require_within_month(client: Client, task: Task, estimate_usd: float | None, now: float) -> None:
    """Refuse a job that would take the task over what it may spend in the month of `now`.

    Raises:
        OverBudgetError: it would, or it cannot be known; the message says how much was spent and what to do.
        ProviderError: the provider does not answer.
    """
    limit, month = task.monthly_budget_usd, month_of(now)
    if limit is None or estimate_usd == 0:
        return
    if estimate_usd is None:
        words = f"nobody knows what training {task.base_model} at {task.provider} costs"
        raise OverBudgetError(f"{words}, and monthly_budget_usd is {limit:.2f}; state `prices` in the task's YAML")
    jobs = [job for job in _jobs_since(client, month) if _is_of(task, job)]
    costs = [cost_of(task, job) for job in jobs]
    if strange := [job.id for job, cost in zip(jobs, costs, strict=True) if cost is None]:
        words = f"what {len(strange)} of its jobs of {month} cost is not known ({', '.join(strange[:5])})"
        raise OverBudgetError(f"task {task.task}: {words}, and monthly_budget_usd is {limit:.2f}; take that limit out")
    spent = sum(filter(None, costs))
    if spent + estimate_usd > limit:
        words = f"its {len(jobs)} jobs of {month} cost {spent:.2f} USD, and this one about {estimate_usd:.2f} USD more"
        raise OverBudgetError(
            f"task {task.task}: {words}; monthly_budget_usd is {limit:.2f}: raise it, or wait for the next month"
        )


def by_month(jobs: Iterable[tuple[str, fine_tuning.Job, float | None]]) -> list[MonthRow]:
    """Add up jobs, each with its provider and its cost, newest month first."""
    found: dict[tuple[str, str, str], list[float | None]] = {}
    for provider, job, cost in jobs:
        key = month_of(job.created_at), (job.metadata or {}).get("task", ""), provider
        found.setdefault(key, []).append(cost)
    rows = [
        MonthRow(*key, len(costs), round(sum(filter(None, costs)), 4), costs.count(None))
        for key, costs in found.items()
    ]
    return sorted(rows, key=lambda row: (row.month, row.task, row.provider), reverse=True)


def _is_of(task: Task, job: fine_tuning.Job) -> bool:
    """Say whether a job is the task's; by its model's name where the provider keeps no metadata."""
    if job.metadata:
        return job.metadata.get("task") == task.task
    suffix = getattr(job, "user_provided_suffix", None) or getattr(job, "suffix", None) or ""
    return str(suffix).startswith(f"{task.task}-") or f":{task.task}-" in (job.fine_tuned_model or "")


def _jobs_since(client: Client, month: str) -> Iterator[fine_tuning.Job]:
    with explained(client):
        for number, job in enumerate(client.fine_tuning.jobs.list(limit=fine_tuning.PAGE)):
            if month_of(job.created_at) < month:
                return
            if number >= MAX_JOBS:
                raise OverBudgetError(
                    f"{client.base_url} has over {MAX_JOBS:,} jobs in {month}; they cannot be added up"
                )
            yield job
