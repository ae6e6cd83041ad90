"""Runs under which Dagster was stopped: nobody else would ever say that they have ended."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
from dagster._core.launcher import DefaultRunLauncher

_IN_PROGRESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_WHY = "Dagster was stopped while this ran."


def end_interrupted_runs(home: Path) -> int:
    """Say of each run in progress that it has ended, and return how many there were; Dagster then starts them again.

    For a home on which no Dagster runs: its runs were its children. Left as they are, they would hold their places in
    the queue for ever. Runs that a launcher of the user's own has started elsewhere are left alone.
    """
    with dg.DagsterInstance.from_config(str(home)) as instance:
        if not isinstance(instance.run_launcher, DefaultRunLauncher):
            return 0
        runs = instance.get_runs(dg.RunsFilter(statuses=_IN_PROGRESS))
        for run in runs:
            if run.status is dg.DagsterRunStatus.CANCELING:
                instance.report_run_canceled(run, _WHY)
            else:
                instance.report_run_failed(run, _WHY)
        return len(runs)
