"""Evaluations that lie in Dagster's queue until their model is there, so that a backfill over all stages waits for it.

A backfill counts as failed where its last run has ended and a stage was made by none of them. So a run of a backfill
whose job is still being trained puts an evaluation behind itself: a run of the same backfill, which the queue does not
let go (`tag_concurrency_limits` in `dagster.yaml`). It needs no process and no place. The job sensor lets it go when
the model is there, and ends it where none will come.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from finetune_assets.task import Task

HOLD = "finetune_assets/hold"
"""Tag of a run that the queue keeps, by the name of its task; "no" once it may go."""
KEPT = "until its model is there"
_OF = "finetune_assets/task"
_BACKFILL = "dagster/backfill"
_PARTITION = "dagster/partition"


def hold_evaluation(context: dg.AssetExecutionContext, task: Task, tags: Mapping[str, str]) -> str:
    """Put the evaluation of a region behind a run of a backfill, and say so; "" for any other run.

    Args:
        context: Of the step that has found no model yet.
        task: Whose region it is.
        tags: Of every run of that region.
    """
    run, instance = context.run, context.instance
    if _BACKFILL not in run.tags or run.remote_job_origin is None:
        return ""
    if not _queue_holds(instance):
        return f"; its backfill ends as failed, for `dagster.yaml` does not hold runs by the tag {HOLD}"
    name = f"{task.task}_evaluate"
    job = context.repository_def.get_job(name)
    asked: Any = run.run_config.get("ops") or {}
    steps = {name: config for name, config in asked.items() if job.has_node_named(name)}
    kept = {key: run.tags[key] for key in (_BACKFILL, _PARTITION)}
    held = instance.create_run_for_job(
        job,
        run_config={**run.run_config, "ops": steps} if steps else {},
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={**job.run_tags, **tags, **kept, HOLD: KEPT, _OF: task.task, "dagster/sensor_name": f"{task.task}_jobs"},
        remote_job_origin=run.remote_job_origin.repository_origin.get_job_origin(name),
    )
    instance.report_dagster_event(dg.DagsterEvent.job_enqueue(held), held.run_id)
    return f"; its evaluation, run {held.run_id[:8]}, waits in the queue, and its backfill for that"


def held_runs(instance: dg.DagsterInstance, task: Task) -> dict[str, dg.DagsterRun]:
    """Return the runs that wait for a model, by region: of several the oldest."""
    queued = [dg.DagsterRunStatus.QUEUED]
    found = instance.get_runs(dg.RunsFilter(statuses=queued, tags={HOLD: KEPT, _OF: task.task}))
    return {run.tags[_PARTITION]: run for run in found}


def is_held(run: dg.DagsterRun) -> bool:
    """Say whether a run only waits for a model."""
    return run.tags.get(HOLD) == KEPT


def let_go(instance: dg.DagsterInstance, run: dg.DagsterRun, tags: Mapping[str, str]) -> None:
    """Have a run start when its turn comes, with the tags that the sensor gives its runs."""
    instance.add_run_tags(run.run_id, {**tags, HOLD: "no"})


def _queue_holds(instance: dg.DagsterInstance) -> bool:
    queue = instance.get_concurrency_config().run_queue_config
    limits = (queue.tag_concurrency_limits if queue else None) or ()
    return any((limit["key"], limit.get("value"), limit["limit"]) == (HOLD, KEPT, 0) for limit in limits)
