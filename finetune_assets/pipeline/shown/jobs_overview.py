"""The asset `finetune_jobs`: the jobs of all tasks and regions in one table, kept up by a sensor of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import dagster as dg
import pandas as pd

from finetune_assets.pipeline.shown import views
from finetune_assets.provider.months import MonthRow
from finetune_assets.provider.overview import JobRow, Overview, overview
from finetune_assets.task import Task

KEY = dg.AssetKey("finetune_jobs")
ROWS = 100
_SECONDS = 25
"""How long a tick asks providers; it is ended after 60, and one that does not answer takes 20 of them."""


def jobs_overview(tasks: Sequence[Task]) -> dg.Definitions:
    """Return the asset, which looks when it is materialised, and the sensor, which looks every minute.

    The sensor stores what has changed without a run: a run would take longer than the look.
    """

    @dg.asset(key=KEY, group_name="overview", description="The newest fine-tuning jobs of every provider in use.")
    def finetune_jobs() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=_metadata(overview(tasks, ROWS)))

    @dg.sensor(
        name="finetune_jobs_overview",
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Looks at the jobs of every provider, and stores the table when it has changed.",
    )
    def look_at_jobs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        found = overview(tasks, ROWS, seconds=_SECONDS)
        seen = hashlib.sha256(repr(found.jobs).encode()).hexdigest()
        if seen == context.cursor or not found.jobs:
            return dg.SensorResult(skip_reason="; ".join(found.silent) or "nothing has changed", cursor=context.cursor)
        made = dg.AssetMaterialization(KEY, metadata=_metadata(found))
        return dg.SensorResult(asset_events=[made], cursor=seen)

    return dg.Definitions(assets=[finetune_jobs], sensors=[look_at_jobs])


def _metadata(found: Overview) -> dict[str, dg.MetadataValue | int]:
    table = pd.DataFrame([job.to_dict() for job in found.jobs], columns=list(JobRow.__dataclass_fields__))
    states = table["status"].value_counts()
    spent = pd.DataFrame([month.to_dict() for month in found.months], columns=list(MonthRow.__dataclass_fields__))
    return {
        "jobs": views.table(table, rows=ROWS),
        "spent_by_month": views.table(spent, rows=ROWS),
        **{f"n_{state}": int(n) for state, n in states.items()},
        **({"not_asked": dg.MetadataValue.text("; ".join(found.silent))} if found.silent else {}),
    }
