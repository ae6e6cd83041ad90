"""The runs that evaluate trained models: requested, watched to their end, and requested again where they fail.

A run that fails, or that somebody cancels, is followed by another one after a pause, each pause longer than the one
before. One that a check has stopped is not: the next would be stopped as well. What has ended without a champion's
stage is told by a failed check and by an observation, which ends the region's round.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence

import dagster as dg

from finetune_assets.pipeline.at_work import LAST, latest, running
from finetune_assets.pipeline.checks.model_checks import EVALUATED
from finetune_assets.pipeline.following.memory import Due, Memory
from finetune_assets.pipeline.held_runs import let_go
from finetune_assets.pipeline.stage import asset_key, run_tags
from finetune_assets.task import Task

MAX_ATTEMPTS = 6
"""The last one five hours after the first: a provider's bad afternoon is over by then."""
MAX_RUNS_PER_TICK = 100
MAX_LOOKED_AT_PER_TICK = 200
FIRST_PAUSE_S = 60
_LONGER = 4
"""Each pause is so many times the one before."""
_JOB = "finetune_assets/job_id"
_KEY = "dagster/run_key"
_UNSUCCESSFUL = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.SUCCESS)
"""A run that succeeds without the last stage has evaluated nothing."""

Event = dg.AssetObservation | dg.AssetCheckEvaluation


def evaluations(
    instance: dg.DagsterInstance, task: Task, memory: Memory, held: Mapping[str, dg.DagsterRun]
) -> tuple[list[dg.RunRequest], list[Event]]:
    """Request the evaluation of models that are due; those that are evaluated, or cannot be, leave the memory.

    Where a run is held for the model, that one is let go instead.
    """
    looked_at = sorted(memory.due, key=lambda region: memory.due[region].looked)[:MAX_LOOKED_AT_PER_TICK]
    for region, made in latest(instance, task, LAST, looked_at).items():
        if made > memory.due[region].storage_id:
            del memory.due[region]
    open_still = [region for region in looked_at if region in memory.due]
    runs = _runs(instance, task, [memory.due[region] for region in open_still])
    busy = running(instance, task, open_still)
    requests: list[dg.RunRequest] = []
    events: list[Event] = []
    for region in open_still:
        due = memory.due[region]
        due.looked = memory.tick
        mine = [run for run in runs if _is_for(run, due)]
        if region in busy or _goes_on(mine, due) or len(requests) == MAX_RUNS_PER_TICK:
            continue
        if due.attempts and mine and not due.failed:
            due.failed = True
            events += _failed(instance, task, region, memory, mine[0])
        if region in memory.due and time.time() >= again_at(due):
            request = _request(task, region, due, mine)
            if region in held:
                let_go(instance, held[region], {**request.tags, _KEY: str(request.run_key)})
            else:
                requests.append(request)
    return requests, events


def again_at(due: Due) -> float:
    """When the next run may be requested, in Unix seconds, if the last one has failed."""
    return due.at + FIRST_PAUSE_S * _LONGER ** (due.attempts - 1) if due.attempts else 0


def _runs(instance: dg.DagsterInstance, task: Task, due: Collection[Due]) -> Sequence[dg.DagsterRun]:
    """The runs that were requested for these models, newest first."""
    if not due:
        return []
    named = {_JOB: sorted({one.job_id for one in due})}
    return instance.get_runs(dg.RunsFilter(job_name=f"{task.task}_evaluate", tags=named))


def _is_for(run: dg.DagsterRun, due: Due) -> bool:
    return f"{run.tags.get(_KEY)}:".startswith(f"{due.job_id}:{due.storage_id}:")


def _goes_on(runs: Sequence[dg.DagsterRun], due: Due) -> bool:
    """Whether the last request is not settled: its run has not begun, or Dagster itself starts it again."""
    if not runs:
        return time.time() < due.at + FIRST_PAUSE_S
    return runs[0].status not in _UNSUCCESSFUL or runs[0].is_complete_and_waiting_to_retry


def _request(task: Task, region: str, due: Due, runs: Sequence[dg.DagsterRun]) -> dg.RunRequest:
    # Counted by the runs that there are: a lost cursor does not know them.
    n_before = len({run.tags[_KEY] for run in runs})
    due.attempts, due.at, due.failed = due.attempts + 1, time.time(), False
    return dg.RunRequest(
        run_key=f"{due.job_id}:{due.storage_id}{f':{n_before + 1}' if n_before else ''}",
        job_name=f"{task.task}_evaluate",
        partition_key=region,
        tags={_JOB: due.job_id, **run_tags(task, region)},
    )


def _failed(instance: dg.DagsterInstance, task: Task, region: str, memory: Memory, run: dg.DagsterRun) -> list[Event]:
    """Say that a run has failed, and what follows; a model that is given up leaves the memory."""
    due = memory.due[region]
    why, is_blocked = why_failed(instance, run)
    said = f"Region {region}: attempt {due.attempts} to evaluate the model of job {due.job_id} failed: {why}"
    if not is_blocked and due.attempts < MAX_ATTEMPTS:
        when = time.strftime("%d %B, %H:%M UTC", time.gmtime(again_at(due)))
        words = f"{said}. It is tried again after {when}."
        return [dg.AssetObservation(asset_key(task, "finetuned_model"), words, partition=region)]
    memory.forget(region)
    advice = "Materialise finetuned_model, benchmark, calibrator and champion when its cause is gone."
    return not_evaluated(task, region, f"{said}. {advice}")


def end_held(
    instance: dg.DagsterInstance, memory: Memory, held: Mapping[str, dg.DagsterRun], told: Sequence[Event]
) -> None:
    """End the runs that are held for a model that will not come: failed, where a check says why, else cancelled."""
    why = {one.partition: one.description for one in told if isinstance(one, dg.AssetCheckEvaluation)}
    for region, run in held.items():
        if region in memory.open or region in memory.waiting or region in memory.due:
            continue
        if words := why.get(region):
            instance.report_run_failed(run, words)
        else:
            instance.report_run_canceled(run, f"Region {region}: no model is waited for any more.")


def not_evaluated(task: Task, region: str, words: str) -> list[Event]:
    """Return the events that tell of a model that is given up."""
    failed = dg.AssetCheckEvaluation(
        asset_key=asset_key(task, LAST), check_name=EVALUATED.name, passed=False, description=words, partition=region
    )
    return [failed, round_over(task, region, words)]


def round_over(task: Task, region: str, words: str) -> dg.AssetObservation:
    """Return the event that ends a region's round without a champion's stage."""
    return dg.AssetObservation(asset_key(task, LAST), words, partition=region)


def why_failed(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[str, bool]:
    """Say why a run has failed, and whether a check has stopped it."""
    if run.status is dg.DagsterRunStatus.CANCELED:
        return "its run was cancelled", False
    if run.status is dg.DagsterRunStatus.SUCCESS:
        return "its run made no champion's stage", False
    records = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1).records
    event = records[0].event_log_entry.dagster_event if records else None
    error = event.step_failure_data.error if event else None
    if error is None:
        return "its run was ended from outside", False
    while error.cause is not None:
        error = error.cause
    return error.message.strip(), error.cls_name == "DagsterAssetCheckFailedError"
