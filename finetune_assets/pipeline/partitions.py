"""The partitions of a task are its regions.

Regions fixed by the task's YAML are static: visible in the UI at once and reviewed like code. Where the YAML says
`discover` they are dynamic, under the name `<task>_regions`, and registered from the data: by the sensor of that
name, or by whoever wants to run the task at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from finetune_assets.dataset.sources import discover
from finetune_assets.task import Task


def region_partitions(task: Task) -> dg.StaticPartitionsDefinition | dg.DynamicPartitionsDefinition:
    """Return one partition for each region of the task."""
    if task.regions == "discover":
        return dg.DynamicPartitionsDefinition(name=partitions_name(task))
    return dg.StaticPartitionsDefinition(list(task.regions))


def partitions_name(task: Task) -> str:
    """Return the name under which an instance keeps the regions that were discovered."""
    return f"{task.task}_regions"


def known_regions(task: Task, instance: dg.DagsterInstance) -> list[str]:
    """List the regions that can be run: the YAML's, or those registered so far."""
    if task.regions == "discover":
        return list(instance.get_dynamic_partitions(partitions_name(task)))
    return list(task.regions)


@dataclass(frozen=True, slots=True)
class Compared:
    """The regions of the data beside those that are registered."""

    new: list[str]
    """In the data alone."""
    gone: list[str]
    """Registered alone."""


def compare_regions(task: Task, instance: dg.DagsterInstance) -> Compared:
    """Compare the data's regions with the registered ones; nothing for a task whose YAML names its regions.

    Raises:
        SourceError: the data cannot be read.
    """
    if task.regions != "discover":
        return Compared([], [])
    registered, found = known_regions(task, instance), discover(task.source)
    known, there = set(registered), set(found)
    return Compared(
        [region for region in found if region not in known], [region for region in registered if region not in there]
    )


def register_regions(task: Task, home: Path) -> None:
    """Register what the sensor would register at its next tick, in the Dagster instance at `home`.

    Raises:
        SourceError: the data cannot be read.
    """
    if task.regions == "discover":
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.add_dynamic_partitions(partitions_name(task), compare_regions(task, instance).new)
