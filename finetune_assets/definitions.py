"""The one code location: every task under `defs/`, the tables over all of them, and what they share."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

from finetune_assets.pipeline.jobs_overview import jobs_overview
from finetune_assets.pipeline.leaderboard import gains_by_region
from finetune_assets.pipeline.resources import output_resources
from finetune_assets.task import read_task, task_names


@dg.definitions
def defs() -> dg.Definitions:
    """Load the tasks' YAML files."""
    tasks = dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
    described = [read_task(name) for name in task_names()]
    overviews = (jobs_overview(described), gains_by_region(described))
    # A process for each step would cost seconds where the step takes milliseconds.
    shared = dg.Definitions(executor=dg.in_process_executor, resources=output_resources())
    return dg.Definitions.merge(tasks, *overviews, shared)
