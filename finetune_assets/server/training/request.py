"""What a training is asked for: the work of one job, as the server hands it to the process that does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.requests import ModelRef
from finetune_assets.server.training.hyperparameters import Auto

_OWN = (
    "learning_rate", "warmup_ratio", "weight_decay", "max_grad_norm", "context_length", "lora_r", "lora_alpha",
    "lora_dropout", "early_stopping_patience", "packing", "train_vision_tower", "max_completion_tokens",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRequest:
    """One job's work."""

    base: BaseModel
    adapter: Path | None
    """Folder of the fine-tuned model to start from, if any."""
    training_file: Path
    validation_file: Path | None
    output: Path
    """Folder that will hold `model/` and `checkpoint-<step>/`."""
    state: Path
    """Folder of what a later process needs to go on."""
    method: Literal["supervised", "dpo", "reinforcement"] = "supervised"
    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto
    beta: float | Auto | None = None
    """Not for supervised training."""
    grader: dict[str, Any] | None = None
    """Only for reinforcement, as what follows: what judges answers, as a client describes it."""
    models: Mapping[str, ModelRef] = field(default_factory=dict)
    """Those that the grader asks, by the names it has for them."""
    json_schema: dict[str, Any] | None = None
    """What answers fit."""
    compute_multiplier: float | Auto | None = None
    eval_interval: int | Auto | None = None
    eval_samples: int | Auto | None = None
    reasoning_effort: str | None = None
    max_completion_tokens: int | None = None
    learning_rate: float | None = None
    warmup_ratio: float | None = None
    weight_decay: float | None = None
    max_grad_norm: float | None = None
    context_length: int | None = None
    lora_r: int | None = None
    lora_alpha: float | None = None
    lora_dropout: float | None = None
    early_stopping_patience: int | None = None
    packing: bool | None = None
    train_vision_tower: bool | None = None
    """Each as in `api.job_format.Hyperparameters`; None is this server's own."""
    seed: int

    @property
    def given(self) -> dict[str, int | float]:
        """Those of them that were asked for."""
        found = {name: getattr(self, name) for name in _OWN}
        return {name: value for name, value in found.items() if value is not None}
