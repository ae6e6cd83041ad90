"""The asset `leaderboard`: what fine-tuning gained in every region of every task, kept up by a sensor of its own."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import orjson
import pandas as pd
from upath import UPath

from finetune_assets.evaluation import charts
from finetune_assets.evaluation.leaderboard import HEADLINES, Evaluated, Row, leaderboard, summary, to_html
from finetune_assets.evaluation.statistics import p_words, signed_parts
from finetune_assets.pipeline.io_manager import write_atomically, write_json
from finetune_assets.pipeline.resources import Outputs
from finetune_assets.pipeline.shown import views
from finetune_assets.pipeline.stage import EVALUATE, asset_key
from finetune_assets.task import Task

KEY = dg.AssetKey("leaderboard")


def gains_by_region(tasks: Sequence[Task]) -> dg.Definitions:
    """Return the asset, and the sensor that stores it again when a region was evaluated or has another champion.

    The sensor stores it without a run: a run would take longer than the reading.
    """
    keys = [asset_key(task, stage) for task in tasks for stage in ("benchmark", "champion")]

    @dg.asset(
        key=KEY,
        # No `deps`: what is stored without a run would for ever be shown as behind them.
        group_name="overview",
        description="What fine-tuning gained in every region, adjusted for their number, and each region's champion.",
    )
    def compute(outputs: Outputs) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=write_leaderboard(tasks, UPath(outputs.root)))

    @dg.sensor(
        name="leaderboard",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes the leaderboard again when a region was evaluated or has another champion.",
    )
    def keep_leaderboard(context: dg.SensorEvaluationContext, outputs: Outputs) -> dg.SensorResult:
        newest = context.instance.get_latest_materialization_events(keys)
        seen = str(max((record.timestamp for record in newest.values() if record), default=0))
        if seen in ("0", context.cursor):
            return dg.SensorResult(skip_reason="no region was evaluated since", cursor=context.cursor)
        made = dg.AssetMaterialization(KEY, metadata=write_leaderboard(tasks, UPath(outputs.root)))
        return dg.SensorResult(asset_events=[made], cursor=seen)

    return dg.Definitions(assets=[compute], sensors=[keep_leaderboard])


def write_leaderboard(tasks: Sequence[Task], root: UPath) -> dict[str, Any]:
    """Write `leaderboard.json` and its page from what the stages left under `root`; return what Dagster shows of it."""
    rows = leaderboard(list(_evaluated(tasks, root)))
    write_json(root / "leaderboard.json", {"rows": [row.to_dict() for row in rows]})
    if not rows:
        return {"summary": "no region has been evaluated yet"}
    png = charts.gains(rows)
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    write_atomically(root / "leaderboard.html", to_html(rows, url, _address).encode())
    return {
        "summary": summary(rows),
        "gains": views.picture(png, "gains by region"),
        "regions": views.table(pd.DataFrame(map(_shown, rows)), rows=100),
        "page": dg.MetadataValue.path(str(root / "leaderboard.html")),
    }


def _evaluated(tasks: Sequence[Task], root: UPath) -> Iterator[Evaluated]:
    """Read what the stages left of each region; one that has a benchmark alone is shown, too."""
    for task in tasks:
        stages = {stage: root / task.task / stage for stage in EVALUATE}
        for path in sorted(stages["benchmark"].glob("*.json")) if stages["benchmark"].exists() else ():
            models, standings = (stages[stage] / path.name for stage in ("finetuned_model", "champion"))
            history = _read(standings)["history"] if standings.exists() else []
            champion = history[-1] if history else None
            yield Evaluated(task.task, path.stem, _read(path), _read(models), champion)


def _read(path: UPath) -> dict[str, Any]:
    return orjson.loads(path.read_bytes())


def _address(row: Row) -> str:
    return f"{row.task}/benchmark/{row.region}.html"


def _shown(row: Row) -> dict[str, Any]:
    change, low, high = signed_parts(row.difference, scale=100)
    return {
        "task": row.task,
        "region": row.region,
        "n": row.n,
        "base": f"{100 * row.base:.1f}",
        "fine-tuned": f"{100 * row.fine_tuned:.1f}",
        "gain [95 %]": f"{change} [{low}, {high}]",
        "p (Holm)": p_words(row.p_holm),
        "that is": HEADLINES[row.outcome],
        "champion": row.champion or "none",
    }
