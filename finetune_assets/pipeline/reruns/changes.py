"""What has changed in a task's regions since they were last prepared.

Everything is asked of Dagster's storage, the source and the reviewers' database themselves; what was requested before
proves nothing, for that run may have failed.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from finetune_assets.dataset.answer_reading import label
from finetune_assets.dataset.corrections import changed
from finetune_assets.dataset.sources import Digest, digests, read, version
from finetune_assets.dataset.table import Table, records
from finetune_assets.errors import SourceError
from finetune_assets.pipeline.at_work import at_work, latest
from finetune_assets.pipeline.stage import asset_key
from finetune_assets.pipeline.stages import reviews
from finetune_assets.pipeline.stages.assets import SOURCE_FILES, SOURCE_ROWS
from finetune_assets.pipeline.stages.human_feedback import NEWEST_EVENT, applied
from finetune_assets.results.region import Region
from finetune_assets.task import Task

if TYPE_CHECKING:
    from finetune_assets.feedback.store.database import FeedbackDatabase

WHY = "finetune_assets/why"
"""Tag of a run that nobody asked for by hand: what has changed in its region."""
COMPARING_SECONDS = 40
"""How long a tick reads changed files; it is ended after 60."""
_LOOK_AT_CLOCK = 1_000
"""Examples between two looks."""
_AT_ONCE = 500
_UNSUCCESSFUL = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


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
    applied = latest(instance, task, "filtered_qa", newest)
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
    filtered = latest(instance, task, "filtered_qa", regions)
    submitted = latest(instance, task, "finetune_job", regions)
    return {region for region in filtered if submitted.get(region, 0) > filtered[region]}


def never_prepared(instance: dg.DagsterInstance, task: Task, regions: Sequence[str]) -> list[str]:
    """List the regions, in their order, of which nothing was made yet and no run is going on."""
    made = latest(instance, task, "sampled_examples", regions)
    missing = [region for region in regions if region not in made]
    busy = at_work(instance, task, missing)
    return [region for region in missing if region not in busy]


@dataclass(frozen=True, slots=True)
class DataChanges:
    """What is to be done about a task's data."""

    why: dict[str, str]
    """Regions that are to be prepared, and why."""
    doubts: dict[str, str]
    """Regions of which nobody knows, or of which nothing is left, and what the matter is."""


def changed_data(instance: dg.DagsterInstance, task: Task, regions: Collection[str]) -> DataChanges:
    """Find the regions that were never prepared, whose rows have changed, or whose last run failed or was cancelled.

    The source is read once for all of them. Where there is no time to compare all rows, a region counts as changed if
    the source's files have. One that cannot be read, or is gone from the data, hides no other.

    Raises:
        SourceError: the source cannot be found.
    """
    files, until = version(task.source), time.monotonic() + COMPARING_SECONDS
    made = _records(instance, task, "sampled_examples", regions)
    why = {region: "it was never prepared" for region in regions if region not in made}
    why |= dict.fromkeys(_failed(instance, task, made), "its last run failed")
    other = [region for region in made if _metadata(made[region], SOURCE_FILES) != files]
    rows, doubts = _rows(task, other, until) if other else ({}, {})
    for region in other:
        if region not in rows:
            why.pop(region, None)
        elif rows[region] is None:
            why.setdefault(region, "the source's files have changed, and are too large to compare each region's rows")
        elif rows[region] != _metadata(made[region], SOURCE_ROWS):
            why.setdefault(region, "its rows in the source have changed")
    return DataChanges(why, doubts)


def _rows(task: Task, regions: list[str], until: float) -> tuple[dict[str, str | None], dict[str, str]]:
    """Hash regions' rows, None where time was up; and say what the matter is with those that have none to hash."""
    try:
        found = digests(task.source, regions, task.answer, until)
    except SourceError:
        return _rows_one_by_one(task, regions, until)
    if found is None:
        return dict.fromkeys(regions), {}
    gone = "the source has no rows of it any more; its model stays, and it is not prepared again"
    return dict(found), {region: gone for region in regions if region not in found}


def _rows_one_by_one(task: Task, regions: list[str], until: float) -> tuple[dict[str, str | None], dict[str, str]]:
    """Do the same where a region cannot be read: whose fault it is, and what the others hold."""
    rows: dict[str, str | None] = {}
    doubts: dict[str, str] = {}
    for region in regions:
        digest = Digest()
        try:
            for number, _ in enumerate(digest.over(read(task.source, region, task.answer))):
                if number % _LOOK_AT_CLOCK == 0 and time.monotonic() > until:
                    rows[region] = None
                    break
            else:
                rows[region] = str(digest)
        except SourceError as error:
            doubts[region] = str(error)
    return rows, doubts


def _records(
    instance: dg.DagsterInstance, task: Task, stage: str, regions: Collection[str]
) -> dict[str, dg.EventLogRecord]:
    """Each region's newest materialization of a stage."""
    wanted, found = sorted(latest(instance, task, stage, regions).values()), {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = dg.AssetRecordsFilter(asset_key(task, stage), storage_ids=wanted[start : start + _AT_ONCE])
        for record in instance.fetch_materializations(part, limit=_AT_ONCE).records:
            found[str(record.partition_key)] = record
    return found


def _failed(instance: dg.DagsterInstance, task: Task, records: Mapping[str, dg.EventLogRecord]) -> set[str]:
    """The regions whose last run sampled examples and had not submitted a job when it failed or was cancelled."""
    submitted = latest(instance, task, "finetune_job", records.keys())
    short = {
        region: record.run_id for region, record in records.items() if record.storage_id > submitted.get(region, 0)
    }
    runs, failed = sorted(set(short.values())), set[str]()
    for start in range(0, len(runs), _AT_ONCE):
        named = dg.RunsFilter(run_ids=runs[start : start + _AT_ONCE], statuses=_UNSUCCESSFUL)
        failed |= set(instance.get_run_ids(named))
    return {region for region, run in short.items() if run in failed}


def _metadata(record: dg.EventLogRecord, name: str) -> str | None:
    made = record.asset_materialization
    value = made.metadata.get(name) if made else None
    return None if value is None else str(value.value)
