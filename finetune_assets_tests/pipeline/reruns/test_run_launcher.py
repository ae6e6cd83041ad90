"""The launcher that knows when the process of a run is gone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import dagster as dg
import psutil
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import WorkerStatus

from finetune_assets.pipeline.reruns.run_launcher import WatchedRunLauncher
from finetune_assets.processes import dagster_home

STARTED = dg.DagsterRunStatus.STARTED


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    with dg.DagsterInstance.from_config(str(dagster_home())) as instance:
        yield instance


def run_of(instance: dg.DagsterInstance, port: int) -> dg.DagsterRun:
    """A run that a server on this port has started."""
    tags = {".dagster/grpc_info": json.dumps({"host": "localhost", "port": port})}
    return instance.add_run(dg.DagsterRun("job", str(uuid4()), status=STARTED, tags=tags))


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


def test_our_home_watches_its_runs(instance: dg.DagsterInstance) -> None:
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    assert instance.run_monitoring_enabled and instance.run_monitoring_max_runtime_seconds > 24 * 3600


def test_a_run_whose_server_is_gone_has_failed_and_can_be_terminated(instance: dg.DagsterInstance) -> None:
    run = run_of(instance, free_port())
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED
    assert instance.run_launcher.terminate(run.run_id)
    ended = instance.get_run_by_id(run.run_id)
    assert ended and ended.status is dg.DagsterRunStatus.CANCELED
    assert not instance.run_launcher.terminate(run.run_id)


def test_a_run_lives_as_long_as_its_process_whatever_its_server_says(instance: dg.DagsterInstance) -> None:
    run = run_of(instance, free_port())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = f"Started process for run (pid: {process.pid})."
        instance.report_engine_event(started, run, EngineEventData.in_process(process.pid))
        assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        process.kill()
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_another_process_that_has_the_number_of_a_run_is_not_its_process(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(instance, free_port())
    instance.report_engine_event("Started", run, EngineEventData.in_process(os.getpid()))
    later = time.time() + 3600
    monkeypatch.setattr(psutil.Process, "create_time", lambda self: later)
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_run_that_no_server_has_started_yet_is_left_alone(instance: dg.DagsterInstance) -> None:
    run = instance.add_run(dg.DagsterRun("job", str(uuid4()), status=STARTED))
    assert instance.run_launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
