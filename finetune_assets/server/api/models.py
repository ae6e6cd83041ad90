"""/v1/models: the base models of `models.yaml`, and what jobs have made of them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from openai.types import Model, ModelDeleted

from finetune_assets.errors import BaseModelError
from finetune_assets.server import base_models, proofs
from finetune_assets.server.api.wire import ApiError, RequestBody, WireRoute
from finetune_assets.server.database.jobs import ORGANIZATION
from finetune_assets.server.database.schema import TunedModel
from finetune_assets.server.services import Served, Services

router = APIRouter(prefix="/v1/models", route_class=WireRoute)


class ModelList(RequestBody):
    """All models at once: this list has no pages."""

    object: str
    data: list[Model]


@router.get("")
def list_models(served: Served) -> ModelList:
    """List finished fine-tuned models and the base models that can be used. Checkpoints are listed with their job."""
    refused = {proof.name for proof in proofs.proofs(served.home) if proof.state == "refused"}
    bases = [_as_base(served, name) for name in base_models.names(served.home) if name not in refused]
    return ModelList(object="list", data=[*bases, *(_as_tuned(served, row) for row in served.models.all())])


@router.get("/{model:path}")
async def retrieve(served: Served, model: str) -> Model:
    """Describe a base model, a fine-tuned model or a checkpoint."""
    if row := served.models.get(model):
        return _as_tuned(served, row)
    if reason := proofs.refusal(model, served.home):
        raise ApiError(404, f"The model '{model}' is refused: {reason}", param="model", code="model_not_usable")
    if model in base_models.names(served.home):
        return _as_base(served, model)
    raise _no_such_model(model)


@router.delete("/{model:path}")
def delete(served: Served, model: str) -> ModelDeleted:
    """Delete a fine-tuned model or a checkpoint."""
    if model in base_models.names(served.home):
        message = f"The model '{model}' is a base model; only fine-tuned models can be deleted."
        raise ApiError(400, message, param="model", code="model_not_deletable")
    if not served.models.delete(model):
        raise _no_such_model(model)
    return ModelDeleted(id=model, object="model", deleted=True)


def _as_tuned(served: Services, row: TunedModel) -> Model:
    return _as_model(served, row.id, row.base, row.created_at, ORGANIZATION, row)


def _as_base(served: Services, name: str) -> Model:
    return _as_model(served, name, name, int((served.home / "models.yaml").stat().st_mtime), "system")


def _as_model(served: Services, name: str, base: str, created: int, owner: str, row: TunedModel | None = None) -> Model:
    # A fine-tuned model goes when its base does.
    announced = base_models.shutdown_date(base, served.home)
    day = None if announced is None else announced.isoformat()
    about = {"id": name, "object": "model", "created": created, "owned_by": owner, "shutdown_date": day}
    # Not of OpenAI's protocol: clients of ours ask for decisions where they find them named.
    own: dict[str, Any] = {"endpoints": ["/v1/chat/completions", "/v1/decisions"]}
    if reason := proofs.job_refusal(base, served.home):
        own["fine_tuning_refused"] = reason
    if base_models.in_four_bit(base, served.home):
        own["load_in_4bit"] = True
    if served.handover is not None:
        own |= _engine_of(served, base, row)
    return Model.model_validate(about | own)


def _engine_of(served: Services, base: str, row: TunedModel | None) -> dict[str, str]:
    """Which engine answers now for what vLLM can answer, and why where that is our own."""
    try:
        found = base_models.resolve(base, served.home)
    except BaseModelError as error:
        return {"engine": "own", "engine_reason": str(error)}
    # Of weights in a shared store it is not said here: they would have to be brought for it.
    folder = None if row is None or served.storage.shared else served.models.weights(row)
    reason = served.handover.why_own(found, folder) if served.handover else None
    return {"engine": "vllm"} if reason is None else {"engine": "own", "engine_reason": reason}


def _no_such_model(name: str) -> ApiError:
    return ApiError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
