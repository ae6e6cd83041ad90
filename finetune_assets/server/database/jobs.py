"""Fine-tuning jobs as clients ask for them and find them again, and as workers take them up. `job_life` moves them.

Whoever takes a job up has it for the length of a lease, which he renews while he lives, and gets a number, the claim,
that rises with each. Steps carry it (`job_life`), so that one who was stopped, and found his lease over when he was
woken, changes nothing.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, bindparam, func, or_, select, update
from sqlalchemy.orm import Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database import usage
from finetune_assets.server.database.connection import Database, Rows, having, records
from finetune_assets.server.database.events import tell
from finetune_assets.server.database.schema import Job, new_id
from finetune_assets.server.database.usage import NOBODY, Account

ORGANIZATION = "local"
VALIDATING, QUEUED, RUNNING = OPEN = ("validating_files", "queued", "running")
PAUSED = "paused"
SUCCEEDED, FAILED, CANCELLED = FINAL = ("succeeded", "failed", "cancelled")
FINGERPRINT = "fingerprint"
"""Metadata key by which a client says that two equal requests mean one job."""
REPEAT_SECONDS = 15 * 60
"""A client that repeats a request it got no answer to does so within this time."""
_ALL = records(Job)
_BY_ID = records(Job).where(Job.id == bindparam("id"))


class IdempotencyKeyReusedError(FinetuneAssetsError, ValueError):
    """A client has sent the key of one request with another."""


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
    method: str = "supervised"
    reinforcement: dict[str, Any] | None = None
    """`grader`, and `response_format` and `reasoning_effort` where given."""
    integrations: list[Any] | None = None
    """As the client sent them."""
    request_hash: str | None = None
    """SHA-256 of the client's request; None: every request means a new job."""
    idempotency_key: str | None = None
    """Key of the client's choice: requests with the same key mean one job."""
    repeated: bool = False
    """The client says that it got no answer to this request when it sent it before."""
    owner: Account = NOBODY


class JobStore:
    """Creates and finds jobs; safe to use from several threads and processes."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, request: JobRequest) -> Job:
        """Add a job to the queue, or find the one that an earlier copy of this request has added.

        Raises:
            IdempotencyKeyReusedError: the request's key came with another request before.
            QuotaError: its owner has as many jobs, or has used as many tokens, as he may.
        """
        job = _new_job(request)
        files = f"Validating training file: {job.training_file}"
        if job.validation_file:
            files += f" and validation file: {job.validation_file}"
        # Looked for under the write lock, so that of two copies that arrive together only one adds a job.
        with self._database.writing() as session:
            if (earlier := _earlier(session, request)) is not None:
                return earlier
            usage.check(session, request.owner, "jobs")
            usage.check(session, request.owner, "tokens")
            session.add(job)
            tell(session, job.id, f"Created fine-tuning job: {job.id}")
            tell(session, job.id, files)
        return job

    def get(self, job_id: str) -> Job | None:
        """Find the job, or None."""
        found = self._database.read(_BY_ID, id=job_id)
        return found[0] if found else None

    def page(self, *, metadata: Mapping[str, str] | None, after: str | None, limit: int) -> Rows[Job]:
        """List the jobs that have all these pairs in their metadata (None: jobs without metadata), the newest first.

        Raises:
            UnknownCursorError: `after` is not the id of a job.
        """
        query = _ALL
        if metadata is None:
            query = query.where(Job.meta.is_(None))
        query = having(self._database, query, Job.meta, metadata or {})
        return self._database.page(query, Job.id, after=after, limit=limit)

    def oldest(self, status: str, besides: Collection[str] = (), only: str | None = None) -> list[Job]:
        """Find each owner's oldest job in this state that nobody works on, besides these (ids), the oldest first.

        `only` is the one job (id) that is looked for.
        """
        free = select(func.min(Job.number)).where(Job.status == status, Job.id.not_in(besides), self._is_free)
        if only is not None:
            free = free.where(Job.id == only)
        return self._database.read(records(Job).where(Job.number.in_(free.group_by(Job.owner))).order_by(Job.number))

    def like(self, job: Job, besides: Collection[str], at_most: int) -> list[Job]:
        """Find jobs that wait to be trained as this one is, on its base model, but these (ids), the oldest first."""
        query = records(Job).where(Job.status == QUEUED, *_as(job), Job.id.not_in([*besides, job.id]), self._is_free)
        return self._database.read(query.order_by(Job.number).limit(at_most))

    def are_coming(self, job: Job, besides: Collection[str]) -> bool:
        """Whether jobs will wait to be trained as this one is, on its base model, once they are validated."""
        coming = select(Job.number).where(Job.status == VALIDATING, *_as(job), Job.id.not_in(besides)).limit(1)
        with self._database.reading() as session:
            return session.scalar(coming) is not None

    def waiting(self) -> list[Job]:
        """Find all jobs that nobody works on and somebody should, the oldest first."""
        query = records(Job).where(Job.status.in_((VALIDATING, QUEUED)), self._is_free)
        return self._database.read(query.order_by(Job.number))

    def at_work(self, status: str) -> dict[str, int]:
        """Count by owner the jobs that are worked on, validated (`VALIDATING`) or trained (any other state)."""
        is_at_work = Job.status == VALIDATING if status == VALIDATING else Job.status.not_in((VALIDATING, *FINAL))
        query = select(Job.owner, func.count()).where(is_at_work, Job.lease_until.is_not(None), ~self._is_free)
        with self._database.reading() as session:
            return {owner: count for owner, count in session.execute(query.group_by(Job.owner))}  # noqa: C416

    def claim(self, job_id: str, status: str, worker: str, seconds: float) -> int | None:
        """Take up a job in this state for so many seconds; None if somebody else has.

        Returns the number that every step is to carry.
        """
        # Of several who come together one gets the row, and the others do not wait for him.
        mine = select(Job.number).where(Job.id == job_id, Job.status == status, self._is_free)
        taken = update(Job).where(Job.number.in_(mine.with_for_update(skip_locked=True)))
        taken = taken.values(claim=Job.claim + 1, worker=worker, lease_until=self._database.clock + seconds)
        with self._database.changing() as session:
            return session.scalar(taken.returning(Job.claim))

    def renew(self, job_id: str, claim: int, seconds: float) -> bool:
        """Keep a job for so many seconds more; False if it is no longer one's own."""
        mine = update(Job).where(Job.id == job_id, Job.claim == claim, Job.lease_until.is_not(None))
        renewed = mine.values(lease_until=self._database.clock + seconds)
        with self._database.changing() as session:
            return session.scalar(renewed.returning(Job.claim)) is not None

    def release(self, job_id: str, claim: int) -> None:
        """Let others take a job up, unless somebody has."""
        with self._database.changing() as session:
            session.execute(update(Job).where(Job.id == job_id, Job.claim == claim).values(lease_until=None))

    def forget_states(self) -> list[str]:
        """Say of no job that is over any more where its training could go on from; return which those were (ids)."""
        over = update(Job).where(Job.status.in_(FINAL), Job.state.is_not(None)).values(state=None)
        with self._database.changing() as session:
            return list(session.scalars(over.returning(Job.id)))

    @property
    def _is_free(self) -> ColumnElement[bool]:
        return or_(Job.lease_until.is_(None), Job.lease_until < self._database.clock)

    def count(self, status: str) -> int:
        """Count the jobs in this state."""
        with self._database.reading() as session:
            return session.scalar(select(func.count()).where(Job.status == status)) or 0


def _as(job: Job) -> tuple[ColumnElement[bool], ...]:
    return Job.base == job.base, Job.method == job.method


def _new_job(request: JobRequest) -> Job:
    return Job(
        id=new_id("ftjob-"),
        status=VALIDATING,
        model=request.model,
        base=request.base,
        training_file=request.training_file,
        validation_file=request.validation_file,
        suffix=request.suffix,
        seed=request.seed,
        method=request.method,
        reinforcement=request.reinforcement,
        hyperparameters=request.hyperparameters,
        meta=request.metadata,
        integrations=request.integrations,
        idempotency_key=request.idempotency_key,
        request_hash=request.request_hash,
        owner=request.owner.name,
        tuned_model=f"ft:{request.base}:{ORGANIZATION}:{_slug(request.suffix)}:{new_id('', 8)}",
    )


def _earlier(session: Session, request: JobRequest) -> Job | None:
    """Find the job of an earlier copy of the request, by its key, its fingerprint, or as a repeat."""
    newest = select(Job).order_by(Job.number.desc()).limit(1)
    if request.idempotency_key is not None:
        job = session.scalar(newest.where(Job.idempotency_key == request.idempotency_key))
        if job is not None and job.request_hash != request.request_hash:
            raise IdempotencyKeyReusedError(f"the key {request.idempotency_key!r} came with another request before")
        return job
    if request.request_hash is None:
        return None
    same = newest.where(Job.request_hash == request.request_hash)
    job = None
    if FINGERPRINT in (request.metadata or {}):
        job = session.scalar(same.where(Job.status.not_in((FAILED, CANCELLED))))
    if job is None and request.repeated:
        job = session.scalar(same.where(Job.created_at >= time.time() - REPEAT_SECONDS))
    return job


def _slug(suffix: str | None) -> str:
    """Make the suffix fit for a URL and a log line."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", suffix or "")
