"""Tasks for the tests of the pipeline, the data they read, and a project that runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from upath import UPath

from finetune_assets.pipeline.resources import output_resources
from finetune_assets.pipeline.stage import EVALUATE, PREPARE, asset_key
from finetune_assets.pipeline.stages.assets import ASSETS
from finetune_assets.pipeline.stages.champion import champion
from finetune_assets.pipeline.stages.human_feedback import human_feedback
from finetune_assets.task import Task
from finetune_assets_tests.dataset.pictures import picture, put

STAGES = PREPARE + EVALUATE


def make_task(**changes: Any) -> Task:
    """Build a small valid task, with any of its fields replaced."""
    fields: dict[str, Any] = {
        "task": "cells",
        "regions": ["mono"],
        "source": {"kind": "elpv"},
        "sampling": {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2},
        "prompt": {"user": "{question} Answer Yes or No."},
        "answer": {"kind": "binary"},
        # The little pictures differ in their shade alone, which makes no difference to a correlation.
        "filtering": {"near_duplicates": False},
        "base_model": "gpt-4o-2024-08-06",
        "method": {"n_epochs": 1},
    }
    return Task.model_validate(fields | changes)


def write_cells(folder: Path, n: int = 80, region: str = "mono", extra: Sequence[str] = ()) -> dict[str, Any]:
    """Write n small pictures of their own shade with a table of them; return the source that reads it.

    The brighter half is scored 1. `extra` lines are added to the table as they are.
    """
    lines = []
    for number in range(n):
        shade = 20 + number * 200 // n
        put(folder / f"{region}-{number}.png", picture(size=(16, 16 + number), shade=shade))
        row = {"image_url": f"{region}-{number}.png", "score": float(number >= n / 2), "region": region}
        lines.append(json.dumps(row))
    table = folder / "cells.jsonl"
    table.write_text("".join(f"{line}\n" for line in [*lines, *extra]))
    return {"kind": "scored_images", "path": str(table), "question": "Is it bright?"}


class Project:
    """A task in a Dagster instance of its own, its outputs under one folder or URL."""

    def __init__(self, task: Task, root: Path | UPath, instance: dg.DagsterInstance | None = None) -> None:
        self.task = task
        self.root = root
        self.instance = instance or dg.DagsterInstance.ephemeral()
        self.assets = [build(task) for build in (human_feedback, *ASSETS, champion)]

    def run(
        self,
        *stages: str,
        region: str = "mono",
        config: dict[str, dict[str, Any]] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Materialise stages of a region, as a run does, some with a config; a failure is in the result."""
        ops = {f"{self.task.task}__{stage}": {"config": asked} for stage, asked in (config or {}).items()}
        return dg.materialize(
            self.assets,
            selection=[asset_key(self.task, stage) for stage in stages],
            partition_key=region,
            instance=self.instance,
            resources=output_resources(str(self.root), str(self.root / "answers.sqlite")),
            raise_on_error=False,
            tags=dict(tags or {}),
            run_config={"ops": ops, "loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )

    def metadata(self, stage: str) -> dict[str, Any]:
        """Return the values that the newest materialization of a stage shows."""
        event = self.instance.get_latest_materialization_event(asset_key(self.task, stage))
        assert event is not None and event.asset_materialization is not None
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    def made(self, stage: str) -> bool:
        """Return whether the stage was ever materialised."""
        return self.instance.get_latest_materialization_event(asset_key(self.task, stage)) is not None

    def output(self, stage: str, ending: str, region: str = "mono") -> Any:
        """Return where a stage keeps a file."""
        return self.root / self.task.task / stage / f"{region}{ending}"


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    """Return the check results of a run by the check's name."""
    return {evaluation.check_name: evaluation for evaluation in result.get_asset_check_evaluations()}


def words(result: dg.ExecuteInProcessResult, check: str) -> str:
    """Return what a check said."""
    return evaluations(result)[check].description or ""


def failures(result: dg.ExecuteInProcessResult) -> str:
    """Return why steps of a run failed."""
    return "\n".join(str(event.step_failure_data.error) for event in result.all_events if event.is_step_failure)
