"""All jobs of several providers in one table: what runs, what it makes and what failed."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from finetune_assets.errors import ProviderError
from finetune_assets.provider import fine_tuning, months
from finetune_assets.provider.client import Client, connect, explained
from finetune_assets.provider.months import MonthRow
from finetune_assets.task import Task

TIMEOUT_S = 10


@dataclass(frozen=True)
class JobRow:
    """One job, as a person looks at it."""

    task: str
    """Empty for a job that was made elsewhere, as is the region."""
    region: str
    provider: str
    job_id: str
    created: str
    """UTC, to the minute."""
    status: str
    progress: str
    """Of a running job: step, losses, expected end."""
    model: str
    training_file: str
    fine_tuned_model: str
    error: str
    cost_usd: float | None
    """Of an open job, what was expected; None where nobody knows."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Overview:
    """The newest jobs of each provider, and the providers that could not be asked."""

    jobs: tuple[JobRow, ...]
    silent: tuple[str, ...]
    """Why, one sentence each."""
    months: tuple[MonthRow, ...] = ()
    """What was spent, newest month first; earlier months than this one as far as their jobs are among the newest."""


def overview(tasks: Iterable[Task], newest: int = 100, seconds: float = math.inf) -> Overview:
    """Ask each provider of the tasks for its `newest` jobs. One that does not answer hides nothing of the others.

    Of two names for the same provider, such as `local` and its base URL, the shorter one is asked. After `seconds`
    nothing new is asked: jobs are without their progress, and providers silent.
    """
    until = time.monotonic() + seconds
    all_tasks = list(tasks)
    by_name = {task.task: task for task in all_tasks}
    rows: list[JobRow] = []
    priced: list[tuple[str, fine_tuning.Job, float | None]] = []
    silent: list[str] = []
    asked: set[str] = set()
    for provider in sorted({task.provider for task in all_tasks}, key=lambda name: (len(name), name)):
        if time.monotonic() > until:
            silent.append(f"{provider}: there was no time left to ask it")
            continue
        try:
            client = connect(provider).with_options(timeout=TIMEOUT_S, max_retries=1)
            if str(client.base_url) in asked:
                continue
            asked.add(str(client.base_url))
            with explained(client):
                for number, job in enumerate(_jobs(client, newest, until)):
                    task = by_name.get((job.metadata or {}).get("task", ""))
                    cost = months.cost_of(task, job)
                    priced.append((provider, job, cost))
                    if number < newest:
                        rows.append(_row(client, provider, job, cost, until))
        except ProviderError as error:
            silent.append(f"{provider}: {error}")
    return Overview(tuple(rows), tuple(silent), tuple(months.by_month(priced)))


def _jobs(client: Client, newest: int, until: float) -> Iterator[fine_tuning.Job]:
    """Yield the newest jobs, and all of this month as far as there is time."""
    month = months.month_of(time.time())
    for number, job in enumerate(client.fine_tuning.jobs.list(limit=min(newest, fine_tuning.PAGE))):
        late = time.monotonic() > until or number >= months.MAX_JOBS
        if number >= newest and (late or months.month_of(job.created_at) < month):
            return
        yield job
        if number + 1 == newest and months.month_of(job.created_at) < month:
            return


def _row(client: Client, provider: str, job: fine_tuning.Job, cost_usd: float | None, until: float) -> JobRow:
    labels = job.metadata or {}
    return JobRow(
        task=labels.get("task", ""),
        region=labels.get("region", ""),
        provider=provider,
        job_id=job.id,
        created=_minute(job.created_at),
        status=job.status,
        progress=_progress(client, job) if job.status == "running" and time.monotonic() <= until else "",
        model=job.model,
        training_file=job.training_file,
        fine_tuned_model=job.fine_tuned_model or "",
        error=fine_tuning.failure_reason(job) if job.status in fine_tuning.FAILED else "",
        cost_usd=cost_usd,
    )


def _progress(client: Client, job: fine_tuning.Job) -> str:
    words = str(fine_tuning.progress(client, job)).removeprefix("running").removeprefix(", ")
    return f"{words}, ends {_minute(job.estimated_finish)}" if job.estimated_finish else words


def _minute(moment: int) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"
