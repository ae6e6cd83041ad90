"""The sensors of a task: one follows submitted jobs, so that no run has to wait for one; one registers new regions.

The first learns of jobs from the materializations of `finetune_job` and asks the provider how they stand. While a job
runs, its progress becomes an observation of `finetuned_model`; when it succeeds, the run that evaluates it is
requested; when it ends otherwise, the check `job_succeeded` of its region fails with the provider's reason. The cursor
holds all that is remembered; without it the event log is read again from its beginning, and the run keys keep runs
from repeating.
"""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from finetune_assets.dataset.sources import version
from finetune_assets.errors import ProviderError, SourceError
from finetune_assets.pipeline import checks
from finetune_assets.pipeline.partitions import known_regions, new_regions, partitions_name
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.provider import fine_tuning
from finetune_assets.provider.client import Client, connect
from finetune_assets.task import Task

MAX_RUNS_PER_TICK = 100
MAX_PROGRESS_PER_TICK = 20
"""Running jobs whose events are read in one tick; each costs a request, and a tick has 60 seconds."""

_READ_AT_ONCE = 1000
_TIMEOUT_S = 10


class Submitted(BaseModel):
    """A job that is not known to have ended."""

    job_id: str
    storage_id: int
    """Of the materialization that named it; one evaluation is requested for each."""
    said: str = ""
    """The progress reported last."""


class Memory(BaseModel):
    """What the sensor knows from one tick to the next."""

    after: int = 0
    """Storage id of the last materialization that was read."""
    open: dict[str, Submitted] = {}
    """By region; a region that was submitted again has its newest job."""


def job_sensor(task: Task, job: str) -> dg.SensorDefinition:
    """Return the sensor `<task>_jobs`, which requests runs of `job` (by name)."""

    @dg.sensor(
        job_name=job,
        name=f"{task.task}_jobs",
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Follows submitted fine-tuning jobs and has each region evaluated when its job succeeds.",
    )
    def follow_jobs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        memory = Memory.model_validate_json(context.cursor) if context.cursor else Memory()
        _learn(context.instance, task, memory)
        if not memory.open:
            return dg.SensorResult(skip_reason="no jobs in flight", cursor=memory.model_dump_json())
        try:
            client = connect(task.provider).with_options(timeout=_TIMEOUT_S, max_retries=1)
            requests, events = _follow(client, task, memory)
        except ProviderError as error:
            # Without a new cursor the next tick starts from the same place, whatever had been done of this one.
            return dg.SkipReason(f"jobs in flight: {len(memory.open)}, but their provider cannot be asked: {error}")
        waiting = None if requests else f"jobs in flight: {len(memory.open)}"
        return dg.SensorResult(requests, waiting, memory.model_dump_json(), asset_events=events)

    return follow_jobs


def region_sensor(task: Task) -> dg.SensorDefinition:
    """Return the sensor `<task>_regions`, which registers the regions that have come into the data.

    It launches nothing: whoever pays decides. The cursor is the version of the source's files, which are read whole
    only when that has changed.
    """

    @dg.sensor(
        name=partitions_name(task),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Registers regions that are new in the data, so that they can be materialised.",
    )
    def register_new_regions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            seen = version(task.source)
            if seen == context.cursor:
                return dg.SkipReason("the data has not changed")
            found = new_regions(task, context.instance)
        except SourceError as error:
            return dg.SkipReason(f"the data cannot be read: {error}")
        if not found:
            known = known_regions(task, context.instance)
            nothing = "no new regions" if known else "the data names no region; see `source` in the task's YAML"
            return dg.SensorResult(skip_reason=nothing, cursor=seen)
        request = dg.DynamicPartitionsDefinition(name=partitions_name(task)).build_add_request(found)
        return dg.SensorResult(dynamic_partitions_requests=[request], cursor=seen)

    return register_new_regions


def _learn(instance: dg.DagsterInstance, task: Task, memory: Memory) -> None:
    """Read the materializations of `finetune_job` that came since the last tick."""
    regions = set(known_regions(task, instance))
    more = True
    while more:
        unread = dg.AssetRecordsFilter(asset_key(task, "finetune_job"), after_storage_id=memory.after)
        page = instance.fetch_materializations(unread, limit=_READ_AT_ONCE, ascending=True)
        for record in page.records:
            memory.after = record.storage_id
            made = record.asset_materialization
            job_id = made.metadata.get("job_id") if made else None
            # Neither a region that the task no longer has, nor an event that someone reported by hand without a job.
            if record.partition_key in regions and job_id is not None:
                memory.open[record.partition_key] = Submitted(job_id=str(job_id.value), storage_id=record.storage_id)
        more = page.has_more


def _follow(
    client: Client, task: Task, memory: Memory
) -> tuple[list[dg.RunRequest], list[dg.AssetObservation | dg.AssetCheckEvaluation]]:
    """Ask how the open jobs stand; those that have ended leave the memory."""
    jobs = fine_tuning.find_jobs(client, {submitted.job_id for submitted in memory.open.values()})
    requests: list[dg.RunRequest] = []
    events: list[dg.AssetObservation | dg.AssetCheckEvaluation] = []
    n_running = 0
    for region, submitted in list(memory.open.items()):
        job = jobs.get(submitted.job_id)
        if job is None or job.status in fine_tuning.FAILED:
            events.append(_failure(task, region, submitted, job))
            del memory.open[region]
        elif job.status == "succeeded":
            if len(requests) < MAX_RUNS_PER_TICK:
                requests.append(_evaluation(region, submitted))
                del memory.open[region]
        elif job.status != "running" or (n_running := n_running + 1) <= MAX_PROGRESS_PER_TICK:
            events += _news(client, task, region, submitted, job)
    return requests, events


def _evaluation(region: str, submitted: Submitted) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=f"{submitted.job_id}:{submitted.storage_id}",
        partition_key=region,
        tags={"finetune_assets/job_id": submitted.job_id},
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


def _news(
    client: Client, task: Task, region: str, submitted: Submitted, job: fine_tuning.Job
) -> list[dg.AssetObservation]:
    """Observe the progress of a job, if there is any since it was observed last."""
    progress = fine_tuning.progress(client, job)
    if str(progress) == submitted.said:
        return []
    submitted.said = str(progress)
    known = {name: value for name, value in vars(progress).items() if value is not None}
    if finish := known.pop("estimated_finish", None):
        known["estimated_finish"] = dg.MetadataValue.timestamp(float(finish))
    key = asset_key(task, "finetuned_model")
    return [dg.AssetObservation(key, str(progress), metadata={"job_id": job.id, **known}, partition=region)]
