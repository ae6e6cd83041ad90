"""/v1/fine_tuning/jobs: ask for a fine-tuned model, watch it come into being, or cancel it."""

from __future__ import annotations

import re
import secrets
from typing import Annotated

from fastapi import APIRouter, Query, Request
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from finetune_assets.errors import BaseModelError
from finetune_assets.server import catalog
from finetune_assets.server.database.job_life import JobStateError
from finetune_assets.server.database.jobs import JobRequest
from finetune_assets.server.database.schema import Job
from finetune_assets.server.job_format import JobBody, as_checkpoint, as_event, as_job, hyperparameters
from finetune_assets.server.services import Served
from finetune_assets.server.wire import ApiError, NamedPage, Page, WireRoute, make_page

router = APIRouter(prefix="/v1/fine_tuning/jobs", route_class=WireRoute)

Limit = Annotated[int, Query(ge=1, le=10_000)]


@router.post("")
def create(served: Served, body: JobBody) -> FineTuningJob:
    """Put a job in the queue. Its files are validated there: bad data fails the job, not this request."""
    if body.method is not None and body.method.type != "supervised":
        raise _not_served("method.type", f"Training of the type '{body.method.type}'")
    if body.integrations:
        raise _not_served("integrations", "Reporting to other services")
    try:
        base = catalog.find(served, body.model).base_name
    except BaseModelError as error:
        message = f"Model {body.model} is not available for fine-tuning or does not exist: {error}"
        raise ApiError(400, message, param="model", code="model_not_available") from None
    for param, file_id in (("training_file", body.training_file), ("validation_file", body.validation_file)):
        _check_file(served, param, file_id)
    request = JobRequest(
        model=body.model,
        base=base,
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        hyperparameters=hyperparameters(body),
        metadata=body.metadata,
    )
    job = served.jobs.create(request)
    served.supervisor.wake()
    return as_job(job)


@router.get("")
def list_jobs(served: Served, request: Request, after: str | None = None, limit: Limit = 20) -> Page[FineTuningJob]:
    """List jobs, the newest first; `metadata[key]=value` and `metadata=null` choose among them."""
    metadata: dict[str, str] | None = {}
    for name, value in request.query_params.multi_items():
        if pair := re.fullmatch(r"metadata\[(.*)\]", name, re.DOTALL):
            metadata[pair[1]] = value
        elif name == "metadata" and value == "null":
            metadata = None
            break
    return make_page(served.jobs.page(metadata=metadata, after=after, limit=limit), as_job)


@router.get("/{job_id}")
def retrieve(served: Served, job_id: str) -> FineTuningJob:
    """Describe a job as it is now."""
    return as_job(_find(served, job_id))


@router.post("/{job_id}/cancel")
def cancel(served: Served, job_id: str) -> FineTuningJob:
    """End a job that is not over yet. Its checkpoints stay usable."""
    _find(served, job_id)
    try:
        job = served.job_life.cancelled(job_id)
    except JobStateError:
        status = _find(served, job_id).status
        # Not 409, which says "conflict" but makes OpenAI's clients send the request again.
        raise ApiError(400, f"Job {job_id} is already {status} and cannot be cancelled.", code="job_finished") from None
    served.supervisor.wake()
    return as_job(job)


@router.get("/{job_id}/events")
def events(served: Served, job_id: str, after: str | None = None, limit: Limit = 20) -> Page[FineTuningJobEvent]:
    """List what happened to a job, the newest first."""
    _find(served, job_id)
    return make_page(served.events.page(job_id, after=after, limit=limit), as_event)


@router.get("/{job_id}/checkpoints")
def checkpoints(
    served: Served, job_id: str, after: str | None = None, limit: Limit = 10
) -> NamedPage[FineTuningJobCheckpoint]:
    """List the usable checkpoints of a job, the newest first."""
    _find(served, job_id)
    rows = served.models.checkpoints(job_id, after=after, limit=limit)
    data = [as_checkpoint(row) for row in rows.items]
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return NamedPage(object="list", data=data, has_more=rows.has_more, first_id=first, last_id=last)


def _find(served: Served, job_id: str) -> Job:
    job = served.jobs.get(job_id)
    if job is None:
        message = f"Could not find fine tune: {job_id}"
        raise ApiError(404, message, param="fine_tune_id", code="fine_tune_not_found")
    return job


def _check_file(served: Served, param: str, file_id: str | None) -> None:
    if file_id is None:
        return
    file = served.files.get(file_id)
    if file is None:
        raise ApiError(400, f"No such File object: {file_id}", param=param, code="file_not_found")
    if file.purpose != "fine-tune":
        message = f"File {file_id} has the purpose '{file.purpose}'; upload it with the purpose 'fine-tune'."
        raise ApiError(400, message, param=param, code="invalid_file_purpose")


def _not_served(param: str, what: str) -> ApiError:
    message = f"Unsupported value: '{param}'. {what} is not available on this server."
    return ApiError(400, message, param=param, code="unsupported_value")
