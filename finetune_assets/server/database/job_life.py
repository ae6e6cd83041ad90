"""Every step of a job's life, with the event that tells of it.

validating_files -> queued -> running -> succeeded; failed or cancelled from each of the first three, or paused. A
paused job goes on, once resumed, with what is left to do: validation, or training from its last saved state.

A step and its event are committed together, and only from the state it may be taken from: a job that was
cancelled meanwhile raises `JobStateError` in the process that still works on it. The steps of a worker are refused too
once somebody else has taken the job up.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import delete, or_, select
from sqlalchemy.orm import Session

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.database.connection import Database
from finetune_assets.server.database.events import step_message, tell
from finetune_assets.server.database.files import FileStore
from finetune_assets.server.database.jobs import (
    CANCELLED,
    FAILED,
    OPEN,
    PAUSED,
    QUEUED,
    RUNNING,
    SUCCEEDED,
    VALIDATING,
)
from finetune_assets.server.database.schema import Job, TunedModel, new_id

MAX_INTERRUPTIONS = 10
"""A job that a vanishing server interrupts this often, without saving anything in between, is given up: it may be what
takes the server down."""

MAX_DEATHS = 3
"""A job whose process dies so often, without saving anything in between, is given up."""


class JobStateError(FinetuneAssetsError, RuntimeError):
    """A job is not in a state that allows the step."""


class ClaimLostError(JobStateError):
    """Somebody else has taken the job up since: this process was not heard of for the length of its lease."""


class JobLife:
    """Moves jobs; safe to use from several threads and processes. Every method may raise `JobStateError`.

    `claim` is that of a worker, whose steps count only while nobody else has taken the job up; None: of nobody.
    """

    def __init__(self, database: Database, files: FileStore, claim: int | None = None) -> None:
        self._database = database
        self._files = files
        self._claim = claim

    def of(self, claim: int | None) -> JobLife:
        """Move jobs as the worker with this claim."""
        return JobLife(self._database, self._files, claim)

    def validated(self, job_id: str) -> None:
        """Record that the files are fine. A job that was paused meanwhile stays so."""
        with self._change(job_id, VALIDATING, PAUSED) as (session, job):
            job.validated = True
            job.lease_until = None  # whoever has a free place may train it
            if job.status == VALIDATING:
                job.status = QUEUED
                tell(session, job_id, "Files validated, moving job to queued state")
            else:
                tell(session, job_id, "Files validated")

    def started(self, job_id: str) -> None:
        """Record that training begins."""
        with self._change(job_id, QUEUED) as (session, job):
            job.status = RUNNING
            tell(session, job_id, "Fine-tuning job started")

    def stepped(
        self, job_id: str, metrics: dict[str, Any], hyperparameters: dict[str, Any], estimated_finish: int | None
    ) -> None:
        """Record a training step; `metrics` are as published, `hyperparameters` are resolved."""
        with self._change(job_id, RUNNING) as (session, job):
            job.hyperparameters = hyperparameters
            job.estimated_finish = estimated_finish
            tell(session, job_id, step_message(metrics), type_="metrics", data=metrics)

    def stepped_last(self, job_id: str, metrics: dict[str, Any]) -> None:
        """Record the step during which the job was paused, and perhaps resumed, after `stepped` has refused it."""
        with self._change(job_id, PAUSED, QUEUED) as (session, _):
            tell(session, job_id, step_message(metrics), type_="metrics", data=metrics)

    def saved(self, job_id: str, state: str | None = None) -> str | None:
        """Record that training can go on from here after an interruption: the count of those begins again.

        `state` is where it is kept for whoever takes the job up elsewhere; what was named before is returned.
        """
        with self._change(job_id, RUNNING, PAUSED, QUEUED) if state else self._change(job_id, RUNNING) as (_, job):
            job.interruptions = 0
            before, job.state = job.state, state or job.state
        return before

    def went_back(self, job_id: str, step: int) -> list[str]:
        """Forget what an earlier attempt has published of later steps; where its weights are is returned."""
        later = or_(TunedModel.step.is_(None), TunedModel.step > step)
        with self._change(job_id, RUNNING, PAUSED, QUEUED) as (session, _):
            forgotten = delete(TunedModel).where(TunedModel.job_id == job_id, later).returning(TunedModel.path)
            return list(session.scalars(forgotten))

    def checkpointed(self, job_id: str, metrics: dict[str, Any], path: str) -> None:
        """Publish a checkpoint, whose weights are complete in `path`, relative to the folder of models.

        A job that was paused makes one too before its process ends, even if it was resumed meanwhile.
        """
        step = metrics["step"]
        with self._change(job_id, RUNNING, PAUSED, QUEUED) as (session, job):
            name = f"{job.tuned_model}:ckpt-step-{step}"
            session.execute(delete(TunedModel).where(TunedModel.id == name))  # of the same step, trained again
            session.add(
                TunedModel(
                    id=name,
                    job_id=job_id,
                    base=job.base,
                    path=path,
                    step=step,
                    checkpoint_id=new_id("ftckpt_"),
                    metrics={
                        key: value
                        for key, value in metrics.items()
                        if key != "total_steps" and not isinstance(value, dict)
                    },
                )
            )
            tell(session, job_id, f"Checkpoint created at step {step} with Snapshot ID: {name}")

    def succeeded(self, job_id: str, *, path: str, results: bytes, trained_tokens: int) -> None:
        """Publish the model, whose weights are complete in `path`, relative to the folder of models, and a result file.

        Raises:
            ShortageError: there is no room for the result file.
        """
        with self._files.incoming() as incoming:
            incoming.write(results)
            incoming.finish()
            # Alone, as everything that adds a file.
            with self._change(job_id, RUNNING, alone=True) as (session, job):
                file = self._files.place(session, incoming, filename="step_metrics.csv", purpose="fine-tune-results")
                job.trained_tokens = trained_tokens
                job.result_file = file.id
                _finish(job, SUCCEEDED)
                session.add(TunedModel(id=job.tuned_model, job_id=job_id, base=job.base, path=path))
                tell(session, job_id, f"New fine-tuned model created: {job.tuned_model}")
                tell(session, job_id, "The job has successfully completed")

    def failed(self, job_id: str, code: str, message: str, param: str | None = None) -> None:
        """Give the job up, for the reason given."""
        with self._change(job_id, *OPEN, PAUSED) as (session, job):
            _fail(session, job, code, message, param)

    def cancelled(self, job_id: str) -> Job:
        """End the job because its client no longer wants it."""
        with self._change(job_id, *OPEN, PAUSED) as (session, job):
            _finish(job, CANCELLED)
            tell(session, job_id, "The job was cancelled")
        return job

    def paused(self, job_id: str) -> Job:
        """Halt the job until it is resumed; a process that works on it ends by itself."""
        with self._change(job_id, *OPEN) as (session, job):
            job.status = PAUSED
            job.estimated_finish = None
            tell(session, job_id, "The job was paused")
        return job

    def resumed(self, job_id: str) -> Job:
        """Let a paused job go on."""
        with self._change(job_id, PAUSED) as (session, job):
            job.status = QUEUED if job.validated else VALIDATING
            tell(session, job_id, "The job was resumed")
        return job

    def note(self, job_id: str, message: str, level: str = "info") -> None:
        """Tell of something that changes no state; `level` is info, warn or error."""
        with self._database.changing() as session:
            self._find(session, job_id)
            tell(session, job_id, message, level)

    def interrupted(self, job_id: str, why: str, code: str, at_most: int) -> None:
        """Return the job to the queue because its process died; the job fails with `code` if that is too often."""
        with self._change(job_id, *OPEN) as (session, job):
            job.interruptions += 1
            if job.interruptions >= at_most:
                _fail(session, job, code, f"{why} (attempt {job.interruptions} of {at_most})", None)
                return
            _requeue(job)
            told = f"{why} The job is back in the queue and goes on from what was saved"
            tell(session, job_id, f"{told} (attempt {job.interruptions} of {at_most})", "warn")

    def waits(self, job_id: str, why: str) -> None:
        """Return the job to the queue, however often, until the machine has what it lacks."""
        with self._change(job_id, *OPEN) as (session, job):
            _requeue(job)
            tell(session, job_id, why, "warn")

    def put_back(self, job_id: str) -> None:
        """Return the job to the queue because the server stops in good order."""
        with self._change(job_id, RUNNING) as (session, job):
            _requeue(job)
            tell(session, job_id, "The server was stopped; the job is back in the queue until it is started again")

    def recover(self) -> None:
        """Put every job that is not over back in the queue. For a server that has just started, and is the only one."""
        with self._database.writing() as session:
            for job in session.scalars(select(Job).where(Job.status.in_((*OPEN, PAUSED))).order_by(Job.number)):
                if job.status == RUNNING:
                    _recover(session, job, "The server was interrupted")
                elif job.status != PAUSED:
                    tell(session, job.id, "The server was started again; the job is still in the queue")
                _leave(job)

    def recover_lost(self, besides: Collection[str]) -> None:
        """Put jobs back in the queue whose worker was not heard of for the length of its lease, besides these (ids)."""
        lost = select(Job).where(Job.status.in_((*OPEN, PAUSED)), Job.lease_until < self._database.clock)
        lost = lost.where(Job.id.not_in(besides)).order_by(Job.number)
        with self._database.changing() as session:
            for job in session.scalars(lost.with_for_update(skip_locked=True)):
                if job.status == RUNNING:
                    _recover(session, job, f"The worker {job.worker} was not heard of any more")
                _leave(job)

    @contextmanager
    def _change(self, job_id: str, *expected: str, alone: bool = False) -> Iterator[tuple[Session, Job]]:
        with self._database.writing() if alone else self._database.changing() as session:
            job = self._find(session, job_id)
            if job.status not in expected:
                raise JobStateError(f"job {job_id} must be {' or '.join(expected)} for this, but is {job.status}")
            yield session, job

    def _find(self, session: Session, job_id: str) -> Job:
        """Find the job, and let nobody else change it meanwhile."""
        job = session.scalars(select(Job).where(Job.id == job_id).with_for_update()).one()
        if self._claim is not None and job.claim != self._claim:
            raise ClaimLostError(f"job {job_id} was taken up by another worker (claim {job.claim}, not {self._claim})")
        return job


def _leave(job: Job) -> None:
    """Let others take the job up, and nothing more of whoever had it count."""
    job.claim += 1
    job.lease_until = None


def _recover(session: Session, job: Job, why: str) -> None:
    job.interruptions += 1
    if job.interruptions >= MAX_INTERRUPTIONS:
        message = (
            f"The server was interrupted {job.interruptions} times while this job was running, without progress in "
            "between. Look for the cause in the job's log and in the system's log (memory, disk), then create the "
            "job again."
        )
        _fail(session, job, "interrupted", message, None)
        return
    _requeue(job)
    message = (
        f"{why}; the job is back in the queue and training goes on from what was saved "
        f"(interruption {job.interruptions}, at {MAX_INTERRUPTIONS} without progress the job is given up)"
    )
    tell(session, job.id, message, "warn")


def _requeue(job: Job) -> None:
    job.status = QUEUED if job.validated else VALIDATING
    job.estimated_finish = None
    job.lease_until = None


def _fail(session: Session, job: Job, code: str, message: str, param: str | None) -> None:
    job.error = {"code": code, "message": message, "param": param}
    _finish(job, FAILED)
    tell(session, job.id, f"The job failed: {message}", "error")


def _finish(job: Job, status: str) -> None:
    job.status = status
    job.finished_at = int(time.time())
    job.lease_until = None
    job.estimated_finish = None
