"""Which regions a change of their task's YAML has made stale, and from which stage on."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import dagster as dg

from finetune_assets.pipeline.code_versions import code_version
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.task import Task

_CODE_VERSION = "dagster/code_version"
_MADE = dg.DagsterEventType.ASSET_MATERIALIZATION
_AT_ONCE = 500


def first_stale(
    instance: dg.DagsterInstance, task: Task, stages: Sequence[str], regions: Collection[str]
) -> dict[str, str]:
    """Return the first of these stages that each region has of an earlier YAML; a region that has none is left out.

    A stage that was never made, or before its code version was kept, is not stale.
    """
    found: dict[str, str] = {}
    for stage in stages:
        now = code_version(task, stage)
        for region, before in _versions(instance, task, stage, [name for name in regions if name not in found]).items():
            if before != now:
                found[region] = stage
    return {region: found[region] for region in regions if region in found}


def from_on(task: Task, stages: Sequence[str], first: str) -> list[dg.AssetKey]:
    """Return the keys of the stages that follow from one, itself included."""
    return [asset_key(task, stage) for stage in stages[stages.index(first) :]]


def _versions(instance: dg.DagsterInstance, task: Task, stage: str, regions: Collection[str]) -> dict[str, str]:
    """Code version of each region's newest materialization of a stage."""
    key = asset_key(task, stage)
    newest = instance.event_log_storage.get_latest_storage_id_by_partition(key, _MADE, set(regions)) if regions else {}
    wanted, found = sorted(newest.values()), {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = dg.AssetRecordsFilter(key, storage_ids=wanted[start : start + _AT_ONCE])
        for record in instance.fetch_materializations(part, limit=_AT_ONCE).records:
            made = record.asset_materialization
            if made and made.tags and (version := made.tags.get(_CODE_VERSION)):
                found[str(record.partition_key)] = version
    return found
