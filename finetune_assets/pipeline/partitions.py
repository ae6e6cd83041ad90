"""The partitions of a task are its regions, fixed by its YAML: visible in the UI at once and reviewed like code."""

from __future__ import annotations

import dagster as dg

from finetune_assets.task import Task


def region_partitions(task: Task) -> dg.StaticPartitionsDefinition:
    """Return one partition for each region of the task."""
    return dg.StaticPartitionsDefinition(task.regions)
