"""How long Dagster's ticks take on a task with 10,000 regions, whose source has 400,000 rows.

    PYTHONPATH=. python benchmarks/regions.py --regions 10000 --rows 400000

The nightly comparison reads the whole source once, after a file of it has changed, and finds the regions whose rows
did. The tick of the schedule asks beside it for feedback, stale stages and runs; that of the region sensor looks for
new regions. The leaderboard's first tick reads what the stages left of every region, and what it stores is measured.
Dagster ends a tick after 60 seconds, and each of these stops by itself before. Exit code 1 if one does not finish, a
change is missed or made up, or an event has more than 50 kB.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import orjson
from upath import UPath

from finetune_assets.dataset.sources import digests, version
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.pipeline.component import build_task
from finetune_assets.pipeline.reruns.changes import changed_data
from finetune_assets.pipeline.resources import output_resources
from finetune_assets.pipeline.shown.leaderboard import gains_by_region
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.pipeline.stages.assets import SOURCE_FILES, SOURCE_ROWS
from finetune_assets.results.files import write_json
from finetune_assets.task import Task
from finetune_assets_tests.evaluation.predictions import predictions

TICK_SECONDS, EVENT_BYTES, N_CHANGED = 60.0, 50_000, 50


def main() -> int:
    """Measure and print; exit code 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--regions", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=400_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, dg.DagsterInstance.local_temp(name) as instance:
        os.environ["FINETUNE_ASSETS_FEEDBACK_DB"] = f"sqlite:///{name}/reviews.sqlite"
        return measure(Path(name), instance, options.regions, options.rows)


def measure(folder: Path, instance: dg.DagsterInstance, n_regions: int, n_rows: int) -> int:
    """Prepare all regions, change the rows of a few, and time what Dagster does every minute and every night."""
    table, regions = folder / "rows.jsonl", [f"region_{number:05}" for number in range(n_regions)]
    write_rows(table, regions, n_rows, changed=set())
    task = make_task(table, regions)
    prepared(instance, task, regions)
    changed = set(regions[:: max(1, n_regions // N_CHANGED)])
    write_rows(table, regions, n_rows, changed)
    print(f"{n_regions:,} regions, {n_rows:,} rows ({table.stat().st_size / 1e6:,.0f} MB), {len(changed)} changed")

    found, good = timed("nightly comparison, one pass", lambda: changed_data(instance, task, regions))
    good &= said("it names the changed regions alone", set(found.why) == changed and not found.doubts)
    resources = output_resources(str(folder / "outputs"))
    definitions = dg.Definitions.merge(build_task(task), dg.Definitions(resources=resources))
    repository, given = definitions.get_repository_def(), {"outputs": resources["outputs"]}
    with dg.build_schedule_context(instance, None, given, repository) as context:
        schedule = definitions.resolve_schedule_def("cells_rerun")
        tick, in_time = timed("the nightly schedule's tick", lambda: schedule.evaluate_tick(context))
    good &= in_time & said("it asks for their runs alone", {one.partition_key for one in tick.run_requests} == changed)
    return 0 if good & leaderboard(UPath(folder / "outputs"), instance, task, regions) else 1


def leaderboard(folder: UPath, instance: dg.DagsterInstance, task: Task, regions: list[str]) -> bool:
    """Let the leaderboard's sensor see that all regions were evaluated."""
    report, cost = compare(predictions()).to_dict(), {"cost_usd": 1.5}
    for region in regions:
        write_json(folder / task.task / "benchmark" / f"{region}.json", report)
        write_json(folder / task.task / "finetuned_model" / f"{region}.json", cost)
    instance.report_runless_asset_event(dg.AssetMaterialization(asset_key(task, "benchmark"), partition=regions[0]))
    resources = output_resources(str(folder))
    definitions = dg.Definitions.merge(gains_by_region([task]), dg.Definitions(resources=resources))
    sensor, given = definitions.resolve_sensor_def("leaderboard"), {"outputs": resources["outputs"]}
    cursor = None

    def tick() -> Any:
        return sensor(dg.build_sensor_context(instance, cursor=cursor, resources=given))

    result, good = timed("the leaderboard's first tick", tick)
    for _ in range(9):  # one that has no time for all goes on in the next
        if result.asset_events:
            break
        result, in_time = timed("the leaderboard's next tick", tick)
        good &= in_time
    event_bytes = max((len(dg.serialize_value(event)) for event in result.asset_events), default=EVENT_BYTES)
    return good & said(f"its event has {event_bytes / 1000:.1f} kB", event_bytes < EVENT_BYTES)


def write_rows(path: Path, regions: list[str], n_rows: int, changed: set[str]) -> None:
    """Write questions, of all regions in turn; in a changed region the first is another."""
    with path.open("wb") as file:
        for number in range(n_rows):
            region = regions[number % len(regions)]
            anew = "now, " if region in changed and number < len(regions) else ""
            row = {"question": f"{anew}is {number} even?", "answer": "No" if number % 2 else "Yes", "region": region}
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def make_task(table: Path, regions: list[str]) -> Task:
    """Return a task on the table that is prepared again every night."""
    return Task.model_validate(
        {
            "task": "cells", "regions": regions, "source": {"kind": "table", "path": str(table)},
            "base_model": "smollm2-135m-instruct", "prompt": {"user": "{question} Answer Yes or No."},
            "answer": {"kind": "binary"}, "rerun": {},
            "sampling": {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2},
        }
    )  # fmt: skip


def prepared(instance: dg.DagsterInstance, task: Task, regions: list[str]) -> None:
    """Store what a run of each region stores of its source."""
    files, rows = version(task.source), digests(task.source, regions, task.answer, time.monotonic() + 3600) or {}
    for region in regions:
        facts = {SOURCE_FILES: files, SOURCE_ROWS: rows[region]}
        made = dg.AssetMaterialization(asset_key(task, "sampled_examples"), partition=region, metadata=facts)
        instance.report_runless_asset_event(made)


def timed(what: str, call: Callable[[], Any]) -> tuple[Any, bool]:
    """Call it, print how long it took, and return what it returned and whether that was in time."""
    began = time.perf_counter()
    result = call()
    seconds = time.perf_counter() - began
    print(f"  {seconds:6.1f} s  {what} (at most {TICK_SECONDS:.0f} s)", flush=True)
    return result, seconds < TICK_SECONDS


def said(what: str, good: bool) -> bool:
    """Print what must be so, and whether it is."""
    print(f"            {what}: {'yes' if good else 'NO'}", flush=True)
    return good


if __name__ == "__main__":
    raise SystemExit(main())
