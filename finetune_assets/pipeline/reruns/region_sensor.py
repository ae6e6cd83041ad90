"""The sensor that registers the regions that have come into the data."""

from __future__ import annotations

import dagster as dg

from finetune_assets.dataset.sources import version
from finetune_assets.errors import SourceError
from finetune_assets.pipeline.partitions import compare_regions, known_regions, partitions_name
from finetune_assets.pipeline.reruns.changes import never_prepared
from finetune_assets.task import Task

MAX_LISTED = 20
"""Regions that a tick names."""


def region_sensor(task: Task) -> dg.SensorDefinition:
    """Return the sensor `<task>_regions`, which registers the regions that have come into the data.

    It launches nothing: whoever pays decides. The cursor is the version of the source's files, which are read whole
    only when that has changed.
    """

    @dg.sensor(
        name=partitions_name(task),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Registers regions that are new in the data. {_what_starts(task)}",
    )
    def register_new_regions(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            seen = version(task.source)
            if seen == context.cursor:
                return dg.SkipReason(f"the data has not changed{_waiting(task, context.instance)}")
            found = compare_regions(task, context.instance)
        except SourceError as error:
            return dg.SkipReason(f"the data cannot be read: {error}")
        gone = ""
        if found.gone:
            gone = f"; registered, but not in the data any more: {_listed(found.gone)}. Their models stay"
            context.log.warning(gone[2:])
        if not found.new:
            known = known_regions(task, context.instance)
            nothing = "no new regions" if known else "the data names no region; see `source` in the task's YAML"
            return dg.SensorResult(skip_reason=f"{nothing}{gone}{_waiting(task, context.instance)}", cursor=seen)
        words = f"new: {_listed(found.new)}. {_what_starts(task)}{gone}"
        context.log.info(words)
        request = dg.DynamicPartitionsDefinition(name=partitions_name(task)).build_add_request(found.new)
        return dg.SensorResult(skip_reason=words, dynamic_partitions_requests=[request], cursor=seen)

    return register_new_regions


def _what_starts(task: Task) -> str:
    """Say what becomes of a region that was discovered."""
    if task.rerun is None:
        return "Materialise a new region once in Dagster, or set `rerun` in the task's YAML to have it prepared."
    return f"The schedule `{task.task}_rerun` prepares a new region ({task.rerun.schedule}, UTC)."


def _waiting(task: Task, instance: dg.DagsterInstance) -> str:
    """Name the regions that are registered and were never prepared, with what starts them; "" where there are none."""
    waiting = never_prepared(instance, task, known_regions(task, instance))
    return f"; never prepared: {_listed(waiting)}. {_what_starts(task)}" if waiting else ""


def _listed(regions: list[str]) -> str:
    return f"{', '.join(regions[:MAX_LISTED])}{', ...' if len(regions) > MAX_LISTED else ''}"
