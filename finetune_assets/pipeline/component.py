"""The component that a task's `defs.yaml` names, and the plain function it stands on."""

from __future__ import annotations

from typing import Self

import dagster as dg
from pydantic import BaseModel

from finetune_assets.errors import TaskError
from finetune_assets.pipeline.assets import ASSETS
from finetune_assets.pipeline.champion import champion
from finetune_assets.pipeline.feedback_sensor import feedback_sensor
from finetune_assets.pipeline.human_feedback import human_feedback
from finetune_assets.pipeline.model_checks import MODEL_STAYS
from finetune_assets.pipeline.model_watch import model_sensor
from finetune_assets.pipeline.schedules import rerun_schedule
from finetune_assets.pipeline.sensors import job_sensor, region_sensor
from finetune_assets.task import Task

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


def _require_known_checks(task: Task) -> None:
    unset = task.model_copy(update={"checks": {}})
    known = sorted(spec.name for build in _ALL for spec in build(unset).check_specs)
    if unknown := sorted(set(task.checks) - set(known)):
        raise TaskError(f"task {task.task}: checks.{unknown[0]} does not exist; there are {', '.join(known)}")


def broken_task(name: str, error: TaskError) -> dg.Definitions:
    """Return what is shown of a task that cannot be built: an asset that nobody can make and that says why."""
    key = dg.AssetKey([name, "broken"])
    spec = dg.AssetSpec(key, group_name="broken", description=f"This task is left out until it is mended.\n\n{error}")
    return dg.Definitions(assets=[spec])


class FineTuningTask(dg.Component):
    """One fine-tuning task: labelled examples per region in, a calibrated fine-tuned model per region out."""

    def __init__(self, task: Task) -> None:
        self.task = task

    @classmethod
    def get_model_cls(cls) -> type[BaseModel]:
        """Return what `attributes` may say."""
        # Not a Resolvable: it lets every field be a template string, and errors then no longer say what is wrong.
        return Task

    @classmethod
    def load(cls, attributes: BaseModel | None, context: dg.ComponentLoadContext) -> Self:
        """Take the validated attributes of a `defs.yaml`."""
        return cls(Task.model_validate(attributes).beside(context.path))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """Build the task's definitions."""
        return build_task(self.task)
