"""What the job sensor asks the provider, and what it makes of the answers.

The provider's list of jobs is read in pages, as far as a tick's time reaches, and the next tick goes on from there; so
with all that a tick asks, however slowly the provider answers.
A provider on this machine is asked at every tick, another one every half minute, or when something was submitted. A
job of which a webhook says that it has ended is asked about at once and on its own.
"""

from __future__ import annotations

import math
import time

import dagster as dg

from finetune_assets.pipeline.at_work import running
from finetune_assets.pipeline.checks import model_checks
from finetune_assets.pipeline.following.evaluations import Event, round_over
from finetune_assets.pipeline.following.memory import Due, Memory, Submitted, Waiting
from finetune_assets.pipeline.stage import FIRST_RUN, PREPARE, asset_key, run_tags
from finetune_assets.pipeline.stale import first_stale
from finetune_assets.provider import fine_tuning
from finetune_assets.provider.client import Client, asked_as
from finetune_assets.provider.local_server import is_loopback
from finetune_assets.task import Task

MAX_EVENTS_PER_TICK = 100
"""Observations; the daemon stores each on its own."""
MAX_LISTS_PER_TICK = 101
MAX_PROGRESS_PER_TICK = 20
"""Running jobs whose events are read in one tick; each costs a request."""
MAX_SUBMISSIONS_PER_TICK = 100
ASKED_SECONDS = 600
"""How long a requested submission keeps its place although nothing is heard of it."""

Answer = fine_tuning.Job | fine_tuning.Progress | None
"""A job that has ended, where another one stands, or None for one that the provider does not know."""


def follow(client: Client, task: Task, memory: Memory, until: float) -> list[Event]:
    """Ask how the open jobs stand, until a time of the monotonic clock; models that were made are due from now on.

    Raises:
        ProviderError: the provider does not answer.
    """
    events: list[Event] = []
    unfinished: dict[str, fine_tuning.Progress] = {}
    for region, job in _ask(client, memory, until).items():
        submitted = memory.open[region]
        if isinstance(job, fine_tuning.Progress):
            unfinished[region] = job
        elif job is None or job.status in fine_tuning.FAILED:
            events += _failure(task, region, submitted, job)
            del memory.open[region]
        else:
            memory.due[region] = Due(job_id=submitted.job_id, storage_id=submitted.storage_id)
            del memory.open[region]
    return events + _news(client, task, memory, unfinished, until)


def _ask(client: Client, memory: Memory, until: float) -> dict[str, Answer]:
    """Return how jobs stand, by region: those that a webhook named, and all of them where the list is due."""
    here = memory.at(asked_as(client))
    jobs = _ask_about_hinted(client, here, until)
    return jobs | _read_list(client, memory, here, until) if here and memory.list_is_due() else jobs


def _ask_about_hinted(client: Client, here: dict[str, Submitted], until: float) -> dict[str, Answer]:
    """Return the jobs that have really ended; of the others the list will tell."""
    jobs: dict[str, Answer] = {}
    hinted = [region for region, submitted in here.items() if submitted.hinted]
    for region in hinted[:MAX_PROGRESS_PER_TICK]:
        if time.monotonic() > until:
            break
        submitted = here[region]
        submitted.hinted = False
        job = fine_tuning.look_up(client, submitted.job_id)
        if not isinstance(job, fine_tuning.Progress):
            jobs[region] = job
    return jobs


def _read_list(client: Client, memory: Memory, here: dict[str, Submitted], until: float) -> dict[str, Answer]:
    """Return the jobs of regions, as far as this tick reads the list; None is one that the provider has lost."""
    wanted = {submitted.job_id for submitted in here.values()}
    listed = fine_tuning.find_jobs(client, wanted, after=memory.list_after, until=until)
    found = listed.ended | listed.standing
    jobs: dict[str, Answer] = {}
    for region, submitted in here.items():
        if submitted.job_id in found:
            submitted.sweep = memory.sweep
            jobs[region] = found[submitted.job_id]
    if listed.stopped_after is None:
        missing = [region for region, submitted in here.items() if submitted.sweep < memory.sweep]
        for n_looked_up, region in enumerate(missing[:MAX_PROGRESS_PER_TICK]):
            if n_looked_up and time.monotonic() > until:
                break
            jobs[region] = fine_tuning.look_up(client, here[region].job_id)
            here[region].sweep = memory.sweep
        memory.sweep += 1
        if not is_loopback(client.base_url.host):
            memory.rest()
    memory.list_after = listed.stopped_after
    return jobs


def submissions(instance: dg.DagsterInstance, client: Client, task: Task, memory: Memory) -> list[dg.RunRequest]:
    """Request as many of the waiting submissions as there are free places; first come, first served.

    One that the YAML has changed since would be refused.

    Raises:
        ProviderError: the provider does not answer.
    """
    now = time.time()
    ready = [region for region, waiting in memory.waiting.items() if now - waiting.asked_at >= ASKED_SECONDS]
    if not ready:
        return []
    free = MAX_SUBMISSIONS_PER_TICK
    if task.max_open_jobs is not None:
        room = task.max_open_jobs - (len(memory.waiting) - len(ready))
        free = min(free, room - len(fine_tuning.open_jobs(client, enough=room))) if room > 0 else 0
    first = ready[: free + MAX_SUBMISSIONS_PER_TICK] if free > 0 else []
    busy, stale = running(instance, task, first), first_stale(instance, task, PREPARE, first)
    for region in first:
        memory.waiting[region].stale = region in stale
    chosen = [region for region in first if region not in busy and region not in stale][: max(free, 0)]
    return [_submission(task, region, memory.waiting[region], now) for region in chosen]


def _submission(task: Task, region: str, waiting: Waiting, now: float) -> dg.RunRequest:
    waiting.asked_at = now
    key = asset_key(task, "finetune_job")
    config = {"ops": {key.to_python_identifier(): {"config": {"train_again": True}}}} if waiting.attempt else {}
    return dg.RunRequest(
        run_key=f"{region}:{waiting.storage_id}:{now:.0f}",
        job_name=f"{task.task}_prepare",
        partition_key=region,
        asset_selection=[key],
        run_config=config,
        # Asked for twice, an attempt is still one: it is named after the run that asked first.
        tags={**run_tags(task, region), **({FIRST_RUN: waiting.attempt} if waiting.attempt else {})},
    )


def _failure(task: Task, region: str, submitted: Submitted, job: fine_tuning.Job | None) -> list[Event]:
    unknown = f"the provider does not know job {submitted.job_id}. Materialise finetune_job again for a new job."
    words = f"Region {region}: {model_checks.job_verdict(job) if job else unknown}"
    failed = dg.AssetCheckEvaluation(
        asset_key=asset_key(task, "finetuned_model"),
        check_name=model_checks.JOB_SUCCEEDED.name,
        passed=False,
        description=words,
        metadata={"job_id": submitted.job_id},
        blocking=True,
        partition=region,
    )
    return [failed, round_over(task, region, words)]


def _news(
    client: Client, task: Task, memory: Memory, unfinished: dict[str, fine_tuning.Progress], until: float
) -> list[Event]:
    """Observe the progress of jobs where there is any; what a tick has no room for waits for the next ones."""
    pages = math.ceil(len(memory.open) / fine_tuning.PAGE)
    room = max(1, min(MAX_PROGRESS_PER_TICK, MAX_LISTS_PER_TICK - pages))
    running = [region for region, known in unfinished.items() if known.status == "running"]
    passed_over = set(sorted(running, key=lambda region: memory.open[region].looked)[room:])
    events: list[Event] = []
    for region, known in unfinished.items():
        if region in passed_over or len(events) == MAX_EVENTS_PER_TICK:
            continue
        submitted = memory.open[region]
        if known.status == "running" and time.monotonic() > until:
            continue
        submitted.looked = memory.tick
        progress = fine_tuning.with_step(client, submitted.job_id, known)
        if str(progress) != submitted.said:
            submitted.said = str(progress)
            events.append(_observation(task, region, submitted, progress))
    return events


def _observation(task: Task, region: str, submitted: Submitted, progress: fine_tuning.Progress) -> dg.AssetObservation:
    known = {name: value for name, value in vars(progress).items() if value is not None}
    if finish := known.pop("estimated_finish", None):
        known["estimated_finish"] = dg.MetadataValue.timestamp(float(finish))
    key = asset_key(task, "finetuned_model")
    return dg.AssetObservation(key, str(progress), metadata={"job_id": submitted.job_id, **known}, partition=region)
