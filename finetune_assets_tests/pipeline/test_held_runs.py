"""A backfill over all stages stays open until its models are there: its evaluations lie in the queue until then."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._utils.tags import TagConcurrencyLimitsCounter
from upath import UPath

from finetune_assets.pipeline.at_work import at_work
from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.held_runs import HOLD, KEPT, held_runs
from finetune_assets.pipeline.stage import EVALUATE, asset_key
from finetune_assets.results.files import write_json
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.following.ticks import submit, tick
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.results.made import submitted_as
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider

QUEUED, FAILURE, CANCELED = dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED
LIMITS = [{"key": HOLD, "value": KEPT, "limit": 0}]
BACKFILL = {"dagster/backfill": "b1", "dagster/partition": "mono"}
ORIGIN = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "__repository__")
_LOCATION = """
from finetune_assets.pipeline.component import build_task
from finetune_assets.pipeline.resources import output_resources
from finetune_assets.task import Task
import dagster as dg

task = Task.model_validate_json({said!r})
resources = output_resources({outputs!r}, {outputs!r} + "/answers.sqlite")
defs = dg.Definitions.merge(build_task(task), dg.Definitions(resources=resources, executor=dg.in_process_executor))
"""


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedProvider]:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")
    with scripted_provider() as provider:
        yield provider


def instance_with(folder: Path, limits: list[dict[str, Any]]) -> dg.DagsterInstance:
    queue = {"module": "dagster.core.run_coordinator", "class": "QueuedRunCoordinator"}
    overrides = {"run_coordinator": {**queue, "config": {"tag_concurrency_limits": limits}}}
    return dg.DagsterInstance.local_temp(str(folder), overrides)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with instance_with(tmp_path, LIMITS) as instance:
        yield instance


@pytest.fixture
def task(provider: ScriptedProvider) -> Task:
    return make_task(provider=provider.base_url, regions=["mono", "poly"])


def run_in(folder: Path, task: Task, instance: dg.DagsterInstance, tags: dict[str, str]) -> dg.DagsterRun:
    """Run the stages behind a submitted job as Dagster does: from a code location, for a run that it has stored."""
    submitted = submitted_as(task, "ftjob-1", f"{task.provider}/")
    write_json(UPath(folder / "cells/finetune_job/mono.json"), submitted.model_dump(mode="json"))
    location = folder / "location.py"
    location.write_text(_LOCATION.format(said=task.model_dump_json(), outputs=str(folder)))
    repository = ReconstructableRepository.for_file(str(location), "defs")
    keys = frozenset(asset_key(task, stage) for stage in EVALUATE)
    job = repository.get_reconstructable_job("__ASSET_JOB").get_subset(asset_selection=keys)
    run = instance.create_run_for_job(
        job.get_definition(), tags=tags, asset_selection=keys, remote_job_origin=ORIGIN.get_job_origin("__ASSET_JOB")
    )
    assert execute_run(job, run, instance).success
    return run


def hold(instance: dg.DagsterInstance, region: str = "mono") -> str:
    """Store an evaluation of a backfill that waits for its model."""
    tags = {**BACKFILL, "dagster/partition": region, HOLD: KEPT, "finetune_assets/task": "cells"}
    origin = ORIGIN.get_job_origin("cells_evaluate")
    run = dg.DagsterRun("cells_evaluate", tags=tags, status=QUEUED, remote_job_origin=origin)
    return instance.add_run(run).run_id


def run_of(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run


def test_a_run_of_a_backfill_leaves_an_evaluation_of_the_same_backfill_in_the_queue(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    provider.add_job("ftjob-1", "running")
    run_in(tmp_path, task, instance, BACKFILL)
    held = held_runs(instance, task)["mono"]
    assert (held.status, held.job_name) == (QUEUED, "cells_evaluate")
    assert held.tags.items() >= {**BACKFILL, "finetune_assets/region": "cells/mono"}.items()
    assert TagConcurrencyLimitsCounter(LIMITS, []).is_blocked(held)
    [record] = instance.fetch_observations(asset_key(task, "finetuned_model"), limit=9).records
    assert record.asset_observation and f"run {held.run_id[:8]}, waits in the queue" in str(
        record.asset_observation.description
    )


def test_a_run_of_no_backfill_leaves_nothing_behind(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    provider.add_job("ftjob-1", "running")
    run_in(tmp_path, task, instance, {"dagster/partition": "mono"})
    assert not held_runs(instance, task)


def test_a_home_whose_queue_would_not_hold_it_is_told_so(
    task: Task, provider: ScriptedProvider, tmp_path: Path
) -> None:
    provider.add_job("ftjob-1", "running")
    with instance_with(tmp_path, []) as instance:
        run_in(tmp_path, task, instance, BACKFILL)
        [record] = instance.fetch_observations(asset_key(task, "finetuned_model"), limit=9).records
        assert "`dagster.yaml` does not hold runs by the tag" in str(record.asset_observation)
        assert not held_runs(instance, task)


def test_a_held_evaluation_is_let_go_when_its_model_is_there_and_no_other_is_requested(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "running")
    run_id, storage_id = hold(instance), submit(instance, "mono", "ftjob-1")
    waits = tick(task, instance)
    assert run_of(instance, run_id).tags[HOLD] == KEPT
    assert at_work(instance, task, ["mono"]) == {"mono": "its job is being trained"}

    provider.add_job("ftjob-1", "succeeded")
    goes = tick(task, instance, waits.cursor)
    tags = run_of(instance, run_id).tags
    assert not goes.run_requests and not TagConcurrencyLimitsCounter(LIMITS, []).is_blocked(run_of(instance, run_id))
    assert tags["dagster/run_key"] == f"ftjob-1:{storage_id}" and tags["dagster/backfill"] == "b1"
    assert not tick(task, instance, goes.cursor).run_requests
    assert at_work(instance, task, ["mono"]) == {"mono": "a run of it is going on"}


def test_one_that_fails_is_followed_by_another_that_is_requested(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.add_job("ftjob-1", "succeeded")
    run_id, storage_id = hold(instance), submit(instance, "mono", "ftjob-1")
    first = tick(task, instance)
    instance.report_run_failed(run_of(instance, run_id))
    monkeypatch.setattr("finetune_assets.pipeline.following.evaluations.FIRST_PAUSE_S", 0)
    [request] = tick(task, instance, first.cursor).run_requests or []
    assert request.run_key == f"ftjob-1:{storage_id}:2"


def test_one_whose_job_fails_fails_with_the_providers_words(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "failed", error={"code": "x", "message": "line 3 has no answer", "param": None})
    run_id = hold(instance)
    submit(instance, "mono", "ftjob-1")
    tick(task, instance)
    assert run_of(instance, run_id).status is FAILURE
    said = [str(event.user_message or event.dagster_event) for event in instance.all_logs(run_id)]
    assert any("line 3 has no answer" in words for words in said)


def test_one_of_a_region_that_goes_is_cancelled_and_one_that_waits_for_a_place_is_kept(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "running")
    gone, waiting = hold(instance, "poly"), hold(instance)
    submit(instance, "poly", "ftjob-1")
    full = dg.AssetMaterialization(asset_key(task, "finetune_job"), partition="mono", metadata={"attempt": ""})
    instance.report_runless_asset_event(full)
    sensor = job_sensor(make_task(provider=provider.base_url, regions=["mono"], max_open_jobs=1))
    provider.add_job("ftjob-elsewhere", "running")
    sensor(dg.build_sensor_context(instance))
    assert (run_of(instance, gone).status, run_of(instance, waiting).status) == (CANCELED, QUEUED)
