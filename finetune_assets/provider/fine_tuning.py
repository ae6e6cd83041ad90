"""Fine-tuning jobs: submitted once per fingerprint, followed, and read out when they are done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from openai.types.fine_tuning import FineTuningJob as Job
from openai.types.fine_tuning import SupervisedHyperparametersParam

from finetune_assets.provider.client import Client, explained, once
from finetune_assets.provider.files import UploadedFile
from finetune_assets.task import Method

FAILED = ("failed", "cancelled")
"""States of a job that ended without a model."""

PAGE = 100
"""Jobs or events asked for at once."""


@dataclass(frozen=True)
class JobRequest:
    """Everything that decides what is trained, and how the result is called."""

    model: str
    training_file: UploadedFile
    validation_file: UploadedFile | None
    method: Method
    suffix: str = ""
    """Part of the fine-tuned model's name, at most 64 characters; empty is none."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Written into the job's metadata for people; not part of the fingerprint."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what decides the weights: model, content of the files, method, hyperparameters, seed."""
        decisive = {
            "model": self.model,
            "training_file": self.training_file.sha256,
            "validation_file": self.validation_file.sha256 if self.validation_file else None,
            "method": self.method.model_dump(),
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Progress:
    """Where a job stands."""

    status: str
    step: int | None = None
    total_steps: int | None = None
    train_loss: float | None = None
    valid_loss: float | None = None
    estimated_finish: int | None = None
    """Unix seconds."""

    def __str__(self) -> str:
        parts = [self.status]
        if self.step is not None:
            parts.append(f"step {self.step} of {self.total_steps}")
        if self.train_loss is not None:
            parts.append(f"training loss {self.train_loss:.4f}")
        if self.valid_loss is not None:
            parts.append(f"validation loss {self.valid_loss:.4f}")
        return ", ".join(parts)


def submit_once(client: Client, request: JobRequest) -> tuple[Job, bool]:
    """Return the job for this request, and whether the provider had it already.

    A job that failed or was cancelled does not count: asking again means trying again.

    Raises:
        ProviderError: the provider refused the job, or does not answer.
    """
    with explained(client):
        return once(
            partial(_find, client, request.fingerprint),
            partial(_create, client.with_options(max_retries=0), request),
        )


def retrieve(client: Client, job_id: str) -> Job:
    """Return the job as it is now.

    Raises:
        ProviderError: the provider does not know it, or does not answer.
    """
    with explained(client):
        return client.fine_tuning.jobs.retrieve(job_id)


def find_jobs(client: Client, ids: Collection[str]) -> dict[str, Job]:
    """Return those of the jobs that the provider lists, by id.

    Costs one request for each page of jobs, newest first, no further than the oldest job asked for.

    Raises:
        ProviderError: the provider does not answer.
    """
    wanted, found = set(ids), {}
    with explained(client):
        for job in client.fine_tuning.jobs.list(limit=PAGE) if wanted else ():
            if job.id in wanted:
                found[job.id] = job
            if len(found) == len(wanted):
                break
    return found


def progress(client: Client, job: Job) -> Progress:
    """Return where the job stands, from its newest metrics event; only a running job costs a request.

    Raises:
        ProviderError: the provider does not answer.
    """
    if job.status != "running":
        return Progress(job.status, estimated_finish=job.estimated_finish)
    with explained(client):
        events = client.fine_tuning.jobs.list_events(job.id, limit=20).data
    newest: dict[str, Any] = next((_data(event) for event in events if event.type == "metrics"), {})
    return Progress(
        job.status,
        step=newest.get("step"),
        total_steps=newest.get("total_steps"),
        train_loss=newest.get("train_loss"),
        valid_loss=newest.get("full_valid_loss", newest.get("valid_loss")),
        estimated_finish=job.estimated_finish,
    )


def failure_reason(job: Job) -> str:
    """Return why a job has no model, in the provider's words."""
    if job.error and job.error.message:
        return f"{job.error.message} ({job.error.code})" if job.error.code else job.error.message
    return f"the provider gave no reason; the job is {job.status}"


def job_url(client: Client, job_id: str) -> str:
    """Return where a person, or a program with the key, can look at the job."""
    if client.base_url.host == "api.openai.com":
        return f"https://platform.openai.com/finetune/{job_id}"
    return str(client.base_url.join(f"fine_tuning/jobs/{job_id}"))


def _find(client: Client, fingerprint: str) -> Job | None:
    # A provider may ignore the filter, so each job is looked at.
    for job in client.fine_tuning.jobs.list(limit=PAGE, metadata={"fingerprint": fingerprint}):
        if (job.metadata or {}).get("fingerprint") == fingerprint and job.status not in FAILED:
            return job
    return None


def _create(client: Client, request: JobRequest) -> Job:
    method = request.method
    hyperparameters = SupervisedHyperparametersParam(
        n_epochs=method.n_epochs,
        batch_size=method.batch_size,
        learning_rate_multiplier=method.learning_rate_multiplier,
    )
    return client.fine_tuning.jobs.create(
        model=request.model,
        training_file=request.training_file.id,
        validation_file=request.validation_file.id if request.validation_file else None,
        method={"type": "supervised", "supervised": {"hyperparameters": hyperparameters}},
        seed=method.seed,
        suffix=request.suffix[:64] or None,
        metadata={**request.labels, "fingerprint": request.fingerprint},
    )


def _data(event: Any) -> dict[str, Any]:
    return event.data if isinstance(event.data, dict) else {}
