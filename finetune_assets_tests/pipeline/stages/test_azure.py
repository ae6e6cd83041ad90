"""A model that was trained at Azure's address is deployed before it is asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from upath import UPath

from finetune_assets.provider import azure_deployment
from finetune_assets.provider.azure_deployment import deployment_name
from finetune_assets.provider.client import asked_as, connect
from finetune_assets.results.files import write_json
from finetune_assets_tests.azure_control_plane import ACCOUNT, TOKEN, control_plane
from finetune_assets_tests.finished_region import Finished
from finetune_assets_tests.pipeline.tasks import Project, failures
from finetune_assets_tests.server_process import ServerProcess

pytestmark = pytest.mark.xdist_group("finished_region")


@pytest.fixture
def project(finished: Finished, server: ServerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """The finished region up to its job, with our server at Azure's address."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", server.base_url.removesuffix("/v1"))
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", server.key)
    monkeypatch.setenv("AZURE_MANAGEMENT_TOKEN", TOKEN)
    monkeypatch.setattr(azure_deployment, "POLL_SECONDS", 0.01)
    record = json.loads(finished.project.output("finetune_job", ".json").read_text())
    record["provider"] = {"name": "azure", "address": asked_as(connect("azure"))}
    write_json(UPath(tmp_path) / "cells/finetune_job/mono.json", record)
    deployment = {"account": ACCOUNT, "sku": "developerTier", "capacity": 7}
    task = finished.project.task.model_dump() | {"provider": "azure", "deployment": deployment}
    return Project(type(finished.project.task).model_validate(task), tmp_path)


def test_the_deployment_is_asked_and_the_model_kept(
    finished: Finished, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(finished.job.fine_tuned_model)
    with control_plane() as plane:
        monkeypatch.setenv("AZURE_MANAGEMENT_ENDPOINT", plane.endpoint)
        plane.refusals = [(403, "AuthorizationFailed", "no authorization")]
        refused = project.run("finetuned_model")
        made = project.run("finetuned_model")

    assert "accounts/deployments/write" in failures(refused) and made.success, failures(made)
    kept = json.loads(project.output("finetuned_model", ".json").read_text())
    assert (kept["model"], kept["fine_tuned_model"]) == (deployment_name(model), model)
    assert plane.deployments[kept["model"]]["sku"] == {"name": "developerTier", "capacity": 7}
    assert "removes it after 24 hours" in project.metadata("finetuned_model")["deployment"]
    events = "".join(str(event) for run in (refused, made) for event in run.all_events)
    assert TOKEN not in events and TOKEN not in json.dumps(kept)


def test_without_the_section_the_way_is_shown(finished: Finished, project: Project) -> None:
    by_hand = Project(project.task.model_copy(update={"deployment": None}), project.root)
    made = by_hand.run("finetuned_model")
    assert made.success, failures(made)
    shown = by_hand.metadata("finetuned_model")
    assert shown["model"] == finished.job.fine_tuned_model
    assert "Azure answers for deployed models only" in shown["deployment"]
