"""What a demo learns of its own runs from a real Dagster, beside runs of others."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

import dagster as dg
import pytest

from finetune_assets.demo.dagster_client import _DEMO, DagsterClient, DagsterError
from finetune_assets.processes import dagster, dagster_home
from finetune_assets_tests.demo.homes import write_home
from finetune_assets_tests.long_tests import long
from finetune_assets_tests.patience import PATIENCE_S

pytestmark = pytest.mark.xdist_group("dagster")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DagsterClient]:
    """A Dagster that has loaded two tasks, whose regions are called alike."""
    home = write_home(tmp_path_factory.mktemp("home"), "first", "second")
    (home / "tasks/second/rows.jsonl").unlink()
    with pytest.MonkeyPatch.context() as environment:
        environment.chdir(home)
        environment.delenv("DAGSTER_HOME", raising=False)
        environment.delenv("FINETUNE_ASSETS_DATA", raising=False)
        with dagster(print) as running:
            found = DagsterClient(running.url)
            found.wait_until_loaded(running.require_alive, PATIENCE_S)
            yield found


def ended(client: DagsterClient, demo: str) -> str:
    """Wait for the end of a demo's only run; return its status."""
    while True:
        found = [run.status for run in client._runs((_DEMO, demo))]
        if found and found[0] in ("SUCCESS", "FAILURE", "CANCELED"):
            return found[0]
        time.sleep(0.3)


def add_run(status: dg.DagsterRunStatus, **tags: str) -> str:
    """Put a run into Dagster's memory as if it had run."""
    with dg.DagsterInstance.from_config(str(dagster_home())) as instance:
        named = {_DEMO if name == "demo" else f"dagster/{name}": value for name, value in tags.items()}
        run = dg.DagsterRun(job_name="first_evaluate", run_id=str(uuid4()), status=status, tags=named)
        return instance.add_run(run).run_id


def test_the_failed_run_of_another_task_in_a_region_of_the_same_name_is_not_ours(client: DagsterClient) -> None:
    since, failed = time.time() - 1, {"partition": "all", "will_retry": "false"}
    add_run(dg.DagsterRunStatus.FAILURE, demo="of the second", **failed)
    assert client.failures("first", "of the first", ["all"], since) == {}
    assert set(client.failures("second", "of the second", ["all"], since)) == {"all"}


@long
def test_a_failing_run_of_another_task_in_a_region_of_the_same_name_changes_nothing(client: DagsterClient) -> None:
    since = time.time()
    demos = {task: client.start_runs(task, ["sampled_examples"], ["all"]) for task in ("first", "second")}
    assert [ended(client, demos[task]) for task in ("first", "second")] == ["SUCCESS", "FAILURE"]
    assert client.failures("first", demos["first"], ["all"], since) == {}
    # Its tag, that it is not started again, may come a moment after the failure.
    while not (found := client.failures("second", demos["second"], ["all"], since)):
        time.sleep(0.3)
    assert "rows.jsonl" in found["all"]
    assert set(client.materialized("first", ["sampled_examples"], ["all"])) == {("sampled_examples", "all")}


def test_only_a_sensor_of_the_task_speaks_for_it(client: DagsterClient) -> None:
    since = time.time() - 1
    failed = {"partition": "all", "will_retry": "false"}
    add_run(dg.DagsterRunStatus.FAILURE, sensor_name="second_jobs", **failed)
    add_run(dg.DagsterRunStatus.FAILURE, **failed)
    assert client.failures("first", "none", ["all"], since) == {}
    run = add_run(dg.DagsterRunStatus.FAILURE, sensor_name="first_jobs", **failed)
    assert client.failures("first", "none", ["all", "other"], since) == {"all": f"no reason is logged (run {run})"}
    assert client.failures("first", "none", ["other"], since) == {}


@long
def test_a_run_that_dagster_starts_again_is_not_final(client: DagsterClient) -> None:
    since = time.time() - 1
    of = {"partition": "all", "demo": "tried"}
    add_run(dg.DagsterRunStatus.FAILURE, **of, will_retry="true")
    assert client.failures("first", "tried", ["all"], since) == {}
    # The one that is started in its place need not have its tags.
    again = add_run(dg.DagsterRunStatus.STARTED)
    add_run(dg.DagsterRunStatus.FAILURE, **of, will_retry="true", auto_retry_run_id=again)
    assert client.failures("first", "tried", ["all"], since) == {}


def test_a_run_that_somebody_cancels_is_final(client: DagsterClient) -> None:
    add_run(dg.DagsterRunStatus.CANCELED, partition="all", demo="cancelled")
    assert set(client.failures("first", "cancelled", ["all"], time.time())) == {"all"}


@long
def test_runs_that_are_cancelled_fail_their_regions_unless_they_were_quicker(client: DagsterClient) -> None:
    demo = client.start_runs("first", ["sampled_examples"], ["all"])
    client.cancel_runs(demo, PATIENCE_S)
    status = ended(client, demo)
    assert status in ("SUCCESS", "CANCELED")
    assert set(client.failures("first", demo, ["all"], time.time())) == ({"all"} if status == "CANCELED" else set())


def test_a_run_of_what_does_not_exist_is_refused(client: DagsterClient) -> None:
    with pytest.raises(DagsterError, match="a run was refused: .*no_such_stage"):
        client.start_runs("first", ["no_such_stage"], ["all"])


def test_silence_is_an_error_of_ours() -> None:
    with pytest.raises(DagsterError, match="Dagster at http://127.0.0.1:9 does not answer"):
        DagsterClient("http://127.0.0.1:9").reload()
