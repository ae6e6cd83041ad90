"""Fine-tuning jobs as clients ask for them and find them again. `job_life` moves them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from finetune_assets.server.database.connection import Database, Rows, page
from finetune_assets.server.database.events import tell
from finetune_assets.server.database.schema import Job, new_id

ORGANIZATION = "local"
VALIDATING, QUEUED, RUNNING = OPEN = ("validating_files", "queued", "running")
SUCCEEDED, FAILED, CANCELLED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """What a client asks for."""

    model: str
    base: str
    """The base model under `model`'s adapters, or `model` itself."""
    training_file: str
    validation_file: str | None
    suffix: str | None
    seed: int
    hyperparameters: dict[str, Any]
    metadata: dict[str, str] | None


class JobStore:
    """Creates and finds jobs; safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, request: JobRequest) -> Job:
        """Add a job to the queue."""
        job_id = new_id("ftjob-")
        job = Job(
            id=job_id,
            status=VALIDATING,
            model=request.model,
            base=request.base,
            training_file=request.training_file,
            validation_file=request.validation_file,
            suffix=request.suffix,
            seed=request.seed,
            hyperparameters=request.hyperparameters,
            meta=request.metadata,
            tuned_model=f"ft:{request.base}:{ORGANIZATION}:{_slug(request.suffix)}:{new_id('', 8)}",
        )
        files = f"Validating training file: {job.training_file}"
        if job.validation_file:
            files += f" and validation file: {job.validation_file}"
        with self._database.writing() as session:
            session.add(job)
            tell(session, job_id, f"Created fine-tuning job: {job_id}")
            tell(session, job_id, files)
        return job

    def get(self, job_id: str) -> Job | None:
        """Find the job, or None."""
        with self._database.reading() as session:
            return session.scalar(select(Job).where(Job.id == job_id))

    def page(self, *, metadata: Mapping[str, str] | None, after: str | None, limit: int) -> Rows[Job]:
        """List the jobs that have all these pairs in their metadata (None: jobs without metadata), the newest first.

        Raises:
            UnknownCursorError: `after` is not the id of a job.
        """
        query = select(Job)
        if metadata is None:
            query = query.where(Job.meta.is_(None))
        for key, value in (metadata or {}).items():
            pair = func.json_each(Job.meta).table_valued("key", "value")
            query = query.where(select(pair.c.key).where(pair.c.key == key, pair.c.value == value).exists())
        with self._database.reading() as session:
            return page(session, query, Job.id, after=after, limit=limit)

    def oldest(self, status: str, besides: Collection[str] = ()) -> Job | None:
        """Find the next job in this state that is not among `besides` (ids), or None."""
        waiting = select(Job).where(Job.status == status, Job.id.not_in(besides)).order_by(Job.number).limit(1)
        with self._database.reading() as session:
            return session.scalar(waiting)


def _slug(suffix: str | None) -> str:
    """Make the suffix fit for a URL and a log line."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", suffix or "")
