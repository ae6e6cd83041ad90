"""What a fine-tuning job, its events and its checkpoints look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import Field

from finetune_assets.server.database.jobs import ORGANIZATION, SUCCEEDED
from finetune_assets.server.database.schema import Event, Job, TunedModel
from finetune_assets.server.wire import RequestBody

MetadataKey = Annotated[str, Field(max_length=64)]
MetadataValue = Annotated[str, Field(max_length=512)]


class Hyperparameters(RequestBody):
    """How to train; the trainer decides what is `auto`."""

    n_epochs: Literal["auto"] | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=256)] | None = "auto"
    learning_rate_multiplier: Literal["auto"] | Annotated[float, Field(gt=0)] = "auto"


class Supervised(RequestBody):
    """Options of supervised training."""

    hyperparameters: Hyperparameters | None = None


class Method(RequestBody):
    """What kind of training. Only `supervised` is served; options of other kinds are ignored, as they do not apply."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Any = None
    reinforcement: Any = None


class JobBody(RequestBody):
    """Body of a request for a new job."""

    model: str
    training_file: str
    validation_file: str | None = None
    method: Method | None = None
    hyperparameters: Hyperparameters | None = None
    """Deprecated form of `method.supervised.hyperparameters`, which wins where both are given."""
    suffix: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)] | None = None
    integrations: list[Any] | None = None


def hyperparameters(body: JobBody) -> dict[str, Any]:
    """Read the hyperparameters asked for, wherever they stand."""
    asked = body.hyperparameters
    if body.method and body.method.supervised and body.method.supervised.hyperparameters:
        asked = body.method.supervised.hyperparameters
    return {name: "auto" if value is None else value for name, value in (asked or Hyperparameters())}


def as_job(job: Job) -> FineTuningJob:
    """Describe a job on the wire."""
    values: Any = job.hyperparameters
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": values}}
    error: Any = job.error
    status: Any = job.status
    extra: Any = {"user_provided_suffix": job.suffix}
    return FineTuningJob(
        id=job.id,
        object="fine_tuning.job",
        created_at=job.created_at,
        status=status,
        model=job.model,
        fine_tuned_model=job.tuned_model if job.status == SUCCEEDED else None,
        organization_id=f"org-{ORGANIZATION}",
        training_file=job.training_file,
        validation_file=job.validation_file,
        result_files=[job.result_file] if job.result_file else [],
        hyperparameters=values,
        method=method,
        seed=job.seed,
        trained_tokens=job.trained_tokens,
        estimated_finish=job.estimated_finish,
        finished_at=job.finished_at,
        error=error,
        integrations=[],
        metadata=job.meta,
        **extra,
    )


def as_event(event: Event) -> FineTuningJobEvent:
    """Describe an event on the wire."""
    level: Any = event.level
    kind: Any = event.type
    data: dict[str, Any] = {} if event.data is None else {"data": event.data}
    return FineTuningJobEvent(
        id=event.id,
        object="fine_tuning.job.event",
        created_at=event.created_at,
        level=level,
        message=event.message,
        type=kind,
        **data,
    )


def as_checkpoint(checkpoint: TunedModel) -> FineTuningJobCheckpoint:
    """Describe a checkpoint on the wire."""
    metrics: Any = checkpoint.metrics
    return FineTuningJobCheckpoint(
        id=checkpoint.checkpoint_id or "",
        object="fine_tuning.job.checkpoint",
        created_at=checkpoint.created_at,
        fine_tuned_model_checkpoint=checkpoint.id,
        step_number=checkpoint.step or 0,
        fine_tuning_job_id=checkpoint.job_id,
        metrics=metrics,
    )
