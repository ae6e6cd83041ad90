"""The runs that evaluate models: what fails is tried again after pauses, and what is given up is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
import pytest

from finetune_assets.pipeline.at_work import at_work
from finetune_assets.pipeline.following.evaluations import MAX_ATTEMPTS
from finetune_assets.pipeline.following.job_sensor import job_sensor
from finetune_assets.task import Task
from finetune_assets_tests.pipeline.tasks import make_task
from finetune_assets_tests.scripted_provider import ScriptedProvider, scripted_provider

FAILURE, CANCELED, STARTED = dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.STARTED


@dataclass
class Followed:
    """A region whose job has succeeded, followed by its sensor while a test moves the clock."""

    task: Task
    provider: ScriptedProvider
    instance: dg.DagsterInstance
    cursor: str | None = None
    now: float = field(default_factory=time.time)
    said: str = ""
    events: list[dg.AssetObservation | dg.AssetCheckEvaluation | dg.AssetMaterialization] = field(default_factory=list)

    def make(self, stage: str, region: str = "mono", **metadata: str) -> None:
        made = dg.AssetMaterialization([self.task.task, stage], partition=region, metadata=metadata)
        self.instance.report_runless_asset_event(made)

    def tick(self) -> list[dg.RunRequest]:
        result = job_sensor(self.task)(dg.build_sensor_context(self.instance, cursor=self.cursor))
        assert isinstance(result, dg.SensorResult)
        self.cursor, self.events = result.cursor, list(result.asset_events)
        self.said = result.skip_reason.skip_message or "" if isinstance(result.skip_reason, dg.SkipReason) else ""
        for event in self.events:
            self.instance.report_runless_asset_event(event)
        return list(result.run_requests or [])

    def launch(self, request: dg.RunRequest, status: dg.DagsterRunStatus) -> str:
        """Store the run of a request as the daemon does, and as it ended or goes on."""
        tags = {**request.tags, "dagster/run_key": request.run_key or "", "dagster/partition": "mono"}
        run = dg.DagsterRun(request.job_name or "cells_evaluate", tags=tags, status=status)
        return self.instance.add_run(run).run_id


@pytest.fixture
def followed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Followed]:
    monkeypatch.setenv("FINETUNE_ASSETS_API_KEY", "a key")
    with scripted_provider() as provider, dg.DagsterInstance.ephemeral() as instance:
        followed = Followed(make_task(provider=provider.base_url, regions=["mono", "poly"]), provider, instance)
        monkeypatch.setattr(time, "time", lambda: followed.now)
        provider.add_job("ftjob-1", "succeeded")
        followed.make("finetune_job", job_id="ftjob-1")
        yield followed


@pytest.mark.parametrize("status", [FAILURE, CANCELED])
def test_an_evaluation_that_fails_or_is_cancelled_is_tried_again_after_pauses_that_grow(
    followed: Followed, status: dg.DagsterRunStatus
) -> None:
    began, keys = followed.now, set()
    for minutes in (0, 1, 5, 21, 85, 341):
        followed.now = began + 60 * minutes - 1
        assert not minutes or not followed.tick()
        followed.now += 1
        [request] = followed.tick()
        keys.add(request.run_key)
        followed.launch(request, status)
    followed.now += 86_400
    assert not followed.tick()
    assert len(keys) == MAX_ATTEMPTS == 6


def test_every_failure_is_told_and_the_last_one_by_a_failed_check(followed: Followed) -> None:
    told = []
    for _ in range(MAX_ATTEMPTS):
        [request] = followed.tick()
        followed.launch(request, FAILURE)
        followed.tick()
        told.append(followed.events)
        followed.now += 86_400
    assert [[type(event).__name__ for event in events] for events in told] == [["AssetObservation"]] * 5 + [
        ["AssetCheckEvaluation", "AssetObservation"]
    ]
    first, last = told[0][0], told[-1][0]
    assert isinstance(first, dg.AssetObservation) and isinstance(last, dg.AssetCheckEvaluation)
    assert "attempt 1 to evaluate the model of job ftjob-1 failed: its run was ended from outside. It is tried" in str(
        first.description
    )
    assert (last.check_name, last.passed, last.severity) == ("evaluated", False, dg.AssetCheckSeverity.ERROR)
    assert "attempt 6" in str(last.description) and not followed.tick()


def test_a_model_that_is_evaluated_is_done_with_whoever_did_it(followed: Followed) -> None:
    [request] = followed.tick()
    followed.launch(request, FAILURE)
    followed.make("champion")
    followed.now += 3600
    assert not followed.tick() and followed.said == "no jobs in flight"


def test_a_run_that_goes_on_or_that_dagster_starts_again_is_waited_for(followed: Followed) -> None:
    [request] = followed.tick()
    run_id = followed.launch(request, STARTED)
    followed.now += 3600
    assert not followed.tick() and followed.said == "models being evaluated: 1"
    run = followed.instance.get_run_by_id(run_id)
    assert run
    followed.instance.delete_run(run_id)
    dead = request._replace(tags={**request.tags, "dagster/will_retry": "true"})
    followed.launch(dead, FAILURE)
    assert not followed.tick()


def test_a_run_that_was_requested_and_never_launched_is_requested_again_by_its_key(followed: Followed) -> None:
    [request] = followed.tick()
    assert not followed.tick()
    followed.now += 61
    assert [again.run_key for again in followed.tick()] == [request.run_key]


def test_a_region_of_which_another_run_goes_on_waits_for_its_end(followed: Followed) -> None:
    other = dg.DagsterRun("cells_prepare", tags={"dagster/partition": "mono"}, status=STARTED)
    run_id = followed.instance.add_run(other).run_id
    assert not followed.tick()
    followed.instance.delete_run(run_id)
    assert len(followed.tick()) == 1


def test_a_lost_cursor_evaluates_what_was_given_up_and_nothing_that_is_evaluated(followed: Followed) -> None:
    for _ in range(MAX_ATTEMPTS):
        [request] = followed.tick()
        followed.launch(request, FAILURE)
        followed.tick()
        followed.now += 86_400
    followed.provider.add_job("ftjob-2", "succeeded")
    followed.make("finetune_job", "poly", job_id="ftjob-2")
    followed.make("champion", "poly")
    followed.cursor = None
    [again] = followed.tick()
    assert (again.partition_key, str(again.run_key).endswith(":7")) == ("mono", True)


def test_a_cursor_of_an_earlier_version_is_read_anew(followed: Followed) -> None:
    followed.cursor = '{"after": 99, "open": {}}'
    assert [request.partition_key for request in followed.tick()] == ["mono"]


def test_nothing_else_prepares_a_region_whose_evaluation_is_tried_again(followed: Followed) -> None:
    [request] = followed.tick()
    followed.make("finetuned_model")
    followed.launch(request, FAILURE)
    assert at_work(followed.instance, followed.task, ["mono"]) == {"mono": "its model is being evaluated"}
    for _ in range(MAX_ATTEMPTS):
        followed.now += 86_400
        for again in followed.tick():
            followed.launch(again, FAILURE)
    assert at_work(followed.instance, followed.task, ["mono"]) == {}


def test_a_region_that_goes_is_said_once_and_holds_up_no_other(followed: Followed) -> None:
    followed.provider.add_job("ftjob-2", "succeeded")
    followed.make("finetune_job", "poly", job_id="ftjob-2")
    both, followed.task = followed.task, make_task(provider=followed.provider.base_url, regions=["poly"])
    assert [request.partition_key for request in followed.tick()] == ["poly"]
    assert followed.cursor and '"gone":{"mono":' in followed.cursor
    followed.task = both
    assert [request.partition_key for request in followed.tick()] == ["mono"]


def test_a_partition_that_is_deleted_while_its_job_runs_holds_up_no_other(followed: Followed) -> None:
    followed.task = make_task(provider=followed.provider.base_url, regions="discover")
    followed.instance.add_dynamic_partitions("cells_regions", ["mono", "poly"])
    followed.provider.add_job("ftjob-1", "running")
    followed.provider.add_job("ftjob-2", "running")
    followed.make("finetune_job", "poly", job_id="ftjob-2")
    assert not followed.tick()
    followed.instance.delete_dynamic_partition("cells_regions", "mono")
    for job_id in ("ftjob-1", "ftjob-2"):
        followed.provider.add_job(job_id, "succeeded")
    assert [request.partition_key for request in followed.tick()] == ["poly"]
    followed.instance.add_dynamic_partitions("cells_regions", ["mono"])
    assert [request.partition_key for request in followed.tick()] == ["mono"]


def test_an_evaluation_that_a_check_has_stopped_is_told_at_once_and_not_repeated(followed: Followed) -> None:
    key = dg.AssetKey(["cells", "benchmark"])
    spec = dg.AssetCheckSpec("enough_scores", asset=key, blocking=True)

    @dg.asset(key=key, check_specs=[spec], partitions_def=dg.StaticPartitionsDefinition(["mono"]))
    def benchmark() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False, check_name="enough_scores")])

    [request] = followed.tick()
    tags = {**request.tags, "dagster/run_key": request.run_key or ""}
    job = dg.Definitions([benchmark], jobs=[dg.define_asset_job("cells_evaluate", [key])]).resolve_job_def(
        "cells_evaluate"
    )
    job.execute_in_process(instance=followed.instance, partition_key="mono", tags=tags, raise_on_error=False)
    followed.now += 3600
    assert not followed.tick()
    [told, _] = followed.events
    assert isinstance(told, dg.AssetCheckEvaluation) and "enough_scores" in str(told.description)
