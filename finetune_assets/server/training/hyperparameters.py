"""What a job leaves to us, decided: epochs, batch size, learning rate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import nn

from finetune_assets.server.model.adapters import Part, Trained
from finetune_assets.server.model.network import Network

LEARNING_RATES: dict[str, dict[Part, float]] = {
    "supervised": {"lora": 5e-4, "projector": 1e-3, "tower": 1e-4},
    "first look": {"projector": 1e-4, "tower": 3e-4},
    "dpo": {"lora": 1e-4, "projector": 2e-4, "tower": 2e-5},
    "reinforcement": {"lora": 4e-4, "projector": 2e-4, "tower": 2e-5},
}
"""Of each method and part, at `learning_rate_multiplier` 1; in the first look, where the tower learns alone, the part
after it is a layer that is thrown away.

Through the language model the tower is moved gently: on 400 solar cells 3e-4 made it worse than a frozen one, and 1e-4
better (ROC AUC 0.86, 0.89 and 0.91).
"""
DPO_BETA = 0.1
"""As in the experiments of Rafailov et al. (2023)."""
GROUP = 8
"""Answers to each prompt that reinforcement compares, at `compute_multiplier` 1."""
_GRADIENT_NORM = 1.0
_MEASURED_WIDTH = 576
_AVERAGED = 1 / 3
"""Of the steps."""

Auto = Literal["auto"]


def resolve(
    method: str,
    n_examples: int,
    *,
    n_epochs: int | Auto,
    batch_size: int | Auto,
    learning_rate_multiplier: float | Auto,
    beta: float | Auto | None = None,
) -> dict[str, int | float]:
    """Numbers for what is `auto`.

    `batch_size` grows with the data (a 30th of it, 1 to 8: more steps teach more than larger batches save);
    `n_epochs` is 3, or as many as make 60 steps of little data (12 at most), or fewer for much data; the multiplier is
    1, and `beta` 0.1 with DPO and 0 with reinforcement.
    """
    if batch_size == "auto":
        batch_size = min(8, max(1, n_examples // 30))
    if n_epochs == "auto":
        usual = 3 if n_examples <= 2_000 else 2 if n_examples <= 10_000 else 1
        n_epochs = max(usual, min(12, math.ceil(60 * batch_size / n_examples)))
    multiplier = 1.0 if learning_rate_multiplier == "auto" else learning_rate_multiplier
    settings = {"n_epochs": n_epochs, "batch_size": batch_size, "learning_rate_multiplier": multiplier}
    if method != "supervised":
        usual = DPO_BETA if method == "dpo" else 0.0
        settings["beta"] = usual if beta is None or beta == "auto" else beta
    return settings


def answers(compute_multiplier: float | Auto | None) -> int:
    """How many answers to a prompt are compared in reinforcement: 8 times the multiplier, two at least."""
    return max(2, round(GROUP * (1.0 if compute_multiplier in (None, "auto") else float(compute_multiplier))))


def explored(
    epoch_steps: int,
    *,
    compute_multiplier: float | Auto | None,
    eval_interval: int | Auto | None,
    eval_samples: int | Auto | None,
) -> dict[str, int | float]:
    """Numbers for what is `auto` in reinforcement alone: held-out prompts are answered once, after each epoch."""
    return {
        "compute_multiplier": 1.0 if compute_multiplier in (None, "auto") else float(compute_multiplier),
        "eval_interval": epoch_steps if eval_interval in (None, "auto") else int(eval_interval),
        "eval_samples": 1 if eval_samples in (None, "auto") else int(eval_samples),
    }


class Optimiser:
    """AdamW with a linear warm-up over the first tenth of the steps and a cosine down to a tenth of the rate.

    In the end the weights are the means of those after each step of the last third (Polyak and Juditsky, 1992): the
    last batches move how ready a model is to say yes, which the mean evens out.
    """

    def __init__(
        self,
        trained: Trained,
        method: str,
        multiplier: float,
        total_steps: int,
        given: Mapping[str, int | float] = MappingProxyType({}),
    ) -> None:
        rates = LEARNING_RATES[method]
        if "learning_rate" in given:
            multiplier = given["learning_rate"] / rates["lora"]
        warm_up = given["warmup_ratio"] * total_steps if "warmup_ratio" in given else total_steps // 10
        self._warm_up = max(1, int(warm_up))
        self._norm = given.get("max_grad_norm", _GRADIENT_NORM)
        groups = [
            {"params": moved, "lr": 0.0, "top": rates[part] * multiplier} for part, moved in trained.items() if moved
        ]
        self.adamw = torch.optim.AdamW(
            groups, weight_decay=given.get("weight_decay", 0.0), betas=(0.9, 0.99), fused=True
        )
        self.parameters = [parameter for moved in trained.values() for parameter in moved]
        self._total_steps = total_steps

    def step(self, step: int) -> float:
        """Move the parameters along their gradients, scaled down to a norm of 1, and forget these.

        Returns:
            The norm of the gradients before.
        """
        norm = _gradient_norm(self.parameters)
        scale = min(1.0, self._norm / (norm + 1e-6))
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        for group in self.adamw.param_groups:
            group["lr"] = group["top"] * self._factor(step)
        self.adamw.step()
        self.adamw.zero_grad()
        self._average(step)
        return norm

    @torch.no_grad()
    def keep_best(self) -> None:
        """Keep the parameters as they are beside AdamW's own moments, which are saved together."""
        for parameter, state in self.adamw.state.items():
            state["best"] = parameter.detach().clone()

    @torch.no_grad()
    def take_best(self) -> None:
        """Make the parameters what they were when they were kept last."""
        for parameter, state in self.adamw.state.items():
            parameter.copy_(state["best"])

    @torch.no_grad()
    def _average(self, step: int) -> None:
        """Keep the mean beside AdamW's own moments, which are saved together."""
        n_averaged = step - int(self._total_steps * (1 - _AVERAGED))
        if n_averaged < 1:
            return
        for parameter, state in self.adamw.state.items():
            state.setdefault("mean", parameter.clone()).lerp_(parameter, 1 / n_averaged)
            if step == self._total_steps:
                parameter.copy_(state["mean"])

    def _factor(self, step: int) -> float:
        """`step` counts from 1."""
        return min(1.0, step / self._warm_up) * (0.1 + 0.45 * (1 + math.cos(math.pi * (step - 1) / self._total_steps)))


def for_width(network: Network) -> float:
    """By what the learning rate changes with the model: wide ones learn at a lower one.

    The root of the width, so that from what was measured on SmolLM2-135M (5e-4 at 576) models of 7 billion weights come
    to the 2e-4 at which they are usually trained (Dettmers et al. 2023).
    """
    weights: Any = network.embedding.weight
    return min(1.0, math.sqrt(_MEASURED_WIDTH / weights.shape[-1]))


def _gradient_norm(parameters: list[nn.Parameter]) -> float:
    """Euclidean norm of all gradients.

    Row by row: torch splits the sum over a whole large matrix among its threads, whose number would change the bits.
    """
    rows = [parameter.grad.float().square().sum(-1).sum() for parameter in parameters if parameter.grad is not None]
    return math.sqrt(torch.stack(rows).sum().item()) if rows else 0.0  # none where all answers were worth the same
