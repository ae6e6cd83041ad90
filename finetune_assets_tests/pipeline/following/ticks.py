"""Ticks of the job sensor, and the events that it reads."""

from __future__ import annotations

import dagster as dg

from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.task import Task

JOB_KEY = dg.AssetKey(["cells", "finetune_job"])
MODEL_KEY = dg.AssetKey(["cells", "finetuned_model"])


def submit(instance: dg.DagsterInstance, region: str, job_id: str, **facts: str) -> int:
    """Materialise `finetune_job` as a run would, and return the storage id of the event."""
    event = dg.AssetMaterialization(JOB_KEY, partition=region, metadata={"job_id": job_id, **facts})
    instance.report_runless_asset_event(event)
    return instance.fetch_materializations(JOB_KEY, limit=1).records[0].storage_id


def tick(task: Task, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    result = job_sensor(task)(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def said(result: dg.SensorResult) -> str:
    """What a tick says that requests nothing."""
    return result.skip_reason.skip_message or "" if isinstance(result.skip_reason, dg.SkipReason) else ""
