"""The asset `leaderboard`: what fine-tuning gained in every region of every task, kept up by a sensor of its own."""

from __future__ import annotations

import base64
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
import pandas as pd
from upath import UPath

from finetune_assets.dataset.contact_sheets import in_few_colours
from finetune_assets.evaluation import charts
from finetune_assets.evaluation.leaderboard import HEADLINES, Evaluated, Row, leaderboard, summary, to_html
from finetune_assets.evaluation.statistics import p_words, signed_parts
from finetune_assets.pipeline.resources import OutputsResource
from finetune_assets.pipeline.shown import views
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.results.files import address, write_atomically, write_json
from finetune_assets.task import Task

KEY = dg.AssetKey("leaderboard")
MAX_DRAWN = 20
"""Regions in the picture: it is stored in the event log."""
_COLOURS = 48
READING_SECONDS = 30
"""How long a tick reads what stages left; it is ended after 60."""


def gains_by_region(tasks: Sequence[Task]) -> dg.Definitions:
    """Return the asset, and the sensor that stores it again when a region was evaluated or has another champion.

    The sensor stores it without a run: a run would take longer than the reading.
    """
    keys = [asset_key(task, stage) for task in tasks for stage in ("benchmark", "champion")]

    kept = Kept()

    @dg.asset(
        key=KEY,
        # No `deps`: what is stored without a run would for ever be shown as behind them.
        group_name="overview",
        description="What fine-tuning gained in every region, adjusted for their number, and each region's champion.",
    )
    def compute(outputs: OutputsResource) -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata=write_leaderboard(kept.read(tasks, UPath(outputs.root)), outputs.root))

    @dg.sensor(
        name="leaderboard",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Makes the leaderboard again when a region was evaluated or has another champion.",
    )
    def keep_leaderboard(context: dg.SensorEvaluationContext, outputs: OutputsResource) -> dg.SensorResult:
        newest = context.instance.get_latest_materialization_events(keys)
        seen = str(max((record.timestamp for record in newest.values() if record), default=0))
        if seen in ("0", context.cursor):
            return dg.SensorResult(skip_reason="no region was evaluated since", cursor=context.cursor)
        try:
            found = kept.read(tasks, UPath(outputs.root), time.monotonic() + READING_SECONDS)
        except TimeoutError:
            unfinished = f"regions read until now: {len(kept.regions)}; the next tick goes on"
            return dg.SensorResult(skip_reason=unfinished, cursor=context.cursor)
        made = dg.AssetMaterialization(KEY, metadata=write_leaderboard(found, outputs.root))
        return dg.SensorResult(asset_events=[made], cursor=seen)

    return dg.Definitions(assets=[compute], sensors=[keep_leaderboard])


def write_leaderboard(found: Sequence[Evaluated], folder: str) -> dict[str, Any]:
    """Write `leaderboard.json` and its page with all regions; return the counts and extremes that Dagster shows."""
    rows, root = leaderboard(found), UPath(folder)
    write_json(root / "leaderboard.json", {"rows": [row.to_dict() for row in rows]})
    if not rows:
        return {"summary": "no region has been evaluated yet"}
    png = in_few_colours(charts.gains(_extremes(rows)), _COLOURS)
    url = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    write_atomically(root / "leaderboard.html", to_html(rows, url, partial(_address, root)).encode())
    return {
        "summary": summary(rows),
        **{f"n_{name}": sum(row.outcome == name for row in rows) for name in HEADLINES},
        "gains": views.picture(png, "gains by region"),
        "regions": views.table(pd.DataFrame(map(_shown, rows))),
        "page": views.page(root / "leaderboard.html"),
    }


def _extremes(rows: Sequence[Row]) -> list[Row]:
    """The regions that are drawn: all, or those with the largest and the smallest gains."""
    ordered = sorted(rows, key=lambda row: -row.difference.estimate)
    drawn = ordered if len(rows) <= MAX_DRAWN else ordered[: MAX_DRAWN // 2] + ordered[-MAX_DRAWN // 2 :]
    return [row for row in rows if row in drawn]


class Kept:
    """What the stages left of each region, read once as long as its files are the same."""

    def __init__(self) -> None:
        self.regions: dict[str, tuple[tuple[float, ...], Evaluated]] = {}
        """By the path of the benchmark: when its files were written, and what of them the table needs."""

    def read(self, tasks: Sequence[Task], root: UPath, until: float = math.inf) -> list[Evaluated]:
        """Return the evaluated regions; one that has a benchmark alone is there, too.

        Raises:
            TimeoutError: time is up, by the monotonic clock. What was read is kept.
        """
        found: dict[str, tuple[tuple[float, ...], Evaluated]] = {}
        for task in tasks:
            folder = root / task.task / "benchmark"
            for path in sorted(folder.glob("*.json")) if folder.exists() else ():
                if time.monotonic() > until:
                    self.regions |= found
                    raise TimeoutError(f"{root}: not all regions were read")
                files = [path, *(root / task.task / stage / path.name for stage in ("finetuned_model", "champion"))]
                written = tuple(file.stat().st_mtime if file.exists() else 0.0 for file in files)
                known = self.regions.get(str(path))
                found[str(path)] = known if known and known[0] == written else (written, _evaluated(task, *files))
        self.regions = found
        return [evaluated for _, evaluated in found.values()]


def _evaluated(task: Task, benchmark: UPath, model: UPath, standings: UPath) -> Evaluated:
    """Read a region's files, and keep what a row is made of: thousands of whole reports would fill the memory."""
    report = _read(benchmark)
    primary = report["primary"]
    slim = {name: report[name] for name in ("n", "primary", "p_value", "over_baseline")}
    slim |= {"comparisons": {primary: report["comparisons"][primary]}}
    slim |= {name: {"model": report[name]["model"]} for name in ("base", "fine_tuned")}
    history = _read(standings)["history"] if standings.exists() else []
    champion = {name: history[-1].get(name) for name in ("model", "since")} if history else None
    return Evaluated(task.task, benchmark.stem, slim, {"cost_usd": _read(model).get("cost_usd")}, champion)


def _read(path: UPath) -> dict[str, Any]:
    return orjson.loads(path.read_bytes())


def _address(root: UPath, row: Row) -> str:
    """Where the leaderboard leads: from a page in a folder that may be moved, or by an address of the store's own."""
    page = f"{row.task}/benchmark/{row.region}.html"
    return page if isinstance(root, Path) else address(root / page)


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
