"""Which weights a model name means: a base model, an alias, a fine-tuned model or a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_assets.server import base_models
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.database.stores import Stores


@dataclass(frozen=True, slots=True)
class FoundModel:
    """A model that can be asked and fine-tuned further."""

    base: BaseModel
    base_name: str
    """How a client named the base model."""
    adapter: Path | None
    """Folder of the fine-tuned weights; None for a base model."""
    calibration: dict[str, Any] | None = None
    """What is registered with it (`server.calibration`)."""


def find(stores: Stores, name: str) -> FoundModel:
    """Look the name up.

    Raises:
        BaseModelError: there is no such model, or the base of a fine-tuned model is no longer configured.
    """
    tuned = stores.models.get(name)
    if tuned is None:
        return FoundModel(base_models.resolve(name, stores.home), name, None)
    base = base_models.resolve(tuned.base, stores.home)
    return FoundModel(base, tuned.base, stores.models.weights(tuned), tuned.calibration)
