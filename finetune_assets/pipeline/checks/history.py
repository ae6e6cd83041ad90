"""What checks have found so far, read from the event log of any Dagster, Dagster+ included.

Dagster+ keeps the tables of check results to itself: code of a user's there may read the events alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import uuid4

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

MAX_READ = 1000
"""Newest results of a check that are read at once."""


Event = dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation


@dataclass(frozen=True, slots=True)
class Found:
    """One result of a check."""

    result: dg.AssetCheckEvaluation
    at: float
    """Unix seconds."""
    storage_id: int


def failures(instance: dg.DagsterInstance, keys: Sequence[dg.AssetCheckKey]) -> list[Found]:
    """Return the newest results of these checks that were no success, oldest first."""
    failed = {AssetCheckExecutionRecordStatus.FAILED}
    found = []
    try:
        for key in keys:
            for record in instance.event_log_storage.get_asset_check_execution_history(key, MAX_READ, status=failed):
                if record.event and (result := _evaluation(record.event)):
                    found.append(Found(result, record.event.timestamp, record.id))
    except NotImplementedError:
        found = [one for one in _events(instance, set(keys)) if not one.result.passed]
    return sorted(found, key=lambda one: one.at)


def keep_results(context: dg.SensorEvaluationContext, events: Sequence[Event]) -> list[Event]:
    """Store the check results among the events of a sensor's tick, and return those that Dagster is to store.

    It would fail at the second result of a check and region, and so would each tick from then on (see `report`). Where
    a sensor is called by hand there is no Dagster that stores anything, and nothing is done.
    """
    if context.instance_ref is None:
        return list(events)
    report(context.instance, [event for event in events if isinstance(event, dg.AssetCheckEvaluation)])
    return [event for event in events if not isinstance(event, dg.AssetCheckEvaluation)]


def report(instance: dg.DagsterInstance, results: Iterable[dg.AssetCheckEvaluation]) -> None:
    """Store results that no run has found.

    Dagster's own way, which sensors take, fails at the second result of a check and region: its table wants each check
    of a region once in a run, and those without one share an empty run.
    """
    run_id = str(uuid4())
    for result in results:
        event = DagsterEvent(dg.DagsterEventType.ASSET_CHECK_EVALUATION.value, "", event_specific_data=result)
        instance.report_dagster_event(event, run_id)


def _events(instance: dg.DagsterInstance, keys: set[dg.AssetCheckKey]) -> Iterator[Found]:
    wanted = dg.EventRecordsFilter(dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    for record in instance.event_log_storage.get_event_records(wanted, limit=MAX_READ):
        result = _evaluation(record.event_log_entry)
        if result and dg.AssetCheckKey(result.asset_key, result.check_name) in keys:
            yield Found(result, record.timestamp, record.storage_id)


def _evaluation(entry: dg.EventLogEntry) -> dg.AssetCheckEvaluation | None:
    said = entry.dagster_event.event_specific_data if entry.dagster_event else None
    return said if isinstance(said, dg.AssetCheckEvaluation) else None
