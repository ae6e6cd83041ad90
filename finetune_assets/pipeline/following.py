"""What the job sensor knows from one tick to the next, and what it makes of the provider's answers.

Everything is learned from the event log: a materialization of `finetune_job` names a job to follow; an observation of
it says that a region waits for a free place. The provider's list of jobs is read in pages, as far as a tick's time
reaches, and the next tick goes on from there.
"""

from __future__ import annotations

import math
import time

import dagster as dg
from pydantic import BaseModel

from finetune_assets.pipeline import checks
from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.provider import fine_tuning
from finetune_assets.provider.client import Client
from finetune_assets.task import Task

MAX_RUNS_PER_TICK = 100
MAX_EVENTS_PER_TICK = 100
"""Observations; the daemon stores each on its own."""
MAX_LISTS_PER_TICK = 101
MAX_PROGRESS_PER_TICK = 20
"""Running jobs whose events are read in one tick; each costs a request."""
LIST_SECONDS = 25
"""How long a tick reads the provider's list; it is ended after 60."""
ASKED_SECONDS = 600
"""How long a requested submission keeps its place although nothing is heard of it."""
_READ_AT_ONCE = 1000

Event = dg.AssetObservation | dg.AssetCheckEvaluation


class Submitted(BaseModel):
    """A job that is not known to have ended."""

    job_id: str
    storage_id: int
    """Of the materialization that named it; one evaluation is requested for each."""
    sweep: int
    """The last reading of the provider's whole list that had it."""
    said: str = ""
    """The progress reported last."""
    looked: int = 0
    """The tick in which its events were read last."""


class Waiting(BaseModel):
    """A region whose job waits for a free place."""

    storage_id: int
    """Of the observation that said so; one submission is requested for each."""
    asked_at: float = 0
    """When its submission was requested, in Unix seconds."""


class Outage(BaseModel):
    """A provider that does not answer."""

    since: float
    tries: int
    next_at: float


class Memory(BaseModel):
    """The sensor's cursor."""

    after: int = 0
    """Storage id of the last materialization that was read."""
    after_waiting: int = 0
    """Storage id of the last observation that was read."""
    open: dict[str, Submitted] = {}
    """By region; a region that was submitted again has its newest job."""
    waiting: dict[str, Waiting] = {}
    """By region, in order of coming."""
    tick: int = 0
    sweep: int = 0
    """Number of the reading of the provider's list that is going on."""
    list_after: str | None = None
    """The job after which it goes on."""
    outage: Outage | None = None


def learn(instance: dg.DagsterInstance, task: Task, memory: Memory) -> None:
    """Read what was materialised and observed of `finetune_job` since the last tick."""
    regions = set(known_regions(task, instance))
    key = asset_key(task, "finetune_job")
    more = True
    while more:
        unread = dg.AssetRecordsFilter(key, after_storage_id=memory.after_waiting)
        page = instance.fetch_observations(unread, limit=_READ_AT_ONCE, ascending=True)
        for record in page.records:
            memory.after_waiting = record.storage_id
            if record.partition_key in regions:
                memory.waiting[record.partition_key] = Waiting(storage_id=record.storage_id)
        more = page.has_more
    # A list that is read from its beginning will have what is learned now; one that is half read may not.
    sweep = memory.sweep - (memory.list_after is None)
    more = True
    while more:
        unread = dg.AssetRecordsFilter(key, after_storage_id=memory.after)
        page = instance.fetch_materializations(unread, limit=_READ_AT_ONCE, ascending=True)
        for record in page.records:
            memory.after = record.storage_id
            made = record.asset_materialization
            job_id = made.metadata.get("job_id") if made else None
            # Neither a region that the task no longer has, nor an event that someone reported by hand without a job.
            if record.partition_key in regions and job_id is not None:
                submitted = Submitted(job_id=str(job_id.value), storage_id=record.storage_id, sweep=sweep)
                memory.open[record.partition_key] = submitted
                waiting = memory.waiting.get(record.partition_key)
                if waiting and waiting.storage_id < record.storage_id:
                    del memory.waiting[record.partition_key]
        more = page.has_more


def follow(client: Client, task: Task, memory: Memory) -> tuple[list[dg.RunRequest], list[Event]]:
    """Ask how the open jobs stand; those that have ended leave the memory.

    Raises:
        ProviderError: the provider does not answer.
    """
    memory.tick += 1
    requests: list[dg.RunRequest] = []
    events: list[Event] = []
    unfinished: dict[str, fine_tuning.Progress] = {}
    for region, job in _ask(client, memory).items():
        submitted = memory.open[region]
        if isinstance(job, fine_tuning.Progress):
            unfinished[region] = job
        elif job is None or job.status in fine_tuning.FAILED:
            events.append(_failure(task, region, submitted, job))
            del memory.open[region]
        elif len(requests) < MAX_RUNS_PER_TICK:
            requests.append(_evaluation(task, region, submitted))
            del memory.open[region]
    return requests, events + _news(client, task, memory, unfinished)


def _ask(client: Client, memory: Memory) -> dict[str, fine_tuning.Job | fine_tuning.Progress | None]:
    """Return the ended jobs of regions, and where the others stand, as far as this tick reads the list.

    None is a job that the provider has lost.
    """
    wanted = {submitted.job_id for submitted in memory.open.values()}
    listed = fine_tuning.find_jobs(client, wanted, after=memory.list_after, seconds=LIST_SECONDS)
    found = listed.ended | listed.standing
    jobs: dict[str, fine_tuning.Job | fine_tuning.Progress | None] = {}
    for region, submitted in memory.open.items():
        if submitted.job_id in found:
            submitted.sweep = memory.sweep
            jobs[region] = found[submitted.job_id]
    if listed.stopped_after is None:
        missing = [region for region, submitted in memory.open.items() if submitted.sweep < memory.sweep]
        for region in missing[:MAX_PROGRESS_PER_TICK]:
            jobs[region] = fine_tuning.look_up(client, memory.open[region].job_id)
        memory.sweep += 1
    memory.list_after = listed.stopped_after
    return jobs


def submissions(client: Client, task: Task, memory: Memory) -> list[dg.RunRequest]:
    """Request as many of the waiting submissions as there are free places; first come, first served.

    Raises:
        ProviderError: the provider does not answer.
    """
    if not memory.waiting:
        return []
    now = time.time()
    asked = sum(now - waiting.asked_at < ASKED_SECONDS for waiting in memory.waiting.values())
    free = len(memory.waiting)
    if task.max_open_jobs is not None:
        free = task.max_open_jobs - len(fine_tuning.open_jobs(client)) - asked
    requests: list[dg.RunRequest] = []
    for region, waiting in memory.waiting.items():
        if len(requests) < free and now - waiting.asked_at >= ASKED_SECONDS:
            waiting.asked_at = now
            requests.append(_submission(task, region, waiting))
    return requests


def _evaluation(task: Task, region: str, submitted: Submitted) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{submitted.job_id}:{submitted.storage_id}",
        job_name=f"{task.task}_evaluate",
        partition_key=region,
        tags={"finetune_assets/job_id": submitted.job_id},
    )


def _submission(task: Task, region: str, waiting: Waiting) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{region}:{waiting.storage_id}:{waiting.asked_at:.0f}",
        job_name=f"{task.task}_prepare",
        partition_key=region,
        asset_selection=[asset_key(task, "finetune_job")],
    )


def _failure(task: Task, region: str, submitted: Submitted, job: fine_tuning.Job | None) -> dg.AssetCheckEvaluation:
    unknown = f"the provider does not know job {submitted.job_id}. Materialise finetune_job again for a new job."
    return dg.AssetCheckEvaluation(
        asset_key=asset_key(task, "finetuned_model"),
        check_name=checks.JOB_SUCCEEDED.name,
        passed=False,
        description=f"Region {region}: {checks.job_verdict(job) if job else unknown}",
        metadata={"job_id": submitted.job_id},
        blocking=True,
        partition=region,
    )


def _news(client: Client, task: Task, memory: Memory, unfinished: dict[str, fine_tuning.Progress]) -> list[Event]:
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
