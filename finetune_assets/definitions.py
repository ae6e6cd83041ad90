"""The one code location: every task that is found, the tables over all of them, and what they share."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import dagster as dg
from dagster.components.core.decl import ComponentDecl

from finetune_assets.errors import TaskError, TaskFileError
from finetune_assets.pipeline.component import FineTuningTask, broken, build_task, checking
from finetune_assets.pipeline.resources import output_resources
from finetune_assets.pipeline.shown.jobs_overview import jobs_overview
from finetune_assets.pipeline.shown.leaderboard import gains_by_region
from finetune_assets.preflight.tasks import require_names
from finetune_assets.task import Task, read_task
from finetune_assets.task.places import SHIPPED, component_file, dg_folder, is_task, task_files

_log = logging.getLogger(__name__)


@dg.definitions
def defs() -> dg.Definitions:
    """Load the tasks' YAML files. One that is wrong is shown as that, and leaves the others alone."""
    tasks: list[Task] = []
    built: list[dg.Definitions] = []
    refused: list[str] = []
    for name, file in task_files().items():
        try:
            task = read_task(name)
            require_names(file.path, task, open_data=checking())
            built.append(build_task(task))
            tasks.append(task)
        except TaskError as error:
            _log.error("task %s is left out: %s", name, error)
            built.append(broken(name, error))
            refused.append(str(error))
    if refused and checking():
        raise TaskFileError(refused)
    overviews = (jobs_overview(tasks), gains_by_region(tasks))
    # A process for each step would cost seconds where the step takes milliseconds.
    shared = dg.Definitions(executor=dg.in_process_executor, resources=output_resources())
    return dg.Definitions.merge(*built, *_beside_the_tasks(), *overviews, shared)


def _beside_the_tasks() -> Iterator[dg.Definitions]:
    """Load what lies beside the shipped tasks and is none: a clone is a `dg` project, whose `defs` Dagster fills.

    What Dagster cannot load is shown as broken, too, with its own words.
    """
    root = SHIPPED.parents[1]
    if dg_folder(root) != SHIPPED or not _has_others():
        return
    try:
        tree = dg.ComponentTree.for_project(root)
        yield from [tree.build_defs(decl.loc) for decl in _others(tree.find_root_decl())]
    except Exception as error:
        if checking():
            raise
        _log.exception("what lies beside the tasks in %s is left out", SHIPPED)
        yield broken("beside_the_tasks", error)


def _has_others() -> bool:
    folders = [SHIPPED, *(folder for folder in SHIPPED.rglob("*") if folder.is_dir())]
    files = filter(None, map(component_file, folders))
    return any(SHIPPED.rglob("*.py")) or any(not is_task(path) for path in files)


def _others(decl: ComponentDecl) -> Iterator[ComponentDecl]:
    """Yield the largest parts of a tree of components that hold no task."""
    if not any(issubclass(one.component_type, FineTuningTask) for one in decl.iterate_all_component_decls()):
        yield decl
        return
    for child in decl.iterate_child_component_decls():
        yield from _others(child)
