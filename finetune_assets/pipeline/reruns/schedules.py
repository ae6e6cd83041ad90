"""The schedule that looks at a task again without being asked."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from finetune_assets.errors import FinetuneAssetsError, SourceError
from finetune_assets.pipeline.at_work import at_work
from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.reruns.changes import WHY, changed_data, decided_anew, news
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.pipeline.stage import run_tags
from finetune_assets.pipeline.stages import reviews
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
        description="Prepares the regions again whose data or reviewers' feedback has changed since their last run.",
    )
    def rerun_regions(
        context: dg.ScheduleEvaluationContext, outputs: OutputsResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        why, doubts = _changes(context, task, outputs.folder())
        busy = at_work(context.instance, task, why)
        # The run key is looked up within one tick only: a crashed tick that is repeated launches no region twice.
        for region, reason in why.items():
            if region in busy:
                context.log.info(f"{region} waits for another night ({reason}): {busy[region]}")
            else:
                yield dg.RunRequest(run_key=region, partition_key=region, tags={WHY: reason, **run_tags(task, region)})
        if not set(why) - set(busy):
            waiting = [f"{region}: {reason}, but {busy[region]}" for region, reason in why.items()]
            nothing = "neither data nor feedback has changed in any other region since its last run"
            nothing = nothing if doubts else nothing.replace("any other", "any")
            yield dg.SkipReason("; ".join([*doubts, *(waiting or [nothing])]))

    return rerun_regions


def _changes(context: dg.ScheduleEvaluationContext, task: Task, outputs: Outputs) -> tuple[dict[str, str], list[str]]:
    """Say of each changed region what has changed, and what could not be looked at, which does not stop the rest."""
    regions = known_regions(task, context.instance)
    why: dict[str, str] = {}
    doubts: list[str] = []
    try:
        data = changed_data(context.instance, task, regions)
        why, doubts = dict(data.why), _in_words(data.doubts)
    except SourceError as error:
        doubts = [f"whether data has changed is not known: {error}"]
    try:
        for region, reason in _feedback(context.instance, task, regions, outputs):
            why[region] = f"{why[region]}; {reason}" if region in why else reason
    except FinetuneAssetsError as error:
        doubts.append(f"whether reviewers have decided more is not known: {error}")
    for doubt in doubts:
        context.log.warning(doubt)
    return why, doubts


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
