"""Dagster's own launcher of runs, which also knows when the process of a run is gone.

After a power cut a run would stay started for ever, hold its place in the queue and keep its region from every other
one, and to terminate it in the UI would end in an error: its process was a child of a server that is no more.
"""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import grpc
import psutil
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest

_GONE = "The process of this run is gone: Dagster was stopped while it ran."
_TIMEOUT_S = 20
_FIRST = 10
"""Events of its engine, among which a run says which process it is."""
_CLOCK_S = 60.0
"""By so much a clock may have been set."""


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches runs as `DefaultRunLauncher` does, and tells Dagster's monitor and the UI which of them still live."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Look whether a run still goes on; a server that is merely slow to answer is believed."""
        gone = _is_gone(self._instance, run)
        return CheckRunHealthResult(WorkerStatus.FAILED if gone else WorkerStatus.RUNNING, _GONE if gone else None)

    def terminate(self, run_id: str) -> bool:
        """End a run; one whose process is gone is cancelled at once."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if not _is_gone(self._instance, run):
            return super().terminate(run_id)
        now = self._instance.get_run_by_id(run_id)
        if now is None or now.is_finished:
            return False
        self._instance.report_run_canceled(now, _GONE)
        return True


def _is_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the process of a run is gone, or nobody listens any more where it was started on another machine.

    That a server does not know a run says nothing: when code was loaded again, Dagster's asks the new process of it.
    """
    if GRPC_INFO_TAG not in run.tags:
        return False
    told = json.loads(run.tags[GRPC_INFO_TAG])
    if "socket" in told or told["host"] in ("localhost", "127.0.0.1"):
        started = _started(instance, run)
        if started is not None:
            return not _lives(*started)
    return not _listens(told, run.run_id)


def _started(instance: dg.DagsterInstance, run: dg.DagsterRun) -> tuple[int, float] | None:
    """Return the number of a run's process, and when it said so (Unix seconds)."""
    events = instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT, limit=_FIRST).records
    for record in events:
        event = record.event_log_entry.dagster_event
        if event and (pid := event.engine_event_data.metadata.get("pid")):
            return int(str(pid.value)), record.timestamp
    return None


def _lives(pid: int, since: float) -> bool:
    """Whether a process lives that began no later; another one may have its number by now."""
    try:
        process = psutil.Process(pid)
        return process.create_time() < since + _CLOCK_S and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _listens(told: dict[str, Any], run_id: str) -> bool:
    client = DagsterGrpcClient(
        port=told.get("port"), socket=told.get("socket"), host=told["host"], use_ssl=bool(told.get("use_ssl"))
    )
    try:
        client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=_TIMEOUT_S)
    except DagsterUserCodeUnreachableError as error:
        cause = error.__cause__
        return not (isinstance(cause, grpc.Call) and cause.code() is grpc.StatusCode.UNAVAILABLE)
    return True
