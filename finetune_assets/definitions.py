"""The one code location: every task that is found, the tables over all of them, and what they share."""

from __future__ import annotations

import logging
import os
import warnings

import dagster as dg

from finetune_assets.errors import TaskError, TaskFileError
from finetune_assets.pipeline.component import broken_task, build_task
from finetune_assets.pipeline.resources import output_resources
from finetune_assets.pipeline.shown.jobs_overview import jobs_overview
from finetune_assets.pipeline.shown.leaderboard import gains_by_region
from finetune_assets.preflight.tasks import require_names
from finetune_assets.task import Task, read_task, task_names

_log = logging.getLogger(__name__)


@dg.definitions
def defs() -> dg.Definitions:
    """Load the tasks' YAML files. One that is wrong is shown as that, and leaves the others alone."""
    # Each process of Dagster would write five lines for each check of each task into its log.
    warnings.filterwarnings("ignore", category=dg.PreviewWarning)
    tasks: list[Task] = []
    built: list[dg.Definitions] = []
    broken: list[str] = []
    # `dg check defs` and `dagster definitions validate` set it: then what is wrong is an error, and the data is opened.
    checking = os.environ.get("DAGSTER_IS_DEFS_VALIDATION_CLI") == "1"
    for name in task_names():
        try:
            task = read_task(name)
            require_names(name, task, open_data=checking)
            built.append(build_task(task))
            tasks.append(task)
        except TaskError as error:
            _log.error("task %s is left out: %s", name, error)
            built.append(broken_task(name, error))
            broken.append(str(error))
    if broken and checking:
        raise TaskFileError(broken)
    overviews = (jobs_overview(tasks), gains_by_region(tasks))
    # A process for each step would cost seconds where the step takes milliseconds.
    shared = dg.Definitions(executor=dg.in_process_executor, resources=output_resources())
    return dg.Definitions.merge(*built, *overviews, shared)
