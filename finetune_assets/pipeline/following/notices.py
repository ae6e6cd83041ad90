"""The sensor that tells people what a task's `notify` asks for, each thing once.

It reads what checks have found, and which runs have failed. The cursor holds what was told, and what a channel has not
taken yet: that is sent again, with longer pauses. Without the cursor the last day is told again.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

import dagster as dg
from pydantic import BaseModel

from finetune_assets.errors import NoticeError
from finetune_assets.evaluation.promotion import TO_APPROVE
from finetune_assets.pipeline.checks.history import Found, failures
from finetune_assets.pipeline.checks.model_checks import EVALUATED, JOB_SUCCEEDED, MODEL_STAYS
from finetune_assets.pipeline.following.channels import channels
from finetune_assets.pipeline.stages.champion import PROMOTED
from finetune_assets.task import Task
from finetune_assets.task.notify import Kind

FIRST_LOOK_S = 86_400
"""How far the first look goes back."""
REMEMBERED_S = 7 * 86_400
"""What fails again in the same words after as long is told again."""
DAYS_LEFT = 30
MAX_KEPT = 500
"""Notices that wait for a channel; older ones are dropped."""
MAX_RUNS = 100
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 60, 3600
_REGION = "dagster/partition"


class Notice(BaseModel):
    """One thing that a person ought to know."""

    kind: Kind
    region: str
    text: str


class Waiting(BaseModel):
    """What a channel has not taken yet."""

    notices: list[Notice] = []
    tries: int = 0
    next_at: float = 0


class Told(BaseModel):
    """What was said last of one thing."""

    at: float
    """When that happened, in Unix seconds."""
    digest: str
    """Of its words: what fails again in the same ones is not told again."""


class Memory(BaseModel):
    """The sensor's cursor."""

    since: float
    """Only what happened later is told."""
    told: dict[str, Told] = {}
    """By what it is about."""
    waiting: dict[str, Waiting] = {}
    """By channel."""

    def forget(self) -> None:
        """Look back no further than a week; what is longer ago was told."""
        self.since = max(self.since, time.time() - REMEMBERED_S)
        self.told = {about: told for about, told in self.told.items() if told.at > self.since}


def notice_sensor(task: Task, checks: Iterable[dg.AssetCheckSpec]) -> dg.SensorDefinition:
    """Return the sensor `<task>_notices`, which looks at these checks of the task."""
    keys = [
        spec.key for spec in checks if spec.blocking or spec.name in (EVALUATED.name, MODEL_STAYS.name, PROMOTED.name)
    ]

    @dg.sensor(
        name=f"{task.task}_notices",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people, as `notify` in the task's YAML says, what failed and what waits for them.",
    )
    def tell(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        memory = (
            Memory.model_validate_json(context.cursor) if context.cursor else Memory(since=time.time() - FIRST_LOOK_S)
        )
        memory.forget()
        fresh = [*_of_checks(context.instance, task, keys, memory), *_of_runs(context.instance, task, memory)]
        for name in channels(task):
            kept = memory.waiting.setdefault(name, Waiting())
            kept.notices = [*kept.notices, *fresh][-MAX_KEPT:]
        said = list(_deliver(context, task, memory))
        return dg.SensorResult(skip_reason="; ".join(said) or "nothing new to tell", cursor=memory.model_dump_json())

    return tell


def _of_checks(
    instance: dg.DagsterInstance, task: Task, keys: list[dg.AssetCheckKey], memory: Memory
) -> Iterator[Notice]:
    for found in failures(instance, keys):
        about = f"{found.result.check_name}:{found.result.partition}"
        notice = _notice(task, found) if found.at > memory.since else None
        if notice and _is_new(memory, about, found.at, _words(found)):
            yield notice


def _notice(task: Task, found: Found) -> Notice | None:
    """Return what is told of a failed check; None where nobody asked for it."""
    result = found.result
    kind: Kind = "failed_checks"
    text = f"{result.check_name} of {result.asset_key.path[-1]} failed. {result.description or ''}"
    if result.check_name == JOB_SUCCEEDED.name:
        kind = "failed_jobs"
    elif result.check_name == PROMOTED.name and TO_APPROVE in (result.description or ""):
        kind, text = "approvals", f"{result.description} Materialise champion with approved_by in the launchpad."
    elif result.check_name == MODEL_STAYS.name:
        if _days_left(result) > DAYS_LEFT:
            return None
        kind, text = "model_ends", result.description or ""
    elif result.severity is not dg.AssetCheckSeverity.ERROR:
        return None
    asked = task.notify.of if task.notify else []
    return Notice(kind=kind, region=result.partition or "", text=text) if kind in asked else None


def _days_left(result: dg.AssetCheckEvaluation) -> float:
    days = result.metadata.get("days_left")
    return float(str(days.value)) if days else float("inf")


def _words(found: Found) -> str:
    """Return what tells a failure from the one before; of a model's end it is the day: those that are left change."""
    result = found.result
    if result.check_name == MODEL_STAYS.name:
        return f"{datetime.fromtimestamp(found.at, UTC).date().toordinal() + _days_left(result):.0f}"
    return result.description or ""


def _of_runs(instance: dg.DagsterInstance, task: Task, memory: Memory) -> Iterator[Notice]:
    """Tell of runs of the task's jobs that failed, but by a check, which is told for itself."""
    if task.notify is None or "failed_runs" not in task.notify.of:
        return
    after = datetime.fromtimestamp(memory.since, UTC)
    for job in (f"{task.task}_prepare", f"{task.task}_evaluate"):
        wanted = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.FAILURE], updated_after=after)
        for run in instance.get_runs(wanted, limit=MAX_RUNS):
            if (
                _is_new(memory, f"run:{run.run_id}", time.time(), run.run_id)
                and (why := _why(instance, run.run_id)) is not None
            ):
                region = run.tags.get(_REGION, "")
                text = f"Region {region}: run {run.run_id[:8]} of {job} failed: {why}"
                yield Notice(kind="failed_runs", region=region, text=text)


def _why(instance: dg.DagsterInstance, run_id: str) -> str | None:
    """Return what a step of a run failed by; None where that was a check."""
    failed = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    event = failed[0].event_log_entry.dagster_event if failed else None
    error = event.step_failure_data.error if event else None
    if error is None:
        return "its process ended, or was ended"
    while error.cause is not None:
        error = error.cause
    return None if "AssetCheckFailed" in (error.cls_name or "") else error.message.strip()[:500]


def _is_new(memory: Memory, about: str, at: float, words: str) -> bool:
    before, now = memory.told.get(about), Told(at=at, digest=hashlib.sha256(words.encode()).hexdigest()[:16])
    if before and at <= before.at:
        return False
    memory.told[about] = now
    return before is None or before.digest != now.digest


def _deliver(context: dg.SensorEvaluationContext, task: Task, memory: Memory) -> Iterator[str]:
    """Send what waits, and say how that went; a channel that fails holds up no other."""
    for name, send in channels(task).items():
        waiting = memory.waiting[name]
        if not waiting.notices or time.time() < waiting.next_at:
            continue
        try:
            send([notice.model_dump() for notice in waiting.notices])
        except NoticeError as error:
            pause = min(_FIRST_PAUSE_S * 2**waiting.tries, _LONGEST_PAUSE_S)
            waiting.tries, waiting.next_at = waiting.tries + 1, time.time() + pause
            context.log.warning(f"{len(waiting.notices)} notices wait for {name}: {error}")
            yield f"{len(waiting.notices)} wait for {name}: {error}; tried again in {pause:.0f} s"
        else:
            yield f"told by {name}: {len(waiting.notices)}"
            memory.waiting[name] = Waiting()
