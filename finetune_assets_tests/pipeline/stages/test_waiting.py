"""A region whose job has no free place at the provider: a state in which it waits, and no failure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from upath import UPath

from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.stage import EVALUATE
from finetune_assets.provider.client import asked_as
from finetune_assets.results.files import write_json
from finetune_assets_tests.pipeline.tasks import Project, failures, make_task
from finetune_assets_tests.results.made import uploaded_as, validated_as
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider

UPLOADED = {"id": "file-1", "sha256": "0" * 64, "bytes": 2, "reused": False}
CONFIG = {"finetune_job": {"train_again": True}}


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedProvider]:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")
    with scripted_provider() as provider:
        provider.contents["file-1"] = b"{}"
        yield provider


@pytest.fixture
def project(provider: ScriptedProvider, tmp_path: Path) -> Iterator[Project]:
    """A region whose files are uploaded, while another job has the only place."""
    provider.add_job("ftjob-elsewhere", "running")
    with dg.DagsterInstance.ephemeral() as instance:
        project = Project(make_task(provider=provider.base_url, max_open_jobs=1), tmp_path, instance)
        for made in (
            uploaded_as(project.task, UPLOADED, asked_as(provider.client())),
            validated_as(project.task),
        ):
            write_json(UPath(project.output(made.stage, ".json")), made.model_dump(mode="json"))
        yield project


def record(project: Project) -> dict[str, Any]:
    return json.loads(project.output("finetune_job", ".json").read_text())


def asked(project: Project) -> list[dg.RunRequest]:
    """What the sensor asks for now, without a memory."""
    result = job_sensor(project.task)(dg.build_sensor_context(project.instance))
    assert isinstance(result, dg.SensorResult)
    return list(result.run_requests or [])


def test_a_run_that_finds_no_place_ends_well_and_what_follows_is_skipped(project: Project) -> None:
    waiting = project.run("finetune_job", *EVALUATE)
    assert waiting.success, failures(waiting)
    assert project.made("finetune_job") and not project.made("finetuned_model")
    assert (record(project)["job_id"], record(project)["status"]) == (None, "waiting")
    assert "the sensor submits it when a place is free" in project.metadata("finetune_job")["why"]


def test_it_is_submitted_when_a_place_is_free_and_not_before(project: Project, provider: ScriptedProvider) -> None:
    full = project.run("finetune_job")
    assert full.success, failures(full)
    assert not asked(project)
    provider.add_job("ftjob-elsewhere", "succeeded")
    [request] = asked(project)
    assert (request.job_name, request.run_config) == ("cells_prepare", {})
    done = project.run("finetune_job")
    assert done.success, failures(done)
    assert record(project)["job_id"] == "ftjob-1"


def test_a_second_training_that_was_asked_for_is_not_lost_and_not_paid_twice(
    project: Project, provider: ScriptedProvider
) -> None:
    first = project.run("finetune_job", config=CONFIG)
    provider.add_job("ftjob-elsewhere", "succeeded")
    [request] = asked(project)
    assert request.run_config == {"ops": {"cells__finetune_job": {"config": {"train_again": True}}}}
    for _ in range(2):
        done = project.run("finetune_job", config=CONFIG, tags=request.tags)
        assert done.success, failures(done)
    assert provider.asked["create"] == 1
    assert record(project)["request"]["attempt"] == first.run_id
