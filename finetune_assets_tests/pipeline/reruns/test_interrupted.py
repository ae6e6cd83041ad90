"""Runs that were under way when Dagster was stopped."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import dagster as dg
import pytest

from finetune_assets.pipeline.reruns.interrupted import end_interrupted_runs
from finetune_assets.processes import dagster_home


def test_runs_that_dagster_was_stopped_under_have_ended_and_leave_their_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    status = dg.DagsterRunStatus
    expected = {
        status.STARTED: status.FAILURE,
        status.STARTING: status.FAILURE,
        status.CANCELING: status.CANCELED,
        status.SUCCESS: status.SUCCESS,
    }
    with dg.DagsterInstance.from_config(str(dagster_home())) as instance:
        runs = {
            before: instance.add_run(dg.DagsterRun("job", str(uuid4()), status=before)).run_id for before in expected
        }
        assert end_interrupted_runs(tmp_path) == 3
        found = {before: instance.get_run_by_id(run) for before, run in runs.items()}
        assert {before: run.status for before, run in found.items() if run} == expected
        # Dagster's own word for it: the daemon starts these again, as it does where a run's process dies.
        (started,) = [run for before, run in found.items() if run and before is status.STARTED]
        assert started.tags["dagster/will_retry"] == "true"
    assert end_interrupted_runs(tmp_path) == 0
