"""A region that went through all stages against the real server, made once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
import pytest

from finetune_assets.pipeline.stage import EVALUATE, PREPARE
from finetune_assets.provider import fine_tuning
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task, write_cells
from finetune_assets_tests.server.networks import hub_vision_base
from finetune_assets_tests.server_process import ServerProcess


@dataclass(frozen=True)
class Finished:
    """A project whose region `mono` is done, and the two runs that did it."""

    project: Project
    prepared: dg.ExecuteInProcessResult
    evaluated: dg.ExecuteInProcessResult
    job: fine_tuning.Job
    key: str
    """Of the server."""


@pytest.fixture
def local_key(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's key where the pipeline looks for it."""
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", server.key)


@pytest.fixture(scope="session")
def vision_model(server: ServerProcess) -> str:
    """The name of a tiny model on the server that takes images and learns in seconds."""
    base = hub_vision_base(server.home / "vision")
    with (server.home / "models.yaml").open("a") as names:
        names.write(f"{base.name}: {base.path}\n")
    return base.name


@pytest.fixture(scope="session")
def finished(server: ServerProcess, vision_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    """Pictures through all stages. Look, but change nothing."""
    folder = tmp_path_factory.mktemp("finished")
    task = make_task(
        source=write_cells(folder / "cells", n=120),
        sampling={"train": 0.3, "validation": 0.1, "calibration": 0.3, "test": 0.3},
        base_model=vision_model,
        method={"n_epochs": 8, "batch_size": 1, "learning_rate_multiplier": 4},
        provider=server.base_url,
        budget_usd=5,
    )
    project = Project(task, folder / "outputs")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("FINETUNE_ASSETS_API_KEY", server.key)
        prepared = project.run(*PREPARE)
        assert prepared.success, failures(prepared)
        job_id = json.loads(project.output("finetune_job", ".json").read_text())["job_id"]
        client = server.client()
        while (job := fine_tuning.retrieve(client, job_id)).finished_at is None:
            time.sleep(0.2)
        evaluated = project.run(*EVALUATE)
        assert evaluated.success, failures(evaluated)
        yield Finished(project, prepared, evaluated, job, server.key)
