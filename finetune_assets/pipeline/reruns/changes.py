"""What has changed in a task's regions since they were last prepared, and which of them are at work just now.

Everything is asked of Dagster's storage, the source and the reviewers' database themselves; what was requested before
proves nothing, for that run may have failed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.storage.dagster_run import NOT_FINISHED_STATUSES

from finetune_assets.dataset.answer_reading import label
from finetune_assets.dataset.corrections import changed
from finetune_assets.dataset.sources import Digest, read, version
from finetune_assets.dataset.table import Table, records
from finetune_assets.pipeline.checks import model_checks
from finetune_assets.pipeline.stage import Region, asset_key
from finetune_assets.pipeline.stages import reviews
from finetune_assets.pipeline.stages.assets import SOURCE_FILES, SOURCE_ROWS
from finetune_assets.pipeline.stages.human_feedback import NEWEST_EVENT, applied
from finetune_assets.task import Task

if TYPE_CHECKING:
    from finetune_assets.feedback.store.database import FeedbackDatabase

WHY = "finetune_assets/why"
"""Tag of a run that nobody asked for by hand: what has changed in its region."""
COMPARING_SECONDS = 30
"""How long a tick reads changed files; it is ended after 60."""
_MADE = dg.DagsterEventType.ASSET_MATERIALIZATION
_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class News:
    """A region in which reviewers have done something that no run has applied yet."""

    event: int
    """Number of the newest thing they did."""
    applied: int
    """Storage id of the `filtered_qa` that has applied what they did before; 0 where there is none."""


def news(instance: dg.DagsterInstance, db: FeedbackDatabase, task: Task, regions: Collection[str]) -> dict[str, News]:
    """Find the regions in which reviewers did something since; whether it changes any label is not looked at.

    Raises:
        FeedbackDatabaseError: the database cannot be reached.
    """
    from finetune_assets.feedback.store.decisions import regions_with_feedback

    wanted = set(regions)
    newest = {
        name: found.newest_event for name, found in regions_with_feedback(db, task.task).items() if name in wanted
    }
    if not newest:
        return {}
    read = _records(instance, task, "human_feedback", newest)
    applied = _latest(instance, task, "filtered_qa", newest)
    return {
        region: News(event, applied.get(region, 0))
        for region, event in newest.items()
        if region not in read
        or event > int(_metadata(read[region], NEWEST_EVENT) or 0)
        or read[region].storage_id > applied.get(region, 0)
    }


def decided_anew(db: FeedbackDatabase, region: Region) -> int:
    """Count the examples about which reviewers decide something else than `filtered_qa` has applied.

    A label that they merely confirm does not count: nothing would be trained otherwise.

    Raises:
        FeedbackDatabaseError: the database cannot be reached.
    """
    from finetune_assets.feedback.store.decisions import decisions

    now = reviews.as_table(decisions(db, region.task.task, region.name))
    other = changed(applied(region), now)
    new = now.loc[now["example_id"].isin(list(other))].dropna(subset="answer")
    return len(other) - _confirmations(region, dict(zip(new["example_id"], new["answer"], strict=True)))


def _confirmations(region: Region, said: Mapping[str, str]) -> int:
    """Count the clean examples whose label is what was said of them, by id."""
    n, clean = 0, Table(region.path("filtered_qa", ".parquet"))
    for chunk in clean.chunks(["example_id", "answer"]) if said and clean.path.exists() else ():
        for row in records(chunk.loc[chunk["example_id"].isin(list(said))]):
            read = label(said[row["example_id"]], region.task.answer)
            n += read is not None and read.answer == row["answer"]
    return n


def got_through(instance: dg.DagsterInstance, task: Task, regions: Collection[str]) -> set[str]:
    """Return the regions whose newest clean examples were followed by a job."""
    filtered = _latest(instance, task, "filtered_qa", regions)
    submitted = _latest(instance, task, "finetune_job", regions)
    return {region for region in filtered if submitted.get(region, 0) > filtered[region]}


def at_work(instance: dg.DagsterInstance, task: Task, regions: Collection[str]) -> dict[str, str]:
    """Say which of these regions are at work, and at what: a run, or a job whose end nobody has seen."""
    if not regions:
        return {}
    named = dg.RunsFilter(statuses=NOT_FINISHED_STATUSES, tags={"dagster/partition": sorted(regions)})
    running = {run.tags["dagster/partition"] for run in instance.get_runs(named) if _is_of(run, task)}
    submitted = _latest(instance, task, "finetune_job", regions)
    made = _latest(instance, task, "finetuned_model", regions)
    ended = _last_checked(instance, task)
    training = {
        region: "its job is being trained"
        for region, when in submitted.items()
        if when > max(made.get(region, 0), ended.get(region, 0))
    }
    return training | dict.fromkeys(running, "a run of it is going on")


def never_prepared(instance: dg.DagsterInstance, task: Task, regions: Sequence[str]) -> list[str]:
    """List the regions, in their order, of which nothing was made yet and no run is going on."""
    made = _latest(instance, task, "sampled_examples", regions)
    missing = [region for region in regions if region not in made]
    busy = at_work(instance, task, missing)
    return [region for region in missing if region not in busy]


def changed_data(instance: dg.DagsterInstance, task: Task, regions: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the regions that were never prepared, whose rows have changed, or whose last run failed, and why.

    Where there is no time to compare all rows, a region counts as changed if the source's files have.

    Raises:
        SourceError: the source cannot be read.
    """
    files, until = version(task.source), time.monotonic() + COMPARING_SECONDS
    made = _records(instance, task, "sampled_examples", regions)
    failed = _failed(instance, task, made)
    for region in regions:
        if region not in made:
            yield region, "it was never prepared"
        elif region in failed:
            yield region, "its last run failed"
        elif _metadata(made[region], SOURCE_FILES) != files:
            rows = _rows(task, region, until)
            if rows is None:
                yield region, "the source's files have changed, and are too large to compare each region's rows"
            elif rows != _metadata(made[region], SOURCE_ROWS):
                yield region, "its rows in the source have changed"


def _rows(task: Task, region: str, until: float) -> str | None:
    """Hash a region's rows; None where time is up."""
    digest = Digest()
    for number, _ in enumerate(digest.over(read(task.source, region, task.answer))):
        if number % 1000 == 0 and time.monotonic() > until:
            return None
    return str(digest)


def _is_of(run: dg.DagsterRun, task: Task) -> bool:
    selected = run.asset_selection or ()
    return run.job_name.startswith(f"{task.task}_") or any(key.path[0] == task.task for key in selected)


def _latest(instance: dg.DagsterInstance, task: Task, stage: str, regions: Collection[str]) -> Mapping[str, int]:
    """Storage id of each region's newest materialization of a stage."""
    key = asset_key(task, stage)
    return instance.event_log_storage.get_latest_storage_id_by_partition(key, _MADE, set(regions))


def _last_checked(instance: dg.DagsterInstance, task: Task) -> dict[str, int]:
    """Storage id of the newest event of each region's check of how its job ended."""
    key = dg.AssetCheckKey(asset_key(task, "finetuned_model"), model_checks.JOB_SUCCEEDED.name)
    found = instance.event_log_storage.get_asset_check_partition_info([key])
    return {str(info.partition_key): info.latest_check_event_storage_id for info in found}


def _records(
    instance: dg.DagsterInstance, task: Task, stage: str, regions: Collection[str]
) -> dict[str, dg.EventLogRecord]:
    """Each region's newest materialization of a stage."""
    wanted, found = sorted(_latest(instance, task, stage, regions).values()), {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = dg.AssetRecordsFilter(asset_key(task, stage), storage_ids=wanted[start : start + _AT_ONCE])
        for record in instance.fetch_materializations(part, limit=_AT_ONCE).records:
            found[str(record.partition_key)] = record
    return found


def _failed(instance: dg.DagsterInstance, task: Task, records: Mapping[str, dg.EventLogRecord]) -> set[str]:
    """The regions whose last run sampled examples and failed before it had submitted a job."""
    submitted = _latest(instance, task, "finetune_job", records.keys())
    short = {
        record.run_id: region for region, record in records.items() if record.storage_id > submitted.get(region, 0)
    }
    runs, failed = sorted(short), set()
    for start in range(0, len(runs), _AT_ONCE):
        named = dg.RunsFilter(run_ids=runs[start : start + _AT_ONCE], statuses=[dg.DagsterRunStatus.FAILURE])
        failed |= {short[run.run_id] for run in instance.get_runs(named)}
    return failed


def _metadata(record: dg.EventLogRecord, name: str) -> str | None:
    made = record.asset_materialization
    value = made.metadata.get(name) if made else None
    return None if value is None else str(value.value)
