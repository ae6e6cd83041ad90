"""The asset `source`: a task's labelled data, as it was found. The graph begins here, and Dagster makes none of it."""

from __future__ import annotations

import dagster as dg

from finetune_assets.dataset.sources import version
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.task import Task

SOURCE = "source"


def source_asset(task: Task) -> dg.SourceAsset:
    """Return the asset, whose data version is that of the source's files whenever it is observed."""

    @dg.observable_source_asset(
        key=asset_key(task, SOURCE),
        group_name=task.task,
        description="The labelled data that the task reads. Observe it to see whether its files have changed.",
        metadata={"kind": task.source.kind},
        tags={**task.tags, f"dagster/kind/{task.source.kind}": ""},
        op_tags=task.op_tags,
    )
    def observe() -> dg.DataVersion:
        return dg.DataVersion(version(task.source))

    return observe
