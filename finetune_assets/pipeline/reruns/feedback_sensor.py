"""The sensor that has a region trained again when reviewers have corrected enough of it.

It compares what reviewers decide with what `filtered_qa` has applied, so nothing is lost that no run has applied: what
is decided while a run goes on counts for the next one. The cursor only saves work and paces repetitions; without it
the run keys keep runs from repeating.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import BaseModel

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.pipeline.at_work import at_work
from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.reruns.changes import WHY, News, decided_anew, got_through, news
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.pipeline.stage import run_tags
from finetune_assets.pipeline.stages import reviews
from finetune_assets.results.region import Outputs, Region
from finetune_assets.task import Rerun, Task

if TYPE_CHECKING:
    from finetune_assets.feedback.store.database import FeedbackDatabase

MAX_RUNS_PER_TICK = 100
MAX_ATTEMPTS = 6
"""Runs that are requested for the same feedback, the last one after a pause of a quarter of an hour. If that fails too,
a person has to look; the schedule goes on trying, and so does new feedback."""
N_SAID = 5
"""Regions that a skipped tick speaks of."""
_COUNTING_SECONDS = 25
"""How long a tick counts, which is ended after 60; what is counted need not be again, so the next ones go on."""
_FIRST_PAUSE_S = 60
_KEY = "dagster/run_key"


class Counted(BaseModel):
    """How much of a region is decided anew."""

    event: int
    applied: int
    n: int


class Asked(BaseModel):
    """A run that was requested for a region."""

    event: int
    """The newest thing that reviewers had done then."""
    attempt: int
    at: float
    """Unix seconds."""
    failed: bool = False

    def key(self, region: str) -> str:
        """Return the run's key."""
        return f"{region}:{self.event}:{self.attempt}"

    @property
    def again_at(self) -> float:
        """When the next one may be requested if this one fails: each pause is twice as long."""
        return self.at + _FIRST_PAUSE_S * 2 ** (self.attempt - 1)


class Memory(BaseModel):
    """The sensor's cursor."""

    counted: dict[str, Counted] = {}
    """By region, where there is news."""
    asked: dict[str, Asked] = {}
    """By region, until what was asked for is done."""


def feedback_sensor(task: Task, rerun: Rerun) -> dg.SensorDefinition:
    """Return the sensor `<task>_feedback`, which requests runs of `<task>_prepare`."""

    @dg.sensor(
        name=f"{task.task}_feedback",
        job_name=f"{task.task}_prepare",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Trains a region again when reviewers have decided {rerun.min_corrections} of its examples anew.",
    )
    def look_for_feedback(
        context: dg.SensorEvaluationContext, outputs: OutputsResource
    ) -> dg.SensorResult | dg.SkipReason:
        memory = Memory.model_validate_json(context.cursor) if context.cursor else Memory()
        regions = known_regions(task, context.instance)
        try:
            db = reviews.opened()
            if db is None:
                return dg.SkipReason(reviews.NOT_INSTALLED)
            with db:
                found = news(context.instance, db, task, regions)
                _count(db, task, outputs.folder(), found, memory)
        except FinetuneAssetsError as error:
            return dg.SkipReason(f"whether reviewers have decided more is not known: {error}")
        _settle(context.instance, task, memory, found)
        due = [region for region in regions if _is_due(region, memory, rerun)]
        busy = at_work(context.instance, task, due)
        ready = [region for region in due if region not in busy][:MAX_RUNS_PER_TICK]
        requests = [_request(task, region, memory) for region in ready]
        quiet = None if requests else _waiting(memory, busy, rerun)
        return dg.SensorResult(requests, quiet, memory.model_dump_json())

    return look_for_feedback


def _count(db: FeedbackDatabase, task: Task, outputs: Outputs, found: dict[str, News], memory: Memory) -> None:
    """Count what is decided anew, where that is not known from the last tick."""
    before, memory.counted = memory.counted, {}
    until = time.monotonic() + _COUNTING_SECONDS
    for region, now in found.items():
        known = before.get(region)
        if known is None or (known.event, known.applied) != (now.event, now.applied):
            if time.monotonic() > until:
                continue
            n = decided_anew(db, Region(task, region, outputs))
            known = Counted(event=now.event, applied=now.applied, n=n)
        memory.counted[region] = known


def _settle(instance: dg.DagsterInstance, task: Task, memory: Memory, found: Collection[str]) -> None:
    """Forget the requests that are done with, by their run or by another one, and mark those whose run failed."""
    if not memory.asked:
        return
    keys = [asked.key(region) for region, asked in memory.asked.items()]
    runs = instance.get_runs(dg.RunsFilter(job_name=f"{task.task}_prepare", tags={_KEY: keys}))
    ended = {run.tags[_KEY]: run.status for run in runs}
    through = got_through(instance, task, memory.asked) - set(found)
    for region, asked in list(memory.asked.items()):
        status = ended.get(asked.key(region))
        if region in through or status in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.CANCELED):
            del memory.asked[region]
        elif status is None:
            asked.failed = time.time() - asked.at > _FIRST_PAUSE_S  # the daemon died before it launched the run
        else:
            asked.failed = status is dg.DagsterRunStatus.FAILURE


def _is_due(region: str, memory: Memory, rerun: Rerun) -> bool:
    asked, counted = memory.asked.get(region), memory.counted.get(region)
    if asked is None:
        return counted is not None and counted.n >= rerun.min_corrections
    may_repeat = asked.attempt < MAX_ATTEMPTS or (counted is not None and counted.event > asked.event)
    return asked.failed and may_repeat and time.time() >= asked.again_at


def _request(task: Task, region: str, memory: Memory) -> dg.RunRequest:
    before, counted = memory.asked.get(region), memory.counted.get(region)
    event = counted.event if counted else before.event if before else 0
    asked = Asked(event=event, attempt=min(before.attempt + 1, MAX_ATTEMPTS) if before else 1, at=time.time())
    memory.asked[region] = asked
    why = f"{counted.n if counted else 0} new decisions of reviewers"
    if before:
        why += f"; attempt {asked.attempt}, the one before failed"
    return dg.RunRequest(run_key=asked.key(region), partition_key=region, tags={WHY: why, **run_tags(task, region)})


def _waiting(memory: Memory, busy: dict[str, str], rerun: Rerun) -> str:
    """Say of the first regions what they wait for."""
    said = []
    for region in {**memory.asked, **memory.counted}:
        asked, counted = memory.asked.get(region), memory.counted.get(region)
        if region in busy:
            said.append(f"{region}: {busy[region]}")
        elif asked and asked.failed:
            when = time.strftime("%H:%M UTC", time.gmtime(asked.again_at))
            again = f"tried again after {when}" if asked.attempt < MAX_ATTEMPTS else "look at its run"
            said.append(f"{region}: attempt {asked.attempt} failed, {again}")
        elif asked:
            said.append(f"{region}: its run was requested")
        elif counted and counted.n:
            said.append(f"{region}: {counted.n} of {rerun.min_corrections} decided anew")
    more = f"; and {len(said) - N_SAID} more" if len(said) > N_SAID else ""
    return "; ".join(said[:N_SAID]) + more or "reviewers have decided nothing anew; `finetune-assets feedback` is open"
