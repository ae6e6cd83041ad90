"""Fine-tuning jobs: submitted once per fingerprint, followed, and read out when they are done."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import openai
from openai.types.fine_tuning import FineTuningJob as Job

from finetune_assets.errors import NoFreePlaceError
from finetune_assets.provider.client import Client, explained
from finetune_assets.provider.files import UploadedFile
from finetune_assets.provider.once import alone, once
from finetune_assets.task import Method, Wandb

FAILED = ("failed", "cancelled")
"""States of a job that ended without a model."""
ENDED = ("succeeded", *FAILED)

PAGE = 100
"""Jobs or events asked for at once."""

_DISPENSABLE = {
    "integrations": "Weights & Biases is told nothing",
    "metadata": "the job is found again by its files and settings alone",
    "method": "the hyperparameters are sent in the older way",
    "seed": "training cannot be repeated exactly",
    "suffix": "the model's name does not say its task and region",
}
"""Parameters of a job that a provider may lack, and what that means."""


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
    grader: Mapping[str, Any] | None = None
    """What judges answers, where the method is reinforcement."""
    attempt: str = ""
    """Sets a job apart that is wanted although there is an equal one; empty is none."""
    wandb: Wandb | None = None
    training_type: str | None = None
    """Azure's own field: Standard, GlobalStandard or developerTier."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what decides the weights: model, content of the files, method, hyperparameters, seed."""
        decisive = {
            "model": self.model,
            "training_file": self.training_file.sha256,
            "validation_file": self.validation_file.sha256 if self.validation_file else None,
            "method": self.method.model_dump(exclude_none=True),
            **({"grader": self.grader} if self.grader else {}),
            **({"attempt": self.attempt} if self.attempt else {}),
        }
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        told = asdict(self)
        if self.grader is None:
            del told["grader"]
        return told | {
            "method": self.method.model_dump(exclude_none=True),
            "wandb": self.wandb.model_dump() if self.wandb else None,
        }


@dataclass(frozen=True)
class Submission:
    """The one job of a request."""

    job: Job
    reused: bool
    """Whether the provider had it already."""
    notes: tuple[str, ...] = ()
    """What the provider lacks, and what that means here."""


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


def submit_once(
    client: Client, request: JobRequest, max_open: int | None = None, before: Callable[[], None] = lambda: None
) -> Submission:
    """Return the job for this request: the one that the provider has, else a new one.

    A job that failed or was cancelled does not count: asking again means trying again.

    Args:
        client: Of the provider.
        request: What is to be trained.
        max_open: Jobs that may be open at once.
        before: Called before a new job is asked for, while no other one of this package can be; may refuse it.

    Raises:
        NoFreePlaceError: a new job would be more than `max_open` at once.
        ProviderError: the provider refused the job, or does not answer.
    """
    notes: list[str] = []

    def create() -> Job:
        before()
        if max_open is not None and (n_open := len(open_jobs(client, enough=max_open))) >= max_open:
            raise NoFreePlaceError(f"{n_open} jobs are open at {client.base_url}, and at most {max_open} may be")
        return _create(client.with_options(max_retries=0), request, notes)

    # One lock for all jobs of a provider: also what is open must not change between counting and asking.
    with explained(client), alone(client, "submit a job") as require_alone:
        job, reused = once(partial(_find, client, request), create, require_alone)
    return Submission(job, reused, tuple(notes))


def adopt(client: Client, request: JobRequest, job_id: str) -> Submission:
    """Take a job that was made elsewhere for the one of this request, and note where it differs.

    Raises:
        ProviderError: the provider does not know it, or does not answer.
    """
    job = retrieve(client, job_id)
    notes = []
    if job.training_file != request.training_file.id:
        notes.append(
            f"Job {job.id} trained on {job.training_file}, not on this region's file: what it has seen of the examples "
            "that judge it is not known."
        )
    if not job.model.startswith(request.model):
        notes.append(f"Job {job.id} began with {job.model}, not with {request.model}.")
    return Submission(job, reused=True, notes=tuple(notes))


def open_jobs(client: Client, enough: float = math.inf) -> list[Job]:
    """Return the jobs that have not ended, whoever made them, newest first.

    Looks back until it meets a whole page of ended jobs, or has found enough.

    Raises:
        ProviderError: the provider does not answer.
    """
    found: list[Job] = []
    with explained(client):
        page = client.fine_tuning.jobs.list(limit=PAGE)
        while still_open := [job for job in page.data if job.status not in ENDED]:
            found += still_open
            if len(found) >= enough or not page.has_next_page():
                break
            page = page.get_next_page()
    return found


def retrieve(client: Client, job_id: str) -> Job:
    """Return the job as it is now.

    Raises:
        ProviderError: the provider does not know it, or does not answer.
    """
    with explained(client):
        return client.fine_tuning.jobs.retrieve(job_id)


def look_up(client: Client, job_id: str) -> Job | Progress | None:
    """Return the job if it has ended, else where it stands; None if the provider does not know it.

    Raises:
        ProviderError: the provider does not answer.
    """
    with explained(client):
        try:
            job = client.fine_tuning.jobs.retrieve(job_id)
        except openai.NotFoundError:
            return None
    return job if job.status in ENDED else Progress(job.status, estimated_finish=job.estimated_finish)


@dataclass(frozen=True)
class Listed:
    """Jobs found in a provider's list, by id."""

    ended: dict[str, Job]
    standing: dict[str, Progress]
    """Of those that have not ended, as far as the list tells it."""
    stopped_after: str | None
    """Where reading the list stopped for lack of time; None if it went as far as it had to."""


def find_jobs(client: Client, ids: Collection[str], *, after: str | None = None, until: float = math.inf) -> Listed:
    """Look for jobs in the provider's list, newest first, from the job `after` on.

    Costs one request for each page of jobs, no further than the oldest job asked for, and no new one after the
    time `until` of the monotonic clock.

    Raises:
        ProviderError: the provider does not answer.
    """
    wanted, found = set(ids), Listed({}, {}, None)
    while wanted:
        with explained(client):
            # Plain JSON: to build the SDK's objects for thousands of jobs takes longer than all the rest of a tick.
            listed = client.fine_tuning.jobs.with_raw_response.list(limit=PAGE, after=after or openai.omit)
        page = json.loads(listed.content)
        for job in page["data"]:
            if job["id"] in wanted:
                wanted.remove(job["id"])
                if job["status"] in ENDED:
                    found.ended[job["id"]] = Job.construct(**job)
                else:
                    found.standing[job["id"]] = Progress(job["status"], estimated_finish=job.get("estimated_finish"))
        if not page["data"] or not page.get("has_more"):
            break
        after = page["data"][-1]["id"]
        if wanted and time.monotonic() > until:
            return replace(found, stopped_after=after)
    return found


def progress(client: Client, job: Job) -> Progress:
    """Return where the job stands; only a running job costs a request.

    Raises:
        ProviderError: the provider does not answer.
    """
    return with_step(client, job.id, Progress(job.status, estimated_finish=job.estimated_finish))


def with_step(client: Client, job_id: str, known: Progress) -> Progress:
    """Add to what a list tells of a job the step and losses of its newest metrics event, if it is running.

    Raises:
        ProviderError: the provider does not answer.
    """
    if known.status != "running":
        return known
    with explained(client):
        events = client.fine_tuning.jobs.list_events(job_id, limit=20).data
    newest: dict[str, Any] = next((_data(event) for event in events if event.type == "metrics"), {})
    return replace(
        known,
        step=newest.get("step"),
        total_steps=newest.get("total_steps"),
        train_loss=newest.get("train_loss"),
        valid_loss=newest.get("full_valid_loss", newest.get("valid_loss")),
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


def _find(client: Client, request: JobRequest) -> Job | None:
    """Return the newest job that did, or will do, what is asked for.

    Not every provider filters by metadata, or keeps it. So all jobs are looked at that are younger than the file.
    """
    try:
        jobs = client.fine_tuning.jobs.list(limit=1, metadata={"fingerprint": request.fingerprint}).data
    except (openai.BadRequestError, openai.UnprocessableEntityError):
        jobs = []
    if jobs and _answers(jobs[0], request):
        return jobs[0]
    uploaded_at = client.files.retrieve(request.training_file.id).created_at
    for job in client.fine_tuning.jobs.list(limit=PAGE):
        if job.created_at < uploaded_at:
            break
        if _answers(job, request):
            return job
    return None


def _answers(job: Job, request: JobRequest) -> bool:
    """Say whether the job is one for this request; by its files and settings where it has no metadata."""
    if job.status in FAILED:
        return False
    if job.metadata:
        return job.metadata.get("fingerprint") == request.fingerprint
    validation = request.validation_file.id if request.validation_file else None
    asked, used = _hyperparameters(request.method), vars(job.hyperparameters)
    return (
        not request.attempt
        and (job.training_file, job.validation_file) == (request.training_file.id, validation)
        and job.model.startswith(request.model)
        and job.seed in (None, request.method.seed)
        # What was left to the provider, and what it has not decided yet, differs from nothing.
        and all("auto" in (asked[name], used.get(name, "auto")) or asked[name] == used[name] for name in asked)
    )


def _create(client: Client, request: JobRequest, notes: list[str]) -> Job:
    wanted = parameters(request)
    while True:
        try:
            return client.fine_tuning.jobs.create(**wanted)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            unknown = _unknown_parameter(error)
            # Without its method, a job of reinforcement would be another one.
            needed = unknown == "method" and request.grader is not None
            if unknown not in _DISPENSABLE or needed or wanted.pop(unknown, None) is None:
                raise
            if unknown == "method":
                wanted["hyperparameters"] = _hyperparameters(request.method)
            notes.append(f"{client.base_url} does not know `{unknown}`: {_DISPENSABLE[unknown]}.")


def parameters(request: JobRequest) -> dict[str, Any]:
    """Word a request as the SDK takes it."""
    wanted = {
        "model": request.model,
        "training_file": request.training_file.id,
        "validation_file": request.validation_file.id if request.validation_file else None,
        "method": {"type": request.method.type, request.method.type: _options(request)},
        "seed": request.method.seed,
        "suffix": request.suffix[:64] or None,
        "metadata": {**request.labels, "fingerprint": request.fingerprint},
        "integrations": [{"type": "wandb", "wandb": request.wandb.model_dump()}] if request.wandb else None,
        "extra_body": {"trainingType": request.training_type} if request.training_type else None,
    }
    return {name: value for name, value in wanted.items() if value is not None}


def _options(request: JobRequest) -> dict[str, Any]:
    grader = {"grader": request.grader} if request.grader is not None else {}
    return grader | {"hyperparameters": _hyperparameters(request.method)}


def _hyperparameters(method: Method) -> dict[str, Any]:
    return method.model_dump(exclude={"type", "seed"}, exclude_none=True)


def _unknown_parameter(error: openai.APIStatusError) -> str | None:
    """Return the parameter that the provider does not know, in OpenAI's words for it or in FastAPI's."""
    if error.code in ("unknown_parameter", "unsupported_parameter"):
        return error.param
    details = error.body.get("detail") if isinstance(error.body, dict) else None
    for detail in details if isinstance(details, list) else ():
        if detail.get("type") == "extra_forbidden":
            return str(detail["loc"][-1])
    return None


def _data(event: Any) -> dict[str, Any]:
    return event.data if isinstance(event.data, dict) else {}
