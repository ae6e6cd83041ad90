"""The contest of a region's benchmark: the arms that its task names, or that whoever starts the run asks for."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

import dagster as dg
import pandas as pd
from pydantic import Field

from finetune_assets.asking.arms import Line, ask_arms, cascades_of, own_entry
from finetune_assets.dataset.table import Table
from finetune_assets.errors import EvaluationError
from finetune_assets.evaluation import calibration
from finetune_assets.evaluation.arms.contest import Contest, hold
from finetune_assets.evaluation.arms.entry import Entrants
from finetune_assets.evaluation.calibration import Calibrator
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.client import Client
from finetune_assets.provider.local_server import is_loopback
from finetune_assets.results.files import write_parquet
from finetune_assets.results.records import Trained
from finetune_assets.results.region import Region
from finetune_assets.task import Task
from finetune_assets.task.arms import WITHOUT_NETWORK, Arm, unfit


class ArmsChoice(dg.Config):
    """What else is asked in a benchmark's contest; nothing, where a run has no config."""

    local_arms: bool = Field(
        default=False,
        description="Also ask every arm that needs no network, where the task's provider is on this machine.",
    )


def arms_of(task: Task, choice: ArmsChoice) -> tuple[Arm, ...]:
    """Return the arms that are asked.

    Raises:
        EvaluationError: arms without a network are asked for, and the task's provider needs one.
    """
    named = task.benchmark.contest
    if not choice.local_arms:
        return named
    if task.provider != "local" and not is_loopback(urlsplit(task.provider).hostname or ""):
        raise EvaluationError(
            f"no arm needs no network where the provider is {task.provider}; name those that you want to pay for "
            "under `benchmark.arms`"
        )
    taken = {arm.kind for arm in named}
    return named + tuple(arm for arm in WITHOUT_NETWORK if arm.kind not in taken and not unfit(arm, task.answer.kind))


def contest(
    region: Region,
    model: Trained,
    clean: Table,
    predictions: pd.DataFrame,
    asked: tuple[Client, AnswerCache],
    arms: tuple[Arm, ...],
) -> Contest | None:
    """Ask the arms what the benchmark has not asked, and judge them; None where there are none.

    Raises:
        EvaluationError: no arm answered.
    """
    if not arms:
        return None
    task, (client, cache) = region.task, asked
    line = Line(
        task=task,
        client=client,
        clean=clean,
        predictions=predictions,
        cache=cache,
        spent_usd=model.cost_usd or 0.0,
        budget_usd=task.budget_of(region.name),
        say=dg.get_dagster_logger().info,
    )
    field, table = ask_arms(line, arms)
    write_parquet(region.path("benchmark", ".arms.parquet"), table)
    fitted = _calibrator(task, predictions, model.model)
    entries = tuple(replace(one, calibrator=fitted) if one.kind == "tuned" else one for one in field.entries)
    return hold(
        Entrants(entries, field.left_out),
        replace(own_entry(line), calibrator=fitted),
        list(cascades_of(arms)),
        task.answer,
        metric=task.benchmark.metric,
        defer=task.benchmark.defer,
        margin=task.policy.margin,
    )


def _calibrator(task: Task, predictions: pd.DataFrame, model: str) -> Calibrator | None:
    """Fit what the stage `calibrator` will fit, on the calibration split; None where there are no scores."""
    found = calibration.evidence(predictions, "calibration", task.answer, task.benchmark.metric)
    try:
        return calibration.fit(found, task.answer, model)
    except EvaluationError:
        return None
