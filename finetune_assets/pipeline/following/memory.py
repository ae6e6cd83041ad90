"""What the job sensor knows from one tick to the next; it learns all of it from the event log.

A materialization of `finetune_job` names a job to follow, or says that a region waits for a free place. An observation
of `finetune_jobs` is a webhook's: a job is said to have ended, and is asked about on its own. A region that the task no
longer has is set aside with its last materialization, from which all is learned again should it come back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import dagster as dg
from pydantic import BaseModel

from finetune_assets.pipeline.at_work import LAST, latest
from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.shown.jobs_overview import KEY as WEBHOOKS
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.pipeline.stages.assets import ATTEMPT, PROVIDER
from finetune_assets.task import Task

REMOTE_PACE_S = 30
"""Seconds between two readings of the list of a provider that is not on this machine, unless there is news."""
_READ_AT_ONCE = 1000
_FORM = 2
"""Of the cursor. One of an earlier form is read as none: it has forgotten models whose evaluation failed."""


class Submitted(BaseModel):
    """A job that is not known to have ended."""

    job_id: str
    storage_id: int
    """Of the materialization that named it; its model is evaluated once for each."""
    sweep: int
    """The last reading of the provider's whole list that had it."""
    said: str = ""
    """The progress reported last."""
    looked: int = 0
    """The tick in which its events were read last."""
    provider: str = ""
    """Whose job it is, as `asked_as` says it; "" where that was not kept yet."""
    hinted: bool = False
    """A webhook says that it has ended, and the provider has not been asked since."""


class Waiting(BaseModel):
    """A region whose job waits for a free place."""

    storage_id: int
    """Of the materialization that said so; one submission is requested for each."""
    attempt: str = ""
    """Sets its job apart from an equal one that is there already; empty where an equal one will do."""
    asked_at: float = 0
    """When its submission was requested, in Unix seconds."""
    stale: bool = False
    """The YAML has changed since: what would be submitted is to be prepared again first."""


class Due(BaseModel):
    """A model that is not evaluated yet."""

    job_id: str
    storage_id: int
    """Of the materialization that named its job."""
    attempts: int = 0
    """Runs that were requested until now."""
    at: float = 0
    """When the last of them was requested, in Unix seconds."""
    failed: bool = False
    """The last of them has failed, and that was said."""
    looked: int = 0
    """The tick in which it was looked at last."""


class Outage(BaseModel):
    """A provider that cannot be asked."""

    since: float
    tries: int
    next_at: float
    why: str = "it does not answer"
    """What went wrong the last time: no answer, no key, a refused one."""


class Memory(BaseModel):
    """The sensor's cursor."""

    form: int = _FORM
    after: int = 0
    """Storage id of the last materialization that was read."""
    after_hints: int = 0
    """Storage id of the last webhook that was read."""
    open: dict[str, Submitted] = {}
    """By region; a region that was submitted again has its newest job."""
    waiting: dict[str, Waiting] = {}
    """By region, in order of coming."""
    due: dict[str, Due] = {}
    """By region."""
    gone: dict[str, int] = {}
    """Regions that the task no longer has, with the storage id of their last materialization."""
    tick: int = 0
    sweep: int = 0
    """Number of the reading of the provider's list that is going on."""
    list_after: str | None = None
    """The job after which it goes on."""
    list_at: float = 0
    """When the list is read next, in Unix seconds."""
    outage: Outage | None = None

    @classmethod
    def of(cls, cursor: str | None) -> Memory:
        """Read a cursor; none, or one of an earlier form, is an empty memory."""
        found = cls.model_validate_json(cursor) if cursor else cls()
        return found if "form" in found.model_fields_set and found.form == _FORM else cls()

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

    def forget(self, region: str) -> None:
        """Follow nothing of a region any more."""
        for part in (self.open, self.waiting, self.due, self.gone):
            part.pop(region, None)

    def at(self, provider: str) -> dict[str, Submitted]:
        """Return the jobs of a provider; those of another one are followed again when the task names it again."""
        return {region: job for region, job in self.open.items() if job.provider in ("", provider)}


def learn(instance: dg.DagsterInstance, task: Task, memory: Memory) -> list[str]:
    """Read what was materialised and observed since the last tick; return what is to be said of regions that went."""
    key, begun = asset_key(task, "finetune_job"), memory.after
    for record in unread(instance.fetch_materializations, key, memory.after):
        memory.after = record.storage_id
        _note(memory, record)
    # After a lost cursor these are all regions that there ever were, and most of them are evaluated.
    new = {region: one.storage_id for region, one in memory.open.items() if one.storage_id > begun}
    for region, made in latest(instance, task, LAST, new).items():
        if made > new[region]:
            memory.forget(region)
    said = _part(instance, task, memory)
    _learn_of_webhooks(instance, memory)
    return said


def _note(memory: Memory, record: dg.EventLogRecord) -> None:
    """Take what a materialization of `finetune_job` says for what is so in its region now."""
    region, made = record.partition_key, record.asset_materialization
    job_id, attempt = _said(made, "job_id"), _said(made, ATTEMPT)
    # One that someone reported by hand names no job.
    if region is None or (job_id is None and attempt is None):
        return
    memory.forget(region)
    memory.list_at = 0
    if job_id is None:
        memory.waiting[region] = Waiting(storage_id=record.storage_id, attempt=attempt or "")
    else:
        # A list that is read from its beginning will have what is learned now; one that is half read may not.
        sweep = memory.sweep - (memory.list_after is None)
        provider = _said(made, PROVIDER) or ""
        memory.open[region] = Submitted(job_id=job_id, storage_id=record.storage_id, sweep=sweep, provider=provider)


def _part(instance: dg.DagsterInstance, task: Task, memory: Memory) -> list[str]:
    """Set regions aside that the task no longer has, a run of which would stop the whole tick; take back others."""
    regions, said = set(known_regions(task, instance)), []
    parts = (memory.open, memory.waiting, memory.due)
    followed = {region: one.storage_id for part in parts for region, one in part.items()}
    for region in followed.keys() - regions:
        job = memory.open.get(region) or memory.due.get(region)
        named = f"job {job.job_id}" if job else "its waiting job"
        said.append(f"{region} is no region of {task.task} any more: {named} is followed again when it comes back")
        memory.forget(region)
        memory.gone[region] = followed[region]
    back = sorted(memory.gone[region] for region in memory.gone.keys() & regions)
    for start in range(0, len(back), _READ_AT_ONCE):
        ids = dg.AssetRecordsFilter(asset_key(task, "finetune_job"), storage_ids=back[start : start + _READ_AT_ONCE])
        for record in instance.fetch_materializations(ids, limit=_READ_AT_ONCE).records:
            _note(memory, record)
    return said


def _learn_of_webhooks(instance: dg.DagsterInstance, memory: Memory) -> None:
    ended: set[str | None] = set()
    for record in unread(instance.fetch_observations, WEBHOOKS, memory.after_hints):
        memory.after_hints = record.storage_id
        ended.add(_said(record.asset_observation, "job_id"))
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


def _said(event: dg.AssetMaterialization | dg.AssetObservation | None, name: str) -> str | None:
    value = event.metadata.get(name) if event else None
    return None if value is None else str(value.value)
