"""The sensor that looks every day how long the regions' models will be there.

A model is judged when it is made, but its end may be announced later, and comes nearer every day. The cursor holds the
model of each region and what was said of it last; only other words are stored, as another result of `model_stays`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import dagster as dg
from pydantic import BaseModel

from finetune_assets.errors import ProviderError
from finetune_assets.pipeline.checks import model_checks
from finetune_assets.pipeline.checks.check import as_asked
from finetune_assets.pipeline.checks.history import keep_results
from finetune_assets.pipeline.following.memory import unread
from finetune_assets.pipeline.partitions import known_regions
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.provider.client import Client, connect
from finetune_assets.task import Task

MAX_REGIONS_PER_TICK = 20
"""Each costs about two short requests."""
ASKING_SECONDS = 15
"""How long a tick goes on asking. It is ended after 60, and one region's requests may take 40 of them."""
_TIMEOUT_S = 10


class Model(BaseModel):
    """The model of one region."""

    name: str
    base: str
    day: str
    """On which it was judged last, in UTC."""
    said: str = ""
    """The judgement, if it was made here."""


class Memory(BaseModel):
    """The sensor's cursor."""

    after: int = 0
    """Storage id of the last materialization that was read."""
    models: dict[str, Model] = {}
    """By region."""


def model_sensor(task: Task) -> dg.SensorDefinition:
    """Return the sensor `<task>_models`."""

    @dg.sensor(
        name=f"{task.task}_models",
        minimum_interval_seconds=600,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks once a day whether the end of a region's model is announced, and counts the days.",
    )
    def look_at_models(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        memory = Memory.model_validate_json(context.cursor) if context.cursor else Memory()
        _learn(context.instance, task, memory)
        today = str(datetime.now(UTC).date())
        regions = set(known_regions(task, context.instance))
        due = [region for region, model in memory.models.items() if model.day != today and region in regions]
        due = sorted(due, key=lambda region: memory.models[region].day)[:MAX_REGIONS_PER_TICK]
        until, events = time.monotonic() + ASKING_SECONDS, list[dg.AssetCheckEvaluation]()
        silent = ""
        try:
            client = connect(task.provider).with_options(timeout=_TIMEOUT_S, max_retries=1) if due else None
            for region in due:
                if client and time.monotonic() < until:
                    events += _judge(client, task, region, memory, today)
        except ProviderError as error:
            silent = f"; {error}"
        n_looked_at = sum(memory.models[region].day == today for region in due)
        nothing = f"models of regions: {len(memory.models)}, of which {n_looked_at} were looked at{silent}"
        return dg.SensorResult(
            skip_reason=None if events else nothing,
            cursor=memory.model_dump_json(),
            asset_events=keep_results(context, events),
        )

    return look_at_models


def _learn(instance: dg.DagsterInstance, task: Task, memory: Memory) -> None:
    key = asset_key(task, "finetuned_model")
    for record in unread(instance.fetch_materializations, key, memory.after):
        memory.after = record.storage_id
        made = record.asset_materialization
        known = {name: str(value.value) for name, value in made.metadata.items()} if made else {}
        if record.partition_key and "fine_tuned_model" in known:
            day = str(datetime.fromtimestamp(record.timestamp, UTC).date())
            name, base = known["fine_tuned_model"], known["base_model"]
            memory.models[record.partition_key] = Model(name=name, base=base, day=day)


def _judge(client: Client, task: Task, region: str, memory: Memory, today: str) -> list[dg.AssetCheckEvaluation]:
    """Judge a region's model once more; return the result if it is put in other words than the last one."""
    model = memory.models[region]
    judged = model_checks.model_stays(region, client, task, model.name, model.base)
    model.day = today
    if judged.description == model.said:
        return []
    model.said = judged.description or ""
    return [
        dg.AssetCheckEvaluation(
            asset_key=asset_key(task, "finetuned_model"),
            check_name=model_checks.MODEL_STAYS.name,
            passed=result.passed,
            description=result.description,
            metadata=result.metadata,
            severity=result.severity,
            partition=region,
        )
        for result in as_asked(task, judged)
    ]
