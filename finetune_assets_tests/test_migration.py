"""A trained task moved to another model of a real server, and compared with what it was."""

from __future__ import annotations

import io
import json
import re
import time
from pathlib import Path
from typing import Any

import openai
import pytest
from rich.console import Console

from finetune_assets.errors import ProviderError, TaskError
from finetune_assets.evaluation.benchmark.report import BenchmarkReport
from finetune_assets.migration import migrate, show, successor
from finetune_assets.pipeline.stage import PREPARE
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task
from finetune_assets_tests.server_process import ServerProcess

# In the process that runs the pipeline tests, beside the server that it has started.
pytestmark = pytest.mark.xdist_group("finished_region")

NEW_MODEL = "gpt-4o-mini"
"""Another name on the server, so another job."""


class StoppedError(Exception):
    """Stands for whatever ends a process."""


class Screen(Console):
    """What a person reads; it may break where a line matches."""

    def __init__(self, breaks_at: str | None = None) -> None:
        super().__init__(file=io.StringIO(), width=300)
        self.breaks_at = breaks_at

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*objects, **options)
        if self.breaks_at and re.search(self.breaks_at, str(objects[0])):
            raise StoppedError

    @property
    def text(self) -> str:
        assert isinstance(self.file, io.StringIO)
        return self.file.getvalue()


def write_rows(folder: Path, region: str) -> None:
    """Write questions that name their answer."""
    words = ("Yes", "No")
    rows = [{"question": f"{words[n % 2]} {region} {n}?", "answer": words[n % 2], "region": region} for n in range(60)]
    with (folder / "rows.jsonl").open("a") as table:
        table.writelines(f"{json.dumps(row)}\n" for row in rows)


@pytest.fixture(scope="module")
def trained(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose region `mono` has its model, while `poly` was never run."""
    folder = tmp_path_factory.mktemp("migration")
    for region in ("mono", "poly"):
        write_rows(folder, region)
    task = make_task(
        regions=["mono", "poly"],
        source={"kind": "table", "path": str(folder / "rows.jsonl")},
        prompt={"user": "{question}"},
        sampling={"train": 20, "validation": 4, "calibration": 10, "test": 20},
        filtering={"label_errors": "off"},
        base_model="tiny-text",
        method={"n_epochs": 1, "batch_size": 4, "learning_rate_multiplier": 10},
        provider=server.base_url,
    )
    project = Project(task, folder / "outputs")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FINETUNE_ASSETS_API_KEY", server.key)
        prepared = project.run(*PREPARE)
        assert prepared.success, failures(prepared)
        jobs = server.client().fine_tuning.jobs
        while jobs.retrieve(project.metadata("finetune_job")["job_id"]).finished_at is None:
            time.sleep(0.2)
        evaluated = project.run("finetuned_model")
        assert evaluated.success, failures(evaluated)
    return project


@pytest.fixture(autouse=True)
def at_home(trained: Project, server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment in which the command runs."""
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)
    monkeypatch.setenv("FINETUNE_ASSETS_DATA", str(trained.root))


def move(trained: Project, screen: Screen, *regions: str) -> dict[str, BenchmarkReport]:
    new = successor(trained.task, trained.task.provider, NEW_MODEL)
    return migrate(trained.task, new, regions or ("mono",), screen)


def migrated_jobs(client: openai.OpenAI) -> list[str]:
    jobs = client.fine_tuning.jobs.list(limit=100)
    return [job.id for job in jobs if job.model == NEW_MODEL and (job.metadata or {}).get("task") == "cells"]


def test_interrupted_it_goes_on_where_it_was_and_compares_old_and_new_pair_by_pair(
    trained: Project, client: openai.OpenAI
) -> None:
    old = json.loads(trained.output("finetuned_model", ".json").read_text())["model"]
    with pytest.raises(StoppedError):
        move(trained, Screen(breaks_at=r"job \S+ is "))
    answers = trained.root / "cells/migration/mono"
    (asked,) = answers.glob("*.parquet")
    before = asked.stat().st_mtime_ns

    screen = Screen()
    report = move(trained, screen)["mono"]
    assert len(migrated_jobs(client)) == 1 and f"job {migrated_jobs(client)[0]} found again" in screen.text
    assert asked.stat().st_mtime_ns == before and len(list(answers.glob("*.parquet"))) == 2
    assert (report.n, report.base.model) == (20, old)
    assert report.fine_tuned.model == client.fine_tuning.jobs.retrieve(migrated_jobs(client)[0]).fine_tuned_model
    written = json.loads(trained.output("migration", ".json").read_text())
    assert (written["n"], written["outcome"], written["p_value"]) == (20, report.outcome, report.p_value)
    assert "no shutdown of ft:tiny-text" in screen.text and "0.00 USD" in screen.text
    show({"mono": report}, screen)
    assert "fine-tuned" not in written["verdict"] and f"mono: {written['verdict']} New model: ft:" in screen.text


@pytest.mark.usefixtures("trained")
def test_a_task_whose_yaml_names_the_new_place_goes_on_with_the_job_of_the_migration(
    trained: Project, client: openai.OpenAI, tmp_path: Path
) -> None:
    move(trained, Screen())
    successor = Project(trained.task.model_copy(update={"base_model": NEW_MODEL}), tmp_path)
    assert successor.run(*PREPARE).success
    shown = successor.metadata("finetune_job")
    assert ([shown["job_id"]], shown["reused"]) == (migrated_jobs(client), True)


def test_a_region_without_a_model_is_named_and_the_others_go_on(trained: Project) -> None:
    screen = Screen()
    assert set(move(trained, screen, "poly", "mono")) == {"mono"}
    assert "poly: failed:" in screen.text and "materialise finetuned_model of this region first" in screen.text


def test_a_budget_holds_at_the_new_provider_too(trained: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    task = trained.task.model_copy(update={"budget_usd": 0.0001})
    screen = Screen()
    assert migrate(task, successor(task, "openai", "gpt-4.1-2025-04-14"), ["mono"], screen) == {}
    assert "mono: failed: the budget is 0.00 USD" in screen.text


def test_a_task_that_is_there_already_is_refused(trained: Project) -> None:
    with pytest.raises(TaskError, match="trains tiny-text at .* already"):
        successor(trained.task, trained.task.provider)


def test_an_unknown_provider_is_refused_before_anything_is_sent(trained: Project) -> None:
    with pytest.raises(ProviderError, match="provider must be"):
        migrate(trained.task, successor(trained.task, "elsewhere"), ["mono"], Screen())
