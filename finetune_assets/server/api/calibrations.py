"""/v1/models/MODEL/calibration: the calibrator of a fine-tuned model, which decisions of it are answered with.

Not of OpenAI's protocol, which has no calibrated answers.
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from finetune_assets.server.api.wire import ApiError, WireRoute
from finetune_assets.server.calibration import Calibration
from finetune_assets.server.database.schema import TunedModel
from finetune_assets.server.services import Served

router = APIRouter(prefix="/v1/models", route_class=WireRoute)


class Registered(BaseModel):
    """A calibrator as it is registered."""

    object: str
    model: str
    calibration: Calibration


class Removed(BaseModel):
    """A calibrator is registered no more."""

    object: str
    model: str
    deleted: bool


@router.get("/{model:path}/calibration")
def retrieve(served: Served, model: str) -> Registered:
    """Describe the calibrator that is registered with a model."""
    found = _find(served, model).calibration
    if found is None:
        raise _none(model)
    return Registered(object="model.calibration", model=model, calibration=Calibration.model_validate(found))


@router.put("/{model:path}/calibration")
def register(served: Served, model: str, body: Calibration) -> Registered:
    """Register a calibrator with a fine-tuned model, in place of an earlier one."""
    _find(served, model)
    served.models.calibrate(model, body.model_dump(mode="json"))
    return Registered(object="model.calibration", model=model, calibration=body)


@router.delete("/{model:path}/calibration")
def remove(served: Served, model: str) -> Removed:
    """Take a model's calibrator away."""
    if _find(served, model).calibration is None:
        raise _none(model)
    served.models.calibrate(model, None)
    return Removed(object="model.calibration.deleted", model=model, deleted=True)


def _find(served: Served, model: str) -> TunedModel:
    row = served.models.get(model)
    if row is None:
        message = f"There is no fine-tuned model '{model[:200]}'; calibrators belong to fine-tuned models."
        raise ApiError(404, message, param="model", code="model_not_found")
    return row


def _none(model: str) -> ApiError:
    return ApiError(404, f"No calibrator is registered with the model '{model}'.", code="calibration_not_found")
