"""The sensor that follows jobs: from the event log to observations, failed checks and evaluation runs."""

from __future__ import annotations

import re
import time

import dagster as dg
import pytest

from finetune_assets.pipeline.following.evaluations import MAX_RUNS_PER_TICK
from finetune_assets.pipeline.following.memory import Memory, Outage
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.following.ticks import JOB_KEY, MODEL_KEY, said, submit, tick
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider


def test_a_succeeded_job_has_its_region_evaluated_once(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "succeeded")
    storage_id = submit(instance, "mono", "ftjob-1")

    first = tick(task, instance)
    second = tick(task, instance, first.cursor)

    [request] = first.run_requests or []
    assert (request.run_key, request.partition_key) == (f"ftjob-1:{storage_id}", "mono")
    assert not second.run_requests


def test_a_lost_cursor_repeats_the_same_run_key(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "succeeded")
    submit(instance, "mono", "ftjob-1")

    first, again = tick(task, instance), tick(task, instance, cursor=None)

    assert [r.run_key for r in first.run_requests or []] == [r.run_key for r in again.run_requests or []]


def test_a_job_that_is_submitted_again_is_evaluated_again(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "succeeded")
    submit(instance, "mono", "ftjob-1")
    first = tick(task, instance)
    storage_id = submit(instance, "mono", "ftjob-1")

    second = tick(task, instance, first.cursor)

    assert [request.run_key for request in second.run_requests or []] == [f"ftjob-1:{storage_id}"]


def test_only_the_newest_job_of_a_region_counts(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-old", "succeeded")
    provider.add_job("ftjob-new", "queued")
    submit(instance, "mono", "ftjob-old")
    submit(instance, "mono", "ftjob-new")

    result = tick(task, instance)

    assert not result.run_requests
    assert [event.metadata["job_id"].value for event in result.asset_events] == ["ftjob-new"]


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        ("failed", {"code": "invalid_training_file", "message": "line 3 has no answer", "param": None}, "line 3"),
        ("cancelled", None, "cancelled"),
    ],
)
def test_a_job_without_a_model_fails_the_check_of_its_region(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance, status: str, error: object, reason: str
) -> None:
    provider.add_job("ftjob-1", status, error=error)
    submit(instance, "poly", "ftjob-1")

    first = tick(task, instance)
    second = tick(task, instance, first.cursor)

    evaluation, ended = first.asset_events
    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert (ended.asset_key.path[-1], ended.description) == ("champion", evaluation.description)
    assert (evaluation.asset_key, evaluation.check_name) == (MODEL_KEY, "job_succeeded")
    assert (evaluation.passed, evaluation.partition) == (False, "poly")
    assert "poly" in (evaluation.description or "") and reason in (evaluation.description or "")
    assert not second.asset_events and not first.run_requests


def test_a_job_that_the_provider_has_lost_fails_the_check(task: Task, instance: dg.DagsterInstance) -> None:
    submit(instance, "mono", "ftjob-gone")

    evaluation, _ = tick(task, instance).asset_events

    assert isinstance(evaluation, dg.AssetCheckEvaluation)
    assert "does not know job ftjob-gone" in (evaluation.description or "")


def test_the_failed_check_is_stored_for_its_partition(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "failed")
    submit(instance, "mono", "ftjob-1")
    for event in tick(task, instance).asset_events:
        instance.report_runless_asset_event(event)

    key = dg.AssetCheckKey(MODEL_KEY, "job_succeeded")
    [record] = instance.event_log_storage.get_asset_check_execution_history(key, limit=5)

    assert record.status.value == "FAILED"
    assert record.partition == "mono"


def test_progress_is_observed_when_it_changes(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "running", estimated_finish=1_800_000_060)
    provider.add_step("ftjob-1", step=3, total_steps=60, train_loss=0.73)
    submit(instance, "mono", "ftjob-1")

    first = tick(task, instance)
    unchanged = tick(task, instance, first.cursor)
    provider.add_step("ftjob-1", step=4, total_steps=60, train_loss=0.5, valid_loss=0.6)
    changed = tick(task, instance, unchanged.cursor)

    [observation] = first.asset_events
    assert observation.description == "running, step 3 of 60, training loss 0.7300"
    assert observation.metadata["estimated_finish"].value == 1_800_000_060.0
    assert observation.metadata["step"].value == 3
    assert not unchanged.asset_events
    assert [event.metadata["valid_loss"].value for event in changed.asset_events] == [0.6]


def test_a_provider_that_does_not_answer_is_said_and_nothing_is_forgotten(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")
    task = make_task(provider="http://127.0.0.1:9/v1")
    submit(instance, "mono", "ftjob-1")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)

    first = tick(task, instance)
    quiet = tick(task, instance, first.cursor)
    soon = now + 60
    monkeypatch.setattr(time, "time", lambda: soon)
    again = tick(task, instance, first.cursor)

    assert re.search(r"jobs in flight: 1; http://127.0.0.1:9/v1/ does not answer", said(first))
    assert re.search(r"does not answer.*; it is asked again at \d\d:\d\d:\d\d UTC", said(quiet))
    outages = [Memory.model_validate_json(result.cursor or "").outage for result in (first, again)]
    assert [outage.tries for outage in outages if outage] == [1, 2]
    assert Memory.model_validate_json(again.cursor or "").open["mono"].job_id == "ftjob-1"


def test_a_key_that_is_missing_is_said_at_every_tick_and_not_taken_for_silence(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLM_EXAMPLE_ORG_API_KEY", raising=False)
    task = make_task(provider="https://llm.example.org/v1")
    submit(instance, "mono", "ftjob-1")
    first = tick(task, instance)
    quiet = tick(task, instance, first.cursor)
    for words in (said(first), said(quiet)):
        assert "no API key" in words and "set LLM_EXAMPLE_ORG_API_KEY" in words and "does not answer" not in words


def test_a_provider_that_answers_again_is_followed_on(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "succeeded")
    submit(instance, "mono", "ftjob-1")
    outage = Outage(since=time.time() - 60, tries=3, next_at=time.time() - 1)

    result = tick(task, instance, Memory(outage=outage).model_dump_json())

    assert [request.partition_key for request in result.run_requests or []] == ["mono"]
    assert Memory.model_validate_json(result.cursor or "").outage is None


def test_many_successes_are_spread_over_ticks(provider: ScriptedProvider, instance: dg.DagsterInstance) -> None:
    regions = [f"r{number}" for number in range(MAX_RUNS_PER_TICK + 5)]
    task = make_task(provider=provider.base_url, regions=regions)
    for region in regions:
        provider.add_job(f"ftjob-{region}", "succeeded")
        submit(instance, region, f"ftjob-{region}")

    first = tick(task, instance)
    second = tick(task, instance, first.cursor)

    requested = [request.partition_key for tick in (first, second) for request in tick.run_requests or []]
    assert len(first.run_requests or []) == MAX_RUNS_PER_TICK
    assert requested == regions


def test_all_open_jobs_are_looked_through_as_often_however_many_they_are(
    provider: ScriptedProvider, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    at = Memory.at
    monkeypatch.setattr(Memory, "at", lambda memory, whose: [asked.append(whose), at(memory, whose)][1])
    many = make_task(provider=provider.base_url, regions=[f"r{number}" for number in range(40)])
    for number in range(40):
        provider.add_job(f"ftjob-{number}", "queued")
        submit(instance, f"r{number}", f"ftjob-{number}")
    assert said(tick(many, instance)) == "jobs in flight: 40"
    assert len(asked) <= 2


def test_a_materialization_that_names_no_job_is_left_alone(task: Task, instance: dg.DagsterInstance) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(JOB_KEY, partition="mono"))

    assert tick(task, instance).skip_reason is not None


def test_a_job_of_a_discovered_region_is_followed(provider: ScriptedProvider, instance: dg.DagsterInstance) -> None:
    provider.add_job("ftjob-1", "succeeded")
    task = make_task(provider=provider.base_url, regions="discover")
    instance.add_dynamic_partitions("cells_regions", ["mono"])
    submit(instance, "mono", "ftjob-1")

    assert [request.partition_key for request in tick(task, instance).run_requests or []] == ["mono"]


def test_a_region_that_the_task_no_longer_has_is_left_alone(
    provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "succeeded")
    submit(instance, "poly", "ftjob-1")

    result = tick(make_task(provider=provider.base_url, regions=["mono"]), instance)

    assert not result.run_requests
