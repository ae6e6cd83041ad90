"""Move a task to another provider, and compare both models on the same test split while the old one can be asked.

For each region: its training files are uploaded to the new provider and a job is submitted, the old model answers the
test split while the new one trains, the new one answers it, and both are compared pair by pair. Whatever an earlier run
has done is found again: uploads and jobs at the provider, answers under `<task>/migration/`. The request is the one
that the pipeline makes, so that a task whose YAML names the new provider goes on from here.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.table import Table

from finetune_assets.asking import spending
from finetune_assets.asking.job import job_request
from finetune_assets.asking.predictions import Asked, predict
from finetune_assets.errors import FinetuneAssetsError, JobFailedError, TaskError
from finetune_assets.evaluation.benchmark.comparison import compare
from finetune_assets.evaluation.benchmark.report import BenchmarkReport
from finetune_assets.evaluation.prediction import Role
from finetune_assets.evaluation.statistics import verdict
from finetune_assets.provider import fine_tuning, lifecycle, months
from finetune_assets.provider.answer_cache import AnswerCache
from finetune_assets.provider.client import Client, asked_as, connect
from finetune_assets.provider.files import upload_once
from finetune_assets.results.files import write_json, write_parquet
from finetune_assets.results.records import Trained, Validated, Written
from finetune_assets.results.region import Outputs, Region, default_root
from finetune_assets.task import Task

if TYPE_CHECKING:
    import pandas as pd

Done = TypeVar("Done")

_POLL_SECONDS = 2.0


@dataclass(frozen=True)
class Move:
    """From a task to the same task at another provider."""

    old: Task
    new: Task
    outputs: Outputs
    console: Console

    def region(self, name: str) -> Region:
        """Return the old task's region, whose files both use."""
        return Region(self.old, name, self.outputs)

    def say(self, region: str, words: str, style: str | None = None) -> None:
        """Print one step of a region."""
        _print(self.console, f"{region}: {words}", style)


def successor(task: Task, to: str, base_model: str | None = None) -> Task:
    """Return the same task at the provider `to`, with another base model where one is given.

    Raises:
        TaskError: the task is there already.
    """
    if task.method.type == "reinforcement" and to in ("openai", "azure"):
        raise TaskError(
            f"method.type reinforcement is paid by the hour at {to}, which no budget here knows; train it "
            "supervised to move it there"
        )
    own = {"prices": None, "deployment": None}
    new = task.model_copy(update={"provider": to, "base_model": base_model or task.base_model, **own})
    if (new.provider, new.base_model) == (task.provider, task.base_model):
        raise TaskError(f"task {task.task} trains {task.base_model} at {to} already: name another provider or model")
    return new


def migrate(task: Task, new: Task, regions: Sequence[str], console: Console) -> dict[str, BenchmarkReport]:
    """Train the regions of `task` as its successor `new`; return the comparison of old (base) and new, by region.

    Regions that fail are named on the console and left out.

    Raises:
        ProviderError: a provider is unknown, or has no key.
    """
    move = Move(task, new, Outputs(root=default_root()), console)
    clients = connect(task.provider), connect(new.provider)
    jobs = {name: job for name in regions if (job := _or_say_why(move, name, _submit, clients[1]))}
    # The old models are asked first: they are the ones that may go, and the new ones are training meanwhile.
    asked = [name for name in jobs if _or_say_why(move, name, _ask_old, clients[0]) is not None]
    return {name: report for name in asked if (report := _or_say_why(move, name, _compare, clients, jobs[name]))}


def show(reports: dict[str, BenchmarkReport], console: Console) -> None:
    """Print what was compared, a row for each region, and what the numbers say."""
    table = Table("region", "n test", "metric", "old", "new", "difference [95 %]", "p")
    for name, report in reports.items():
        row, change = report.decisive, report.decisive.difference
        table.add_row(
            name,
            str(report.n),
            report.primary,
            f"{row.base.estimate:.3f}",
            f"{row.fine_tuned.estimate:.3f}",
            f"{change.estimate:+.3f} [{change.low:+.3f}, {change.high:+.3f}]",
            f"{report.p_value:.2g}",
        )
    console.print(table)
    for name, report in reports.items():
        _print(console, f"{name}: {report.verdict} New model: {report.fine_tuned.model}")
    console.print("To go on with the new models, change `provider` and `base_model` in the task's YAML.")


def _print(console: Console, words: str, style: str | None = None) -> None:
    # Rich would take `:cat:` in a model's name for a picture, and brackets in an error for a style.
    console.print(words, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)


def _or_say_why(move: Move, region: str, step: Callable[..., Done], *arguments: Any) -> Done | None:
    """Return what a step returns; None, and a line on the console, where it cannot be done for this region."""
    try:
        return step(move, region, *arguments)
    except FinetuneAssetsError as error:
        move.say(region, f"failed: {error}", style="red")
        return None


def _submit(move: Move, name: str, client: Client) -> fine_tuning.Job:
    region = move.region(name)
    trained, written = Trained.of(region), Written.of(region)
    estimate = spending.estimate(move.new, Validated.of(region).estimate.tokens, written.train.n_examples)
    # A deployment's name need not tell its base.
    models = trained.model, trained.base_model
    ending = lifecycle.shutdown(connect(move.old.provider), move.old.provider, *models)
    move.say(name, ending.in_words(datetime.now(UTC).date()) if ending else f"no shutdown of {models[0]} is announced")
    move.say(name, f"training at {move.new.provider}: {estimate}")
    _require_within_budget(move.new, name, estimate.cost_usd)
    uploaded = {split: upload_once(client, region.training_file(split)) for split in ("train", "validation")}
    request = job_request(move.new, name, uploaded, estimate_usd=estimate.cost_usd)
    within_month = partial(months.require_within_month, client, move.new, estimate.cost_usd, time.time())
    found = fine_tuning.submit_once(client, request, before=within_month)
    move.say(name, f"job {found.job.id} {'found again' if found.reused else 'submitted'}")
    return found.job


def _require_within_budget(task: Task, region: str, cost_usd: float | None) -> None:
    budget = task.budget_of(region)
    if budget is None:
        return
    if cost_usd is None and task.checks.get("within_budget", "error") == "error":
        words = f"nobody knows what training {task.base_model} at {task.provider} costs"
        raise TaskError(f"{words}, and the budget is {budget:.2f} USD; state `prices` in the task's YAML")
    if (cost_usd or 0) > budget:
        raise TaskError(f"the budget is {budget:.2f} USD; raise budget_usd in the task's YAML")


def _ask_old(move: Move, name: str, client: Client) -> pd.DataFrame:
    region = move.region(name)
    return _answers(move, region, client, Trained.of(region).model, "base")


def _compare(move: Move, name: str, clients: tuple[Client, Client], job: fine_tuning.Job) -> BenchmarkReport:
    import pandas as pd

    region = move.region(name)
    old = _ask_old(move, name, clients[0])
    trained = str(_finished(move, name, clients[1], job).fine_tuned_model)
    new = _answers(move, region, clients[1], trained, "fine_tuned")
    report = compare(pd.concat([old, new], ignore_index=True), move.new.answer, metric=move.new.benchmark.metric)
    decisive = report.decisive
    words = verdict(report.outcome, decisive.difference, report.p_value, decisive.label.lower(), "new model")
    report = replace(report, verdict=words)
    write_json(region.path("migration", ".json"), report.to_dict() | {"job_id": job.id, "provider": move.new.provider})
    return report


def _answers(move: Move, region: Region, client: Client, model: str, role: Role) -> pd.DataFrame:
    """Ask a model the test split, unless its answers to exactly these questions are there."""
    import pandas as pd

    examples = pd.read_parquet(str(region.path("filtered_qa", ".parquet")))
    test = examples.loc[examples["split"] == "test"]
    asked = [
        model,
        asked_as(client),
        move.old.prompt.model_dump(),
        test[["example_id", "answer"]].to_numpy().tolist(),
    ]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    kept = region.path("migration", f"/{digest}.parquet")
    if not kept.exists():
        move.say(region.name, f"asking {model} {len(test)} test questions ...")
        with AnswerCache(Path(move.outputs.answers)) as cache:
            write_parquet(
                kept,
                predict(client, Asked(model, move.new), test, role, cache, lambda words: move.say(region.name, words)),
            )
    # The same model may have been asked as the new one before.
    return pd.read_parquet(str(kept)).assign(role=role)


def _finished(move: Move, name: str, client: Client, job: fine_tuning.Job) -> fine_tuning.Job:
    """Wait for the job, saying how far it is."""
    said = ""
    while job.status != "succeeded":
        if job.status in fine_tuning.FAILED:
            raise JobFailedError(f"job {job.id} {job.status}: {fine_tuning.failure_reason(job)}")
        if (progress := str(fine_tuning.progress(client, job))) != said:
            said = progress
            move.say(name, f"job {job.id} is {progress}")
        time.sleep(_POLL_SECONDS)
        job = fine_tuning.retrieve(client, job.id)
    return job
