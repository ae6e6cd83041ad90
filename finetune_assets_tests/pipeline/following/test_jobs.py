"""What the sensor asks the provider, how often and how much at once, and what it submits."""

from __future__ import annotations

import time

import dagster as dg
import pytest

from finetune_assets.pipeline.at_work import at_work
from finetune_assets.pipeline.following import job_sensor as sensor
from finetune_assets.pipeline.following.jobs import MAX_PROGRESS_PER_TICK
from finetune_assets.pipeline.following.memory import REMOTE_PACE_S, Memory
from finetune_assets.pipeline.shown.jobs_overview import KEY as JOBS_KEY
from finetune_assets.pipeline.stages.assets import ATTEMPT
from finetune_assets.provider.client import asked_as
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.following.ticks import JOB_KEY, said, submit, tick
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider


def wait_for_a_place(instance: dg.DagsterInstance, region: str, attempt: str = "") -> None:
    """Materialise `finetune_job` as a run does that found no free place."""
    made = dg.AssetMaterialization(JOB_KEY, partition=region, metadata={"status": "waiting", ATTEMPT: attempt})
    instance.report_runless_asset_event(made)


def test_waiting_regions_are_submitted_as_places_become_free(
    provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    regions = ["r1", "r2", "r3"]
    task = make_task(provider=provider.base_url, regions=regions, max_open_jobs=2)
    provider.add_job("ftjob-elsewhere", "running")
    for region in regions:
        wait_for_a_place(instance, region)

    first = tick(task, instance)
    none_yet = tick(task, instance, first.cursor)
    provider.add_job("ftjob-1", "queued")
    submit(instance, "r1", "ftjob-1")
    full = tick(task, instance, none_yet.cursor)
    provider.add_job("ftjob-elsewhere", "succeeded")
    free = tick(task, instance, full.cursor)

    [request] = first.run_requests or []
    assert (request.job_name, request.partition_key, request.asset_selection) == ("cells_prepare", "r1", [JOB_KEY])
    assert not none_yet.run_requests and not full.run_requests
    assert [request.partition_key for request in free.run_requests or []] == ["r2"]


def test_a_region_that_found_no_place_again_keeps_waiting(
    provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    task = make_task(provider=provider.base_url, regions=["mono"], max_open_jobs=1)
    wait_for_a_place(instance, "mono")
    first = tick(task, instance)
    wait_for_a_place(instance, "mono")
    second = tick(task, instance, first.cursor)

    keys = [request.run_key for result in (first, second) for request in result.run_requests or []]
    assert len(set(keys)) == 2


def test_what_the_yaml_has_changed_since_is_not_submitted_and_may_be_prepared_again(
    provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    task = make_task(provider=provider.base_url, regions=["mono"], max_open_jobs=1)
    of_before = {"dagster/code_version": "another"}
    written = dg.AssetMaterialization(["cells", "training_jsonl"], partition="mono", tags=of_before)
    instance.report_runless_asset_event(written)
    wait_for_a_place(instance, "mono")
    result = tick(task, instance)
    assert not result.run_requests
    assert "to be prepared again first, for the YAML has changed since: mono" in said(result)
    assert not at_work(instance, task, ["mono"])


def test_a_long_list_is_read_over_several_ticks(
    provider: ScriptedProvider, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensor, "ASKING_SECONDS", -1)
    task = make_task(provider=provider.base_url, regions=["old", "gone"])
    provider.add_job("ftjob-old", "succeeded")
    for number in range(250):
        provider.add_job(f"ftjob-{number}", "succeeded")
    submit(instance, "old", "ftjob-old")
    submit(instance, "gone", "ftjob-gone")

    results = [tick(task, instance)]
    for _ in range(4):
        results.append(tick(task, instance, results[-1].cursor))

    assert [len(result.run_requests or []) for result in results] == [0, 0, 1, 0, 0]
    evaluation, _ = [event for result in results for event in result.asset_events]
    assert "does not know job ftjob-gone" in (evaluation.description or "")
    assert provider.asked["list"] == 3


def test_every_running_job_is_looked_at_in_turn(provider: ScriptedProvider, instance: dg.DagsterInstance) -> None:
    regions = [f"r{number}" for number in range(2 * MAX_PROGRESS_PER_TICK)]
    task = make_task(provider=provider.base_url, regions=regions)
    for region in regions:
        provider.add_job(f"ftjob-{region}", "running")
        submit(instance, region, f"ftjob-{region}")

    first = tick(task, instance)
    second = tick(task, instance, first.cursor)

    observed = [event.partition for result in (first, second) for event in result.asset_events]
    assert sorted(map(str, observed)) == sorted(regions)


def hint(instance: dg.DagsterInstance, job_id: str) -> None:
    """Observe `finetune_jobs` as the receiver of webhooks does."""
    instance.report_runless_asset_event(dg.AssetObservation(JOBS_KEY, metadata={"job_id": job_id}))


def test_a_remote_provider_is_asked_every_half_minute_and_whenever_something_was_submitted(
    far: Task, provider: ScriptedProvider, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job_id in ("ftjob-1", "ftjob-2"):
        provider.add_job(job_id, "queued")
    submit(instance, "mono", "ftjob-1")
    first = tick(far, instance)
    quiet = tick(far, instance, first.cursor)
    assert provider.asked == {"list": 1}
    assert quiet.skip_reason and "jobs in flight: 1; http://0.0.0.0" in (quiet.skip_reason.skip_message or "")

    submit(instance, "poly", "ftjob-2")
    news = tick(far, instance, quiet.cursor)
    assert provider.asked == {"list": 2}

    later = time.time() + REMOTE_PACE_S
    monkeypatch.setattr(time, "time", lambda: later)
    tick(far, instance, news.cursor)
    assert provider.asked == {"list": 3}


def test_a_clock_that_was_set_back_does_not_stop_the_following(
    far: Task, provider: ScriptedProvider, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.add_job("ftjob-1", "queued")
    submit(instance, "mono", "ftjob-1")
    first = tick(far, instance)
    earlier = time.time() - 86_400
    monkeypatch.setattr(time, "time", lambda: earlier)
    tick(far, instance, first.cursor)
    assert provider.asked == {"list": 2}


def test_of_a_job_that_is_said_to_have_ended_that_job_alone_is_asked(
    far: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    for region, job_id in (("mono", "ftjob-1"), ("poly", "ftjob-2")):
        provider.add_job(job_id, "running")
        submit(instance, region, job_id)
    first = tick(far, instance)
    provider.add_job("ftjob-2", "succeeded")
    provider.asked.clear()
    for _ in range(2):
        hint(instance, "ftjob-2")

    woken = tick(far, instance, first.cursor)
    again = tick(far, instance, woken.cursor)

    assert provider.asked == {"retrieve": 1}
    assert [request.partition_key for request in woken.run_requests or []] == ["poly"]
    assert not again.run_requests and set(Memory.model_validate_json(again.cursor or "").open) == {"mono"}


@pytest.mark.parametrize(("said", "asked"), [("ftjob-1", {"retrieve": 1}), ("ftjob-of-nobody", {})])
def test_the_provider_is_believed_and_not_the_webhook(
    far: Task, provider: ScriptedProvider, instance: dg.DagsterInstance, said: str, asked: dict[str, int]
) -> None:
    provider.add_job("ftjob-1", "running")
    submit(instance, "mono", "ftjob-1")
    first = tick(far, instance)
    provider.asked.clear()
    hint(instance, said)

    ticks = [woken := tick(far, instance, first.cursor), tick(far, instance, woken.cursor)]

    assert provider.asked == asked
    assert not any(result.run_requests or result.asset_events for result in ticks)
    assert "mono" in Memory.model_validate_json(ticks[-1].cursor or "").open


def test_what_a_webhook_says_is_kept_while_the_provider_is_silent(
    far: Task, provider: ScriptedProvider, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.add_job("ftjob-1", "running")
    submit(instance, "mono", "ftjob-1")
    first = tick(far, instance)
    hint(instance, "ftjob-1")
    silent = far.model_copy(update={"provider": "http://0.0.0.0:9/v1"})
    outage = tick(silent, instance, first.cursor)
    assert Memory.model_validate_json(outage.cursor or "").hinted() == ["mono"]

    provider.add_job("ftjob-1", "failed")
    soon = time.time() + 20
    monkeypatch.setattr(time, "time", lambda: soon)
    evaluation, _ = tick(far, instance, outage.cursor).asset_events
    assert isinstance(evaluation, dg.AssetCheckEvaluation) and not evaluation.passed


def test_jobs_are_asked_for_in_pages(provider: ScriptedProvider, instance: dg.DagsterInstance) -> None:
    regions = [f"r{number}" for number in range(250)]
    task = make_task(provider=provider.base_url, regions=regions)
    for region in regions:
        provider.add_job(f"ftjob-{region}", "queued")
        submit(instance, region, f"ftjob-{region}")

    tick(task, instance)

    assert provider.asked == {"list": 3}


def test_a_job_at_another_provider_is_followed_again_when_the_task_names_it_again(
    task: Task, provider: ScriptedProvider, instance: dg.DagsterInstance
) -> None:
    provider.add_job("ftjob-1", "succeeded")
    submit(instance, "mono", "ftjob-1", provider=asked_as(provider.client()))
    with scripted_provider() as other:
        away = tick(task.model_copy(update={"provider": other.base_url}), instance)
    assert not away.run_requests and not away.asset_events
    assert f"1 of them at {provider.base_url}/, which the task does not name now" in str(away.skip_reason)
    [request] = tick(task, instance, away.cursor).run_requests or []
    assert request.partition_key == "mono"
