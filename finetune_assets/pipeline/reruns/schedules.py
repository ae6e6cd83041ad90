"""The schedules that look at a task again without being asked."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from finetune_assets.errors import FinetuneAssetsError, SourceError
from finetune_assets.pipeline.at_work import at_work
from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.reruns.changes import WHY, changed_data, decided_anew, news
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.pipeline.stage import EVALUATE, PREPARE, run_tags
from finetune_assets.pipeline.stages import reviews
from finetune_assets.pipeline.stale import first_stale, from_on
from finetune_assets.results.region import Outputs, Region
from finetune_assets.task import Rerun, Task

_SAID = 5
"""Regions that a doubt names, and doubts that a tick says."""


def rerun_schedule(task: Task, rerun: Rerun) -> dg.ScheduleDefinition:
    """Return the schedule `<task>_rerun`: changed regions up to `finetune_job`, at the times the task gives in UTC."""

    @dg.schedule(
        cron_schedule=rerun.schedule,
        job_name=f"{task.task}_prepare",
        name=f"{task.task}_rerun",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Prepares the regions again whose data, feedback or YAML has changed since their last run.",
    )
    def rerun_regions(
        context: dg.ScheduleEvaluationContext, outputs: OutputsResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        why, since, doubts = _changes(context, task, outputs.folder())
        busy = at_work(context.instance, task, why)
        # The run key is looked up within one tick only: a crashed tick that is repeated launches no region twice.
        for region, reason in why.items():
            if region in busy:
                context.log.info(f"{region} waits for another night ({reason}): {busy[region]}")
            else:
                selected = from_on(task, PREPARE, since[region]) if region in since else None
                tags = {WHY: reason, **run_tags(task, region)}
                yield dg.RunRequest(run_key=region, partition_key=region, tags=tags, asset_selection=selected)
        if not set(why) - set(busy):
            waiting = [f"{region}: {reason}, but {busy[region]}" for region, reason in why.items()]
            nothing = "neither data, feedback nor the YAML has changed in any other region since its last run"
            nothing = nothing if doubts else nothing.replace("any other", "any")
            yield dg.SkipReason("; ".join([*doubts, *(waiting or [nothing])]))

    return rerun_regions


def judging_schedule(task: Task, rerun: Rerun) -> dg.ScheduleDefinition:
    """Return the schedule `<task>_judge_again`: models whose task is judged otherwise by now, at the same times."""

    @dg.schedule(
        cron_schedule=rerun.schedule,
        job_name=f"{task.task}_evaluate",
        name=f"{task.task}_judge_again",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Judges the models again whose benchmark, calibrator or promotion the YAML has changed.",
    )
    def judge_again(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        instance, regions = context.instance, known_regions(task, context.instance)
        trained_anew = first_stale(instance, task, PREPARE, regions)
        stale = first_stale(instance, task, EVALUATE, [region for region in regions if region not in trained_anew])
        busy = at_work(instance, task, stale)
        for region, stage in stale.items():
            if region not in busy:
                tags, selected = {WHY: _of_yaml(stage), **run_tags(task, region)}, from_on(task, EVALUATE, stage)
                yield dg.RunRequest(run_key=region, partition_key=region, tags=tags, asset_selection=selected)
        if not set(stale) - set(busy):
            waiting = "; ".join(f"{region}: {busy[region]}" for region in stale)
            yield dg.SkipReason(waiting or "the YAML judges every model as it did")

    return judge_again


def _of_yaml(stage: str) -> str:
    return f"the task's YAML has changed what {stage} reads"


def _changes(
    context: dg.ScheduleEvaluationContext, task: Task, outputs: Outputs
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Say of each changed region what has changed, and what could not be looked at, which does not stop the rest.

    Of regions of which only the YAML has changed, the first stage that it made stale is returned too.
    """
    regions = known_regions(task, context.instance)
    why: dict[str, str] = {}
    doubts: list[str] = []
    readable: list[str] = []
    try:
        data = changed_data(context.instance, task, regions)
        why, doubts = dict(data.why), _in_words(data.doubts)
        readable = [region for region in regions if region not in data.doubts]
    except SourceError as error:
        doubts = [f"whether data has changed is not known: {error}"]
    try:
        for region, reason in _feedback(context.instance, task, regions, outputs):
            why[region] = f"{why[region]}; {reason}" if region in why else reason
    except FinetuneAssetsError as error:
        doubts.append(f"whether reviewers have decided more is not known: {error}")
    for doubt in doubts:
        context.log.warning(doubt)
    since = first_stale(context.instance, task, PREPARE, [region for region in readable if region not in why])
    return why | {region: _of_yaml(stage) for region, stage in since.items()}, since, doubts


def _in_words(doubts: dict[str, str]) -> list[str]:
    """Say the same thing once, of all the regions that it is true of."""
    regions: dict[str, list[str]] = {}
    for region, doubt in doubts.items():
        regions.setdefault(doubt, []).append(region)
    return [
        f"{', '.join(found[:_SAID])}{f' and {len(found) - _SAID} more' if len(found) > _SAID else ''}: {doubt}"
        for doubt, found in regions.items()
    ][:_SAID]


def _feedback(
    instance: dg.DagsterInstance, task: Task, regions: list[str], outputs: Outputs
) -> Iterator[tuple[str, str]]:
    db = reviews.opened()
    if db is None:
        return
    with db:
        for region in news(instance, db, task, regions):
            if n := decided_anew(db, Region(task, region, outputs)):
                yield region, f"{n} new decisions of reviewers"
