"""The schedule that looks at a task again without being asked."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.task import Rerun, Task


def rerun_schedule(task: Task, rerun: Rerun) -> dg.ScheduleDefinition:
    """Return the schedule `<task>_rerun`: every region up to `finetune_job`, at the task's cron expression in UTC.

    Unchanged data costs nothing: its upload and its job are found again at the provider.
    """

    @dg.schedule(
        cron_schedule=rerun.schedule,
        job_name=f"{task.task}_prepare",
        name=f"{task.task}_rerun",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Prepares every region again; only changed data makes a new job.",
    )
    def rerun_regions(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        # The run key is looked up within one tick only: a crashed tick that is repeated launches no region twice.
        for region in known_regions(task, context.instance):
            yield dg.RunRequest(run_key=region, partition_key=region)

    return rerun_regions
