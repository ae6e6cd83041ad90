"""The sensor that follows jobs: from the event log to observations, failed checks and evaluation runs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import dagster as dg
import pytest

from finetune_assets.pipeline.following import job_sensor as sensor
from finetune_assets.pipeline.following.evaluations import MAX_RUNS_PER_TICK
from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.pipeline.following.jobs import MAX_PROGRESS_PER_TICK
from finetune_assets.pipeline.following.memory import REMOTE_PACE_S, Memory, Outage
from finetune_assets.pipeline.shown.jobs_overview import KEY as JOBS_KEY
from finetune_assets.pipeline.stages.assets import ATTEMPT
from finetune_assets.provider.client import asked_as
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider

JOB_KEY = dg.AssetKey(["cells", "finetune_job"])
MODEL_KEY = dg.AssetKey(["cells", "finetuned_model"])


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedProvider]:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")
    with scripted_provider() as provider:
        yield provider


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def task(provider: ScriptedProvider) -> Task:
    return make_task(provider=provider.base_url, regions=["mono", "poly"])


def submit(instance: dg.DagsterInstance, region: str, job_id: str, **facts: str) -> int:
    """Materialise `finetune_job` as a run would, and return the storage id of the event."""
    event = dg.AssetMaterialization(JOB_KEY, partition=region, metadata={"job_id": job_id, **facts})
    instance.report_runless_asset_event(event)
    return instance.fetch_materializations(JOB_KEY, limit=1).records[0].storage_id


def tick(task: Task, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    result = job_sensor(task)(dg.build_sensor_context(instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def said(result: dg.SensorResult) -> str:
    """What a tick says that requests nothing."""
    return result.skip_reason.skip_message or "" if isinstance(result.skip_reason, dg.SkipReason) else ""


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


@pytest.fixture
def far(provider: ScriptedProvider, monkeypatch: pytest.MonkeyPatch) -> Task:
    """A task whose provider has an address that is not this machine's by name, while the clock stands still."""
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setenv("0_0_0_0_API_KEY", "a key")
    return make_task(provider=provider.base_url.replace("127.0.0.1", "0.0.0.0"), regions=["mono", "poly"])  # noqa: S104


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
