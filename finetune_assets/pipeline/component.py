"""The component that a task's `defs.yaml` names, and the plain function it stands on."""

from __future__ import annotations

import os
import warnings
from functools import cache
from types import ModuleType
from typing import Any, Self

import dagster as dg
from pydantic import BaseModel, RootModel

from finetune_assets.errors import TaskError
from finetune_assets.pipeline.checks.model_checks import MODEL_STAYS
from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.following.model_watch import model_sensor
from finetune_assets.pipeline.following.notices import notice_sensor
from finetune_assets.pipeline.following.use_watch import use_sensor
from finetune_assets.pipeline.reruns.feedback_sensor import feedback_sensor
from finetune_assets.pipeline.reruns.region_sensor import region_sensor
from finetune_assets.pipeline.reruns.schedules import judging_schedule, rerun_schedule
from finetune_assets.pipeline.resources import default_root, output_resources
from finetune_assets.pipeline.scaffolding import TaskScaffolder
from finetune_assets.pipeline.shown.jobs_overview import jobs_overview
from finetune_assets.pipeline.shown.leaderboard import gains_by_region
from finetune_assets.pipeline.stages.assets import ASSETS
from finetune_assets.pipeline.stages.champion import champion
from finetune_assets.pipeline.stages.human_feedback import human_feedback
from finetune_assets.pipeline.stages.source import source_asset
from finetune_assets.task import Task, read_task_file
from finetune_assets.task.faults import nearest
from finetune_assets.task.places import component_file

_ALL = (human_feedback, *ASSETS, champion)


def build_task(task: Task) -> dg.Definitions:
    """Return everything that one task adds to the code location.

    Ten assets and the champion, with their checks; the sensor `<task>_jobs`, with the jobs `<task>_prepare` (up to
    `finetune_job`) and `<task>_evaluate` (the rest); and, if the task asks for them, the sensors `<task>_models`,
    `<task>_in_use`, `<task>_regions` and `<task>_feedback` and the schedules `<task>_rerun` and `<task>_judge_again`.

    Raises:
        TaskError: `checks` names one that does not exist.
    """
    _require_known_checks(task)
    with warnings.catch_warnings():
        # Each process of Dagster would write five lines for each check of each task into its log.
        warnings.filterwarnings("ignore", category=dg.PreviewWarning)
        return _definitions(task)


def _definitions(task: Task) -> dg.Definitions:
    assets = [build(task) for build in _ALL]
    checks = [spec for asset in assets for spec in asset.check_specs]
    return dg.Definitions(
        assets=[source_asset(task), *assets],
        sensors=[
            job_sensor(task),
            *([model_sensor(task)] if MODEL_STAYS.asked(task) else []),
            *([use_sensor(task)] if task.in_use.review or task.in_use.watch else []),
            *([region_sensor(task)] if task.regions == "discover" else []),
            *([feedback_sensor(task, task.rerun)] if task.rerun else []),
            *([notice_sensor(task, checks)] if task.notify else []),
        ],
        schedules=[rerun_schedule(task, task.rerun), judging_schedule(task, task.rerun)] if task.rerun else [],
    )


def known_checks(task: Task) -> list[str]:
    """List the names of the checks that a task may switch off or make stricter."""
    unset = task.model_copy(update={"checks": {}})
    return sorted(check.name for build in _ALL for check in build.checks if check.asked(unset))


def _require_known_checks(task: Task) -> None:
    known = known_checks(task)
    if unknown := sorted(set(task.checks) - set(known)):
        near = nearest(unknown[0], known)
        raise TaskError(f"task {task.task}: checks.{unknown[0]} does not exist{near}; there are {', '.join(known)}")


def broken(name: str, error: Exception) -> dg.Definitions:
    """Return what is shown of something that cannot be built: an asset that nobody can make and that says why."""
    key = dg.AssetKey([name, "broken"])
    spec = dg.AssetSpec(key, group_name="broken", description=f"This is left out until it is mended.\n\n{error}")
    return dg.Definitions(assets=[spec])


class _Attributes(RootModel[dict[str, Any]]):
    """What a task's YAML says, told to editors and not judged by Dagster: it tells of one fault, and of no line."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema of a task."""
        return Task.model_json_schema(*args, **kwargs)


def checking() -> bool:
    """Say whether definitions are loaded to be checked: `dg check defs` and `dagster definitions validate` say so."""
    return os.environ.get("DAGSTER_IS_DEFS_VALIDATION_CLI") == "1"


@cache
def _shared_resources(root: str) -> dict[str, Any]:
    """Return the resources of all tasks of a code location; Dagster takes one key from several, if it is one object."""
    return output_resources(root)


@dg.scaffold_with(TaskScaffolder)
class FineTuningTask(dg.Component):
    """One fine-tuning task: labelled examples per region in, a calibrated fine-tuned model per region out."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return what `attributes` may say."""
        # Not a Resolvable: it lets every field be a template string, and errors then no longer say what is wrong.
        return _Attributes

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Read the component's `defs.yaml`, or take attributes that come from elsewhere.

        Raises:
            TaskError: something in it is wrong; the message names file, line and key.
        """
        if (path := component_file(context.path)) is None:
            said = attributes.root if isinstance(attributes, _Attributes) else attributes
            return cls(Task.model_validate(said).beside(context.path))
        task = read_task_file(path)
        if checking():
            from finetune_assets.preflight.tasks import require_names

            require_names(path, task, open_data=True)
        return cls(task)

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Build the task's definitions; the first task of a project has the tables over all of them, too."""
        built = [build_task(self.task), dg.Definitions(resources=_shared_resources(default_root()))]
        tree = context.component_tree
        # One that was made for a test has no components to look for.
        found = tree.get_all_components(FineTuningTask) if isinstance(tree.defs_module, ModuleType) else [self]
        if found[0] is self:
            tasks = [component.task for component in found]
            built += [jobs_overview(tasks), gains_by_region(tasks)]
        return dg.Definitions.merge(*built)
