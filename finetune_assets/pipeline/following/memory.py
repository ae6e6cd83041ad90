"""What the job sensor knows from one tick to the next; it learns all of it from the event log.

A materialization of `finetune_job` names a job to follow. An observation of it says that a region waits for a free
place. An observation of `finetune_jobs` is a webhook's: a job is said to have ended, and is asked about on its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import dagster as dg
from pydantic import BaseModel

from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.shown.jobs_overview import KEY as WEBHOOKS
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.task import Task

REMOTE_PACE_S = 30
"""Seconds between two readings of the list of a provider that is not on this machine, unless there is news."""
_READ_AT_ONCE = 1000


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
    hinted: bool = False
    """A webhook says that it has ended, and the provider has not been asked since."""


class Waiting(BaseModel):
    """A region whose job waits for a free place."""

    storage_id: int
    """Of the observation that said so; one submission is requested for each."""
    asked_at: float = 0
    """When its submission was requested, in Unix seconds."""


class Outage(BaseModel):
    """A provider that cannot be asked."""

    since: float
    tries: int
    next_at: float
    why: str = "it does not answer"
    """What went wrong the last time: no answer, no key, a refused one."""


class Memory(BaseModel):
    """The sensor's cursor."""

    after: int = 0
    """Storage id of the last materialization that was read."""
    after_waiting: int = 0
    """Storage id of the last observation of `finetune_job` that was read."""
    after_hints: int = 0
    """Storage id of the last webhook that was read."""
    open: dict[str, Submitted] = {}
    """By region; a region that was submitted again has its newest job."""
    waiting: dict[str, Waiting] = {}
    """By region, in order of coming."""
    tick: int = 0
    sweep: int = 0
    """Number of the reading of the provider's list that is going on."""
    list_after: str | None = None
    """The job after which it goes on."""
    list_at: float = 0
    """When the list is read next, in Unix seconds."""
    outage: Outage | None = None

    def list_is_due(self) -> bool:
        """Say whether the provider's list is to be read now."""
        # A clock that was set back must not stop the following for as long.
        return not 0 < self.list_at - time.time() <= REMOTE_PACE_S

    def rest(self) -> None:
        """Leave the list alone for a while."""
        self.list_at = time.time() + REMOTE_PACE_S

    def hinted(self) -> list[str]:
        """Return the regions whose jobs are said to have ended."""
        return [region for region, submitted in self.open.items() if submitted.hinted]


def learn(instance: dg.DagsterInstance, task: Task, memory: Memory) -> None:
    """Read what was materialised and observed since the last tick."""
    regions = set(known_regions(task, instance))
    key = asset_key(task, "finetune_job")
    for record in unread(instance.fetch_observations, key, memory.after_waiting):
        memory.after_waiting = record.storage_id
        if record.partition_key in regions:
            memory.waiting[record.partition_key] = Waiting(storage_id=record.storage_id)
            memory.list_at = 0
    # A list that is read from its beginning will have what is learned now; one that is half read may not.
    sweep = memory.sweep - (memory.list_after is None)
    for record in unread(instance.fetch_materializations, key, memory.after):
        memory.after = record.storage_id
        job_id = _job_id(record.asset_materialization)
        # Neither a region that the task no longer has, nor an event that someone reported by hand without a job.
        if record.partition_key in regions and job_id is not None:
            memory.open[record.partition_key] = Submitted(job_id=job_id, storage_id=record.storage_id, sweep=sweep)
            memory.list_at = 0
            waiting = memory.waiting.get(record.partition_key)
            if waiting and waiting.storage_id < record.storage_id:
                del memory.waiting[record.partition_key]
    _learn_of_webhooks(instance, memory)


def _learn_of_webhooks(instance: dg.DagsterInstance, memory: Memory) -> None:
    ended: set[str | None] = set()
    for record in unread(instance.fetch_observations, WEBHOOKS, memory.after_hints):
        memory.after_hints = record.storage_id
        ended.add(_job_id(record.asset_observation))
    if ended:
        for submitted in memory.open.values():
            submitted.hinted |= submitted.job_id in ended


def unread(fetch: Callable[..., dg.EventRecordsResult], key: dg.AssetKey, after: int) -> Iterator[dg.EventLogRecord]:
    """Yield the events of an asset from the storage id `after` on, oldest first."""
    more = True
    while more:
        page = fetch(dg.AssetRecordsFilter(key, after_storage_id=after), limit=_READ_AT_ONCE, ascending=True)
        for record in page.records:
            after = record.storage_id
            yield record
        more = page.has_more


def _job_id(event: dg.AssetMaterialization | dg.AssetObservation | None) -> str | None:
    job_id = event.metadata.get("job_id") if event else None
    return None if job_id is None else str(job_id.value)
