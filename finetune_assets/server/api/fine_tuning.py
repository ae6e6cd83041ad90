"""/v1/fine_tuning/jobs: ask for a fine-tuned model, watch it come into being, halt it or cancel it.

What clients poll is read on the event loop: SQLite's readers wait for no one, and a thread costs more than the reading.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Query, Request
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from finetune_assets.errors import BaseModelError
from finetune_assets.server import catalog, proofs
from finetune_assets.server.api.chat_request import JsonSchemaFormat
from finetune_assets.server.api.grader_format import usable
from finetune_assets.server.api.job_format import (
    JobBody,
    Method,
    Reinforcement,
    as_checkpoint,
    as_event,
    as_job,
    hyperparameters,
    reinforced,
)
from finetune_assets.server.api.wire import (
    MAX_METADATA_PAIRS,
    ApiError,
    Asker,
    NamedPage,
    Page,
    WireRoute,
    make_page,
    read_page,
)
from finetune_assets.server.catalog import FoundModel
from finetune_assets.server.database.job_life import JobStateError
from finetune_assets.server.database.jobs import FINAL, PAUSED, IdempotencyKeyReusedError, JobRequest
from finetune_assets.server.database.schema import Job
from finetune_assets.server.services import Served, Services

_NOT_FOR = {
    "packing": {"dpo": "whose examples are pairs", "reinforcement": "whose examples are prompts"},
    "early_stopping_patience": {"reinforcement": "which keeps the checkpoints of the highest reward"},
}
"""Hyperparameters that a method has no use for."""

router = APIRouter(prefix="/v1/fine_tuning/jobs", route_class=WireRoute)

Limit = Annotated[int, Query(ge=1, le=10_000)]
_METADATA_PARAMETER = {
    "name": "metadata",
    "in": "query",
    "style": "deepObject",
    "explode": True,
    "required": False,
    "schema": {"type": "object", "additionalProperties": {"type": "string"}},
}
"""Stands in the API's description; FastAPI cannot read such a parameter itself."""


@router.post("")
def create(
    served: Served,
    asker: Asker,
    body: JobBody,
    key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=255)] = None,
    attempt: Annotated[str, Header(alias="x-stainless-retry-count", include_in_schema=False)] = "0",
) -> FineTuningJob:
    """Put a job in the queue. Its files are validated there: bad data fails the job, not this request.

    A request that repeats an earlier one gets that one's job: by the same `Idempotency-Key`, by the same `fingerprint`
    in its metadata while that job has not failed, or as OpenAI's client repeats what it got no answer to.
    """
    request = JobRequest(
        model=body.model,
        base=_base(served, body),
        training_file=body.training_file,
        validation_file=body.validation_file,
        suffix=body.suffix,
        seed=secrets.randbelow(2**31) if body.seed is None else body.seed,
        method=body.method_type,
        reinforcement=reinforced(body),
        hyperparameters=hyperparameters(body),
        metadata=body.metadata,
        integrations=[integration.model_dump(exclude_unset=True) for integration in body.integrations or []],
        idempotency_key=key,
        request_hash=hashlib.sha256(orjson.dumps(body.model_dump(), option=orjson.OPT_SORT_KEYS)).hexdigest(),
        repeated=attempt.strip("0") != "",
        owner=asker,
    )
    try:
        job = served.jobs.create(request)
    except IdempotencyKeyReusedError as error:
        message = f"Invalid 'Idempotency-Key': {error}. Choose a new key for a new request."
        raise ApiError(400, message, param="Idempotency-Key", code="idempotency_key_reused") from None
    served.supervisor.wake()
    return as_job(job)


@router.get("", openapi_extra={"parameters": [_METADATA_PARAMETER]})
async def list_jobs(
    served: Served, request: Request, after: str | None = None, limit: Limit = 20
) -> Page[FineTuningJob]:
    """List jobs, the newest first; `metadata[key]=value` and `metadata=null` choose among them."""
    metadata: dict[str, str] | None = {}
    for name, value in request.query_params.multi_items():
        if pair := re.fullmatch(r"metadata\[(.*)\]", name, re.DOTALL):
            metadata[pair[1]] = value
        elif name == "metadata" and value == "null":
            metadata = None
            break
        if len(metadata) > MAX_METADATA_PAIRS:
            message = f"Invalid 'metadata': jobs have at most {MAX_METADATA_PAIRS} pairs, but more were asked for."
            raise ApiError(400, message, param="metadata", code="object_above_max_properties")
    return await read_page(
        limit, lambda: make_page(served.jobs.page(metadata=metadata, after=after, limit=limit), as_job)
    )


@router.get("/{job_id}")
async def retrieve(served: Served, job_id: str) -> FineTuningJob:
    """Describe a job as it is now."""
    return as_job(_find(served, job_id))


@router.post("/{job_id}/cancel")
def cancel(served: Served, job_id: str) -> FineTuningJob:
    """End a job that is not over yet. Its checkpoints stay usable."""
    return _move(served, job_id, served.job_life.cancelled, "cancelled")


@router.post("/{job_id}/pause")
def pause(served: Served, job_id: str) -> FineTuningJob:
    """Halt a job that is not over yet. What it has learned so far becomes a checkpoint, and resuming goes on there."""
    return _move(served, job_id, served.job_life.paused, "paused")


@router.post("/{job_id}/resume")
def resume(served: Served, job_id: str) -> FineTuningJob:
    """Let a paused job go on."""
    return _move(served, job_id, served.job_life.resumed, "resumed")


@router.get("/{job_id}/events")
async def events(served: Served, job_id: str, after: str | None = None, limit: Limit = 20) -> Page[FineTuningJobEvent]:
    """List what happened to a job, the newest first."""
    _find(served, job_id)
    return await read_page(limit, lambda: make_page(served.events.page(job_id, after=after, limit=limit), as_event))


@router.get("/{job_id}/checkpoints")
async def checkpoints(
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


def _move(served: Services, job_id: str, step: Callable[[str], Job], done: str) -> FineTuningJob:
    _find(served, job_id)
    try:
        job = step(job_id)
    except JobStateError:
        status = _find(served, job_id).status
        code = "job_finished" if status in FINAL else "invalid_job_state"
        # Not 409, which says "conflict" but makes OpenAI's clients send the request again.
        raise ApiError(400, f"Job {job_id} is {_worded(status)} and cannot be {done}.", code=code) from None
    served.supervisor.wake()
    return as_job(job)


def _worded(status: str) -> str:
    return f"already {status}" if status in (*FINAL, PAUSED) else status


def _base(served: Services, body: JobBody) -> str:
    """Check what the body names, and find the base model under all adapters of its model."""
    _check_method(body.method)
    if "early_stopping_patience" in hyperparameters(body) and body.validation_file is None:
        message = (
            "'early_stopping_patience' needs a 'validation_file', whose loss says when training has come far enough."
        )
        raise ApiError(400, message, param="hyperparameters", code="invalid_value")
    for name, methods in _NOT_FOR.items():
        if body.method_type in methods and name in hyperparameters(body):
            why = methods[body.method_type]
            message = f"'{name}' is not available for the method '{body.method_type}', {why}; leave it out."
            raise ApiError(400, message, param="hyperparameters", code="unsupported_value")
    if body.method and body.method.reinforcement:
        _check_reinforcement(served, body, body.method.reinforcement)
    for param, file_id in (("training_file", body.training_file), ("validation_file", body.validation_file)):
        _check_file(served, param, file_id)
    try:
        model = catalog.find(served, body.model)
    except BaseModelError as error:
        message = f"Model {body.model} is not available for fine-tuning or does not exist: {error}"
        raise ApiError(400, message, param="model", code="model_not_available") from None
    if reason := proofs.job_refusal(model.base_name, served.home):
        message = f"Model {body.model} is refused for jobs by this server: {reason}"
        raise ApiError(400, message, param="model", code="model_not_usable")
    if problem := _misfit(model, hyperparameters(body)):
        raise ApiError(400, f"{body.model} {problem}", param="hyperparameters", code="invalid_value")
    return model.base_name


def _misfit(model: FoundModel, asked: Mapping[str, Any]) -> str | None:
    """What of the hyperparameters this model cannot do; None where it can do all."""
    kept = {"lora_r", "lora_alpha", "train_vision_tower"} & set(asked)
    if model.adapter is not None and kept:
        return f"keeps the LoRA layers that it was trained with; leave {' and '.join(sorted(kept))} out."
    if "train_vision_tower" in asked and not model.base.vision:
        return "takes no images, and has no vision tower to train; leave train_vision_tower out."
    if "train_vision_tower" in asked and model.base.bundled:
        return "always trains the last blocks of its vision tower with images; leave train_vision_tower out."
    return None


def _check_method(method: Method | None) -> None:
    if method is None:
        return
    if method.type == "reinforcement" and method.reinforcement is None:
        message = "Missing required parameter: 'method.reinforcement.grader'."
        raise ApiError(400, message, param="method.reinforcement.grader", code="missing_required_parameter")
    for kind in ("supervised", "dpo", "reinforcement"):
        if kind != method.type and getattr(method, kind) is not None:
            message = f"Invalid 'method.{kind}': these are options of another type than 'method.type', '{method.type}'."
            raise ApiError(400, message, param=f"method.{kind}", code="invalid_value")


def _check_reinforcement(served: Services, body: JobBody, asked: Reinforcement) -> None:
    place = "method.reinforcement"
    grader = usable(asked.grader, served, f"{place}.grader")
    if any(name.path[0] == "output_json" for name in grader.names if name.space == "sample") and not isinstance(
        asked.response_format, JsonSchemaFormat
    ):
        message = f"'{place}.grader' looks into 'sample.output_json', which needs a '{place}.response_format' of JSON."
        raise ApiError(400, message, param=f"{place}.response_format", code="missing_required_parameter")
    for name in ("eval_interval", "eval_samples"):
        if body.validation_file is None and hyperparameters(body).get(name, "auto") != "auto":
            message = f"'{name}' needs a 'validation_file', whose prompts are answered to see how training goes."
            raise ApiError(400, message, param=f"{place}.hyperparameters.{name}", code="invalid_value")


def _check_file(served: Served, param: str, file_id: str | None) -> None:
    if file_id is None:
        return
    file = served.files.get(file_id)
    if file is None:
        raise ApiError(400, f"No such File object: {file_id}", param=param, code="file_not_found")
    if file.purpose != "fine-tune":
        message = f"File {file_id} has the purpose '{file.purpose}'; upload it with the purpose 'fine-tune'."
        raise ApiError(400, message, param=param, code="invalid_file_purpose")
