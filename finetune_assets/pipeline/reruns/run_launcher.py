"""Dagster's own launcher of runs, which also knows when the process of a run is gone.

After a power cut a run would stay started for ever, hold its place in the queue and keep its region from every other
one, and to terminate it in the UI would end in an error: its process was a child of a server that is no more.
"""

from __future__ import annotations

import json

import dagster as dg
import grpc
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._grpc.client import DagsterGrpcClient
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value

_GONE = "The process of this run is gone: Dagster was stopped while it ran."
_TIMEOUT_S = 20


class WatchedRunLauncher(DefaultRunLauncher):
    """Launches runs as `DefaultRunLauncher` does, and tells Dagster's monitor and the UI which of them still live."""

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Yes."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Ask the server that started a run whether it still goes on; one that is merely slow to answer is believed."""
        gone = _is_gone(run)
        return CheckRunHealthResult(WorkerStatus.FAILED if gone else WorkerStatus.RUNNING, _GONE if gone else None)

    def terminate(self, run_id: str) -> bool:
        """End a run; one whose process is gone is cancelled at once."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        if not _is_gone(run):
            return super().terminate(run_id)
        now = self._instance.get_run_by_id(run_id)
        if now is None or now.is_finished:
            return False
        self._instance.report_run_canceled(now, _GONE)
        return True


def _is_gone(run: dg.DagsterRun) -> bool:
    """Whether nobody listens any more where a run was started, or whoever listens there does not know it."""
    if GRPC_INFO_TAG not in run.tags:
        return False
    told = json.loads(run.tags[GRPC_INFO_TAG])
    client = DagsterGrpcClient(
        port=told.get("port"), socket=told.get("socket"), host=told["host"], use_ssl=bool(told.get("use_ssl"))
    )
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run.run_id), timeout=_TIMEOUT_S)
    except DagsterUserCodeUnreachableError as error:
        cause = error.__cause__
        return isinstance(cause, grpc.Call) and cause.code() is grpc.StatusCode.UNAVAILABLE
    # A run that is being cancelled cannot be cancelled again, and is no concern of ours: it ends.
    known = deserialize_value(answer, CanCancelExecutionResult).can_cancel
    return not known and run.status is not dg.DagsterRunStatus.CANCELING
