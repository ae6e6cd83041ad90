"""The sensor that looks every hour at what the regions' champions were asked, and what people said of it.

No run needs to be started for that: its checks are those of the asset `champion`. The cursor holds what was said of
each region last; only other words are stored.
"""

from __future__ import annotations

import dagster as dg
from pydantic import BaseModel

from finetune_assets.pipeline.checks.check import as_asked
from finetune_assets.pipeline.checks.history import keep_results
from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.pipeline.stages.in_use import judged
from finetune_assets.results.region import Region
from finetune_assets.results.standing import standing
from finetune_assets.task import Task

MAX_REGIONS_PER_TICK = 20


class Memory(BaseModel):
    """The sensor's cursor."""

    said: dict[str, str] = {}
    """What was said last, by region and check."""
    next: int = 0
    """Place of the region that is looked at next: many are looked at in turn."""


def use_sensor(task: Task) -> dg.SensorDefinition:
    """Return the sensor `<task>_in_use`."""

    @dg.sensor(
        name=f"{task.task}_in_use",
        minimum_interval_seconds=3600,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks whether champions keep what was promised of them, and are asked what they were judged on.",
    )
    def look_at_use(context: dg.SensorEvaluationContext, outputs: OutputsResource) -> dg.SensorResult:
        memory = Memory.model_validate_json(context.cursor) if context.cursor else Memory()
        regions = sorted(known_regions(task, context.instance))
        turned = [*regions[memory.next :], *regions[: memory.next]][:MAX_REGIONS_PER_TICK]
        memory.next = (memory.next + len(turned)) % max(1, len(regions))
        events = [event for name in turned for event in _judge(Region(task, name, outputs.folder()), memory)]
        nothing = None if events else f"there is nothing new of {len(turned)} regions"
        stored = keep_results(context, events)
        return dg.SensorResult(skip_reason=nothing, cursor=memory.model_dump_json(), asset_events=stored)

    return look_at_use


def _judge(region: Region, memory: Memory) -> list[dg.AssetCheckEvaluation]:
    """Judge a region's champion; return the results that are put in other words than the last ones."""
    champion, events = standing(region).champion, []
    if champion is None:
        return []
    for result in (asked for found in judged(region, champion) for asked in as_asked(region.task, found)):
        name = f"{region.name}:{result.check_name}"
        if memory.said.get(name) != result.description:
            memory.said[name] = result.description or ""
            events.append(
                dg.AssetCheckEvaluation(
                    asset_key=asset_key(region.task, "champion"),
                    check_name=result.check_name,
                    passed=result.passed,
                    description=result.description,
                    metadata=result.metadata,
                    severity=result.severity,
                    partition=region.name,
                )
            )
    return events
