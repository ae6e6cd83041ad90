"""The component that a task's `defs.yaml` names, and the plain function it stands on."""

from __future__ import annotations

from typing import Any, Self

import dagster as dg
from pydantic import BaseModel, RootModel

from finetune_assets.errors import TaskError
from finetune_assets.pipeline.checks.model_checks import MODEL_STAYS
from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.following.model_watch import model_sensor
from finetune_assets.pipeline.reruns.feedback_sensor import feedback_sensor
from finetune_assets.pipeline.reruns.region_sensor import region_sensor
from finetune_assets.pipeline.reruns.schedules import rerun_schedule
from finetune_assets.pipeline.stages.assets import ASSETS
from finetune_assets.pipeline.stages.champion import champion
from finetune_assets.pipeline.stages.human_feedback import human_feedback
from finetune_assets.task import Task
from finetune_assets.task.component_file import read_attributes
from finetune_assets.task.faults import nearest

_ALL = (human_feedback, *ASSETS, champion)


def build_task(task: Task) -> dg.Definitions:
    """Return everything that one task adds to the code location.

    Ten assets and the champion, with their checks; the sensor `<task>_jobs`, with the jobs `<task>_prepare` (up to
    `finetune_job`) and `<task>_evaluate` (the rest); and, if the task asks for them, the sensors `<task>_models`,
    `<task>_regions` and `<task>_feedback` and the schedule `<task>_rerun`.

    Raises:
        TaskError: `checks` names one that does not exist.
    """
    _require_known_checks(task)
    return dg.Definitions(
        assets=[build(task) for build in _ALL],
        sensors=[
            job_sensor(task),
            *([model_sensor(task)] if MODEL_STAYS.asked(task) else []),
            *([region_sensor(task)] if task.regions == "discover" else []),
            *([feedback_sensor(task, task.rerun)] if task.rerun else []),
        ],
        schedules=[rerun_schedule(task, task.rerun)] if task.rerun else [],
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


def broken_task(name: str, error: TaskError) -> dg.Definitions:
    """Return what is shown of a task that cannot be built: an asset that nobody can make and that says why."""
    key = dg.AssetKey([name, "broken"])
    spec = dg.AssetSpec(key, group_name="broken", description=f"This task is left out until it is mended.\n\n{error}")
    return dg.Definitions(assets=[spec])


class _Attributes(RootModel[dict[str, Any]]):
    """What a task's YAML says, told to editors and not judged by Dagster: it tells of one fault, and of no line."""

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the schema of a task."""
        return Task.model_json_schema(*args, **kwargs)


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
        path = context.path / "defs.yaml"
        if path.is_file():
            return cls(read_attributes(path, Task, {"folder": context.path}))
        said = attributes.root if isinstance(attributes, _Attributes) else attributes
        return cls(Task.model_validate(said).beside(context.path))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """Build the task's definitions."""
        return build_task(self.task)
