"""What a training tells on its way, who hears it, and what it leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from finetune_assets.server.training.rewards import Rewards

Wish = Literal["go on", "stop", "snapshot and stop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State after one step; what was not measured at this step is None."""

    step: int
    total_steps: int
    epoch: int
    train_loss: float
    """Mean of the objective's terms in this step's batch, nats: over learned tokens, or over pairs (DPO). With
    reinforcement it is about 0 whatever is learned."""
    train_accuracy: float
    """Share of the learned tokens that were the most probable one; with DPO, of the pairs whose preferred answer has
    gained on the other one since training began."""
    trained_tokens: int
    """Tokens of all examples processed so far, image slots and, with DPO, both answers included."""
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_accuracy: float | None = None
    checkpoint: Path | None = None
    """Folder of the checkpoint made at this step."""
    train_rewards: Rewards | None = None
    """Of the answers that the step learned from (reinforcement)."""
    valid_rewards: Rewards | None = None
    """Of answers to all held-out prompts."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished job leaves."""

    model_dir: Path
    trained_tokens: int
    hyperparameters: dict[str, int | float]
    steps: int


class Watcher:
    """Is told how training goes, and may end it; subclasses do what they need. What they raise ends training at once.

    The methods here do nothing.
    """

    def note(self, message: str, level: str = "info") -> None:
        """Hear something that a person should know."""

    def begun(self, step: int, settings: dict[str, int | float]) -> None:
        """Training begins after this step (0: at the start) with these resolved hyperparameters."""

    def ready(self, gradients: Callable[[], list[torch.Tensor]]) -> None:
        """Everything is in memory. `gradients` computes those of sample batches, and leaves no trace."""

    def stepped(self, progress: Progress) -> None:
        """A step was made."""

    def saved(self) -> None:
        """Training can go on from here after an interruption."""

    def wish(self) -> Wish:
        """Say what to do after a step."""
        return "go on"

    def stopped(self, progress: Progress, snapshot: Path | None) -> None:
        """Training has stopped as wished; its state is saved. `snapshot` is a checkpoint of it, where wished."""
