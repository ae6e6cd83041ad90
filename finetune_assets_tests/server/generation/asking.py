"""Requests to an engine, and fine-tuned models to ask, in the tests of generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.generation.engine import Engine
from finetune_assets.server.generation.requests import Generation, GenerationRequest, ModelRef
from finetune_assets.server.model import adapters
from finetune_assets.server.model.network import load
from finetune_assets_tests.patience import PATIENCE_S

ENDLESS = {2: -100.0}
"""The bias that bans the tiny models' end token."""


def request(
    base: BaseModel, messages: list[dict[str, Any]], adapter: Path | None = None, **how: Any
) -> GenerationRequest:
    """Ask for 8 tokens; an answer that has them all cannot be empty by chance."""
    usual = {"model": ModelRef(base, adapter), "messages": messages, "max_tokens": 8, "logit_bias": ENDLESS}
    return GenerationRequest(**usual | how)


def all_at_once(engine: Engine, requests: list[GenerationRequest]) -> list[Generation]:
    futures = [engine.submit(asked) for asked in requests]
    return [future.result(PATIENCE_S) for future in futures]


def a_lora(base: BaseModel, folder: Path, seed: int, **how: Any) -> Path:
    """A fine-tuned model as PEFT writes it, with random matrices large enough to change every answer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]} | how)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base.path), config)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=0.5)
    model.save_pretrained(str(folder))
    return folder


def trained_at_random(base: BaseModel, folder: Path) -> Path:
    """A fine-tuned model as training writes it, projector included, with random weights."""
    network = load(base)
    with torch.no_grad():
        torch.manual_seed(3)
        trained = adapters.add_trainable(network, None, with_images=True)
        for weight in [*trained["lora"], *trained["projector"]]:
            weight.normal_(std=0.3)
        for weight in trained["tower"]:
            weight.mul_(1 + 0.1 * torch.randn_like(weight))
    adapters.save(network, folder)
    return folder
