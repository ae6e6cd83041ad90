"""What a fine-tuning job, its events and its checkpoints look like on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint
from pydantic import Field

from finetune_assets.server.api.chat_request import JsonSchemaFormat, PlainFormat
from finetune_assets.server.api.grader_format import GraderBody, described
from finetune_assets.server.api.wire import Metadata, RequestBody
from finetune_assets.server.database.jobs import ORGANIZATION, PAUSED, QUEUED, SUCCEEDED
from finetune_assets.server.database.schema import Event, Job, TunedModel

Auto = Literal["auto"]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
_OPENAI = ("n_epochs", "batch_size", "learning_rate_multiplier")


class Hyperparameters(RequestBody):
    """How to train; the trainer decides what is `auto`."""

    n_epochs: Auto | Annotated[int, Field(ge=1, le=50)] = "auto"
    batch_size: Auto | Annotated[int, Field(ge=1, le=256)] | None = "auto"
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] = "auto"
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """The highest rate of the LoRA layers, in place of ours times `learning_rate_multiplier`."""
    warmup_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the steps in which the rate rises; a tenth by default."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None
    max_grad_norm: Annotated[float, Field(gt=0)] | None = None
    context_length: Annotated[int, Field(ge=16)] | None = None
    """Tokens at which longer examples are cut; by default the model's own context."""
    lora: Literal[True] | None = None
    lora_r: Annotated[int, Field(ge=1, le=512)] | None = None
    lora_rank: Annotated[int, Field(ge=1, le=512)] | None = None
    """The same as `lora_r`."""
    lora_alpha: Annotated[float, Field(gt=0)] | None = None
    """By default twice the rank."""
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of what goes into the LoRA layers that each step leaves out; none by default. The job's seed and the step
    decide which."""
    early_stopping_patience: Annotated[int, Field(ge=1, le=50)] | None = None
    """Epochs without a lower loss on the validation file after which training ends; the model is then, as in the end,
    that of the epoch whose loss was lowest. By default all epochs are trained, and the last one is the model."""
    packing: bool | None = None
    """Whether `batch_size` counts packs of examples that fill `context_length` tokens, and not examples. None of them
    sees another one in its pack. Not for `dpo`."""
    train_vision_tower: bool | None = None
    """Whether the layers through which a model sees get LoRA layers too. By default they stay as they are, and each
    image passes them once. Not for the bundled models, nor for those that see nothing."""


class DpoHyperparameters(Hyperparameters):
    """How to train on preferences; `beta` says how dear it is to move away from the base model's answers."""

    beta: Auto | Annotated[float, Field(gt=0, le=2)] = "auto"


class ReinforcementHyperparameters(Hyperparameters):
    """How to learn from graded answers. `packing` and `early_stopping_patience` are not among them."""

    compute_multiplier: Auto | Annotated[float, Field(gt=1e-5, le=10)] | None = "auto"
    """Times 8 answers to each prompt are compared; two at least."""
    eval_interval: Auto | Annotated[int, Field(ge=1)] | None = "auto"
    """Steps after which the validation file's prompts are answered and a checkpoint is made; by default those of an
    epoch."""
    eval_samples: Auto | Annotated[int, Field(ge=1, le=128)] | None = "auto"
    """Answers to each of these prompts; by default one."""
    reasoning_effort: Literal["default", "low", "medium", "high"] | None = "default"
    """How much the model thinks first, where its chat template knows that; by default it answers at once."""
    beta: Auto | Annotated[float, Field(ge=0, le=2)] | None = "auto"
    """How dear it is to move away from the model's answers before training; by default it costs nothing."""
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Of an answer at most; by default 256."""


class Supervised(RequestBody):
    """Options of supervised training."""

    hyperparameters: Hyperparameters | None = None


class Dpo(RequestBody):
    """Options of direct preference optimisation."""

    hyperparameters: DpoHyperparameters | None = None


class Reinforcement(RequestBody):
    """Options of learning from graded answers."""

    grader: GraderBody
    response_format: Annotated[PlainFormat | JsonSchemaFormat, Field(discriminator="type")] | None = None
    """What answers fit; `sample.output_json` of a grader's templates needs a JSON schema."""
    hyperparameters: ReinforcementHyperparameters | None = None


class Method(RequestBody):
    """What kind of training, and its options under the name of the kind."""

    type: Literal["supervised", "dpo", "reinforcement"]
    supervised: Supervised | None = None
    dpo: Dpo | None = None
    reinforcement: Reinforcement | None = None


class Wandb(RequestBody):
    """A Weights & Biases project to report to."""

    project: Annotated[str, Field(min_length=1, max_length=128)]
    name: Annotated[str, Field(max_length=128)] | None = None
    entity: Annotated[str, Field(max_length=128)] | None = None
    tags: (
        Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=50, fail_fast=True)] | None
    ) = None


class Integration(RequestBody):
    """A service that follows the training."""

    type: Literal["wandb"]
    wandb: Wandb


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
    metadata: Metadata | None = None
    integrations: Annotated[list[Integration], Field(max_length=5, fail_fast=True)] | None = None

    @property
    def method_type(self) -> str:
        """The kind of training asked for."""
        return self.method.type if self.method else "supervised"


def hyperparameters(body: JobBody) -> dict[str, Any]:
    """Read the hyperparameters asked for, wherever they stand; those not mentioned are `auto`."""
    asked = body.hyperparameters
    options = getattr(body.method, body.method_type) if body.method else None
    if options and options.hyperparameters:
        asked = options.hyperparameters
    complete = {"dpo": DpoHyperparameters, "reinforcement": ReinforcementHyperparameters}.get(
        body.method_type, Hyperparameters
    )
    found = dict(complete(**dict(asked or ())))
    rank = found.pop("lora_rank")
    found["lora_r"] = rank if found["lora_r"] is None else found["lora_r"]
    told = {name: found.pop(name) for name in _OPENAI}
    del found["lora"]  # always so
    found.pop("reasoning_effort", None)  # is no number
    found["packing"] = found["packing"] or None
    given = {name: value for name, value in found.items() if value is not None}
    return {name: "auto" if value is None else value for name, value in told.items()} | given


def reinforced(body: JobBody) -> dict[str, Any] | None:
    """What a job of reinforcement is told beside numbers."""
    options = body.method.reinforcement if body.method else None
    if options is None:
        return None
    told: dict[str, Any] = {"grader": described(options.grader)}
    if options.response_format is not None:
        told["response_format"] = options.response_format.model_dump(mode="json", by_alias=True, exclude_unset=True)
    effort = options.hyperparameters.reasoning_effort if options.hyperparameters else None
    return told if effort in (None, "default") else told | {"reasoning_effort": effort}


def as_job(job: Job) -> FineTuningJob:
    """Describe a job on the wire."""
    values: Any = {name: job.hyperparameters[name] for name in _OPENAI if name in job.hyperparameters}
    # Not looked at by the SDK's own type, which has no place for graders by name.
    method: Any = _method(job) if job.reinforcement else None
    integrations: Any = job.integrations or []
    error: Any = job.error
    # OpenAI answers "paused" though its own type has no such value.
    status: Any = QUEUED if job.status == PAUSED else job.status
    extra: Any = {"user_provided_suffix": job.suffix}
    answer = FineTuningJob(
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
        method=None if method else _method(job),
        seed=job.seed,
        trained_tokens=job.trained_tokens,
        estimated_finish=job.estimated_finish,
        finished_at=job.finished_at,
        error=error,
        integrations=integrations,
        metadata=job.meta,
        **extra,
    )
    changed: dict[str, Any] = {"method": method} if method else {}
    changed |= {"status": PAUSED} if job.status == PAUSED else {}
    return answer.model_copy(update=changed) if changed else answer


def _method(job: Job) -> Any:
    told = dict(job.reinforcement or {})
    effort = {"reasoning_effort": told.pop("reasoning_effort", "default")} if job.reinforcement else {}
    return {"type": job.method, job.method: told | {"hyperparameters": job.hyperparameters | effort}}


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
