"""Which regions are at work just now: a run of them is going on, or their model is still to be trained or evaluated.

A region's round begins with a materialization of `finetune_job` and ends with one of `champion`, or with an observation
of it, which says why there is none. Between the two nothing else may prepare the region again: an evaluation reads what
preparing writes. A region whose job still waits for a free place has nothing to evaluate, and may be prepared again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from finetune_assets.pipeline.held_runs import is_held
from finetune_assets.pipeline.stage import EVALUATE, asset_key
from finetune_assets.task import Task

LAST = EVALUATE[-1]
"""The stage with which a region's round ends."""
_AT_ONCE = 500
_MADE = dg.DagsterEventType.ASSET_MATERIALIZATION
_OBSERVED = dg.DagsterEventType.ASSET_OBSERVATION


def at_work(instance: dg.DagsterInstance, task: Task, regions: Collection[str]) -> dict[str, str]:
    """Say which of these regions are at work, and at what."""
    if not regions:
        return {}
    submitted, ended = latest(instance, task, "finetune_job", regions), ends(instance, task, regions)
    made = latest(instance, task, "finetuned_model", regions)
    in_round = {
        region: "its model is being evaluated" if made.get(region, 0) > when else "its job is being trained"
        for region, when in submitted.items()
        if when > ended.get(region, 0)
    }
    for region in _waiting(instance, task, {region: submitted[region] for region in in_round}):
        del in_round[region]
    return in_round | dict.fromkeys(running(instance, task, regions), "a run of it is going on")


def running(instance: dg.DagsterInstance, task: Task, regions: Collection[str]) -> set[str]:
    """Return the regions of which a run is queued or going on; one that is held for its model is neither."""
    if not regions:
        return set()
    wanted = dg.RunsFilter(statuses=NOT_FINISHED_STATUSES, tags={"dagster/partition": sorted(regions)})
    return {
        run.tags["dagster/partition"] for run in instance.get_runs(wanted) if _is_of(run, task) and not is_held(run)
    }


def ends(instance: dg.DagsterInstance, task: Task, regions: Collection[str]) -> dict[str, int]:
    """Storage id of the event with which each region's last round ended, with a champion's stage or without."""
    found = dict(latest(instance, task, LAST, regions))
    for region, when in latest(instance, task, LAST, regions, _OBSERVED).items():
        found[region] = max(found.get(region, 0), when)
    return found


def latest(
    instance: dg.DagsterInstance,
    task: Task,
    stage: str,
    regions: Collection[str],
    kind: dg.DagsterEventType = _MADE,
) -> Mapping[str, int]:
    """Storage id of each region's newest event of a stage: its materialization, where nothing else is asked for."""
    key = asset_key(task, stage)
    return instance.event_log_storage.get_latest_storage_id_by_partition(key, kind, set(regions)) if regions else {}


def _waiting(instance: dg.DagsterInstance, task: Task, submitted: Mapping[str, int]) -> list[str]:
    """Return the regions whose `finetune_job`, by its storage id, names no job."""
    found, ids = list[str](), list(submitted.values())
    for start in range(0, len(ids), _AT_ONCE):
        part = dg.AssetRecordsFilter(asset_key(task, "finetune_job"), storage_ids=ids[start : start + _AT_ONCE])
        for record in instance.fetch_materializations(part, limit=_AT_ONCE).records:
            made = record.asset_materialization
            if made and "job_id" not in made.metadata:
                found.append(str(record.partition_key))
    return found


def _is_of(run: dg.DagsterRun, task: Task) -> bool:
    selected = run.asset_selection or ()
    return run.job_name.startswith(f"{task.task}_") or any(key.path[0] == task.task for key in selected)
