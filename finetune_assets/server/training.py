"""Supervised LoRA fine-tuning: the algorithm, flat.

It runs in a process of its own (`worker`), which the server may kill at any time: what it returns lies in a
folder that appears when complete.

TRL's trainer pads every batch, computes logits at every position over the whole vocabulary, and runs the part
of the prompt that all examples share again for each of them. This loop does none of the three.
"""

from __future__ import annotations

import math
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from finetune_assets.dataset.json_lines import JsonProblem, lines
from finetune_assets.errors import TrainingFileError
from finetune_assets.server import adapters
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.chat_encoding import ImageFeatures, Sequence, encode_example
from finetune_assets.server.network import Network, common_prefix, load

LEARNING_RATE = 5e-4
"""Of the LoRA layers at `learning_rate_multiplier` 1."""
PROJECTOR_LEARNING_RATE = 1e-3
_VALIDATION_POINTS = 4
_EVALUATION_BATCH = 16


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
    n_epochs: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """State after one step; what was not measured at this step is None."""

    step: int
    total_steps: int
    epoch: int
    train_loss: float
    """Mean cross-entropy of the learned tokens of this step's batch, nats."""
    train_accuracy: float
    """Share of those tokens that were the most probable one."""
    trained_tokens: int
    """Tokens of all examples processed so far, image slots included."""
    hyperparameters: dict[str, int | float]
    valid_loss: float | None = None
    valid_accuracy: float | None = None
    full_valid_loss: float | None = None
    full_valid_accuracy: float | None = None
    checkpoint: Path | None = None
    """Folder of the checkpoint made at this step."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """What a finished job leaves."""

    model_dir: Path
    trained_tokens: int
    hyperparameters: dict[str, int | float]
    steps: int


def train(request: TrainingRequest, report: Callable[[Progress], None]) -> TrainingResult:
    """Fine-tune `request.base` on the file's examples and call `report` after every step.

    The same request gives the same weights on the same machine.
    """
    torch.manual_seed(request.seed)
    network = load(request.base)
    features = ImageFeatures(network)
    examples = _read(network, request.training_file, features)
    held_out = _read(network, request.validation_file, features) if request.validation_file else []
    settings = resolve_hyperparameters(request, len(examples))
    with_images = any(example.images for example in examples)
    lora = adapters.add_trainable(network, request.adapter, with_images=with_images)
    optimiser, schedule = _optimiser(network, lora, settings, n_examples=len(examples))
    total_steps = _steps_per_epoch(len(examples), settings) * int(settings["n_epochs"])
    check_every = max(1, total_steps // _VALIDATION_POINTS)
    step, trained_tokens = 0, 0
    for epoch in range(1, int(settings["n_epochs"]) + 1):
        for batch in _batches(examples, int(settings["batch_size"]), random.Random(f"{request.seed}-{epoch}")):
            loss, accuracy = _learn(network, batch, optimiser, schedule)
            step += 1
            trained_tokens += sum(len(example.ids) for example in batch)
            measured: dict[str, Any] = {}
            if step == total_steps or _ends_epoch(step, total_steps, settings):
                measured |= _measure(network, held_out, "full_valid")
                measured["checkpoint"] = _save(network, request.output / f"checkpoint-{step}")
            if held_out and (step % check_every == 0 or "full_valid_loss" in measured):
                drawn = random.Random(f"{request.seed}-{step}").sample(held_out, min(len(held_out), len(batch)))
                measured |= _measure(network, drawn, "valid")
            report(
                Progress(
                    step=step, total_steps=total_steps, epoch=epoch, train_loss=loss, train_accuracy=accuracy,
                    trained_tokens=trained_tokens, hyperparameters=settings, **measured,
                )
            )  # fmt: skip
    model_dir = _save(network, request.output / "model")
    return TrainingResult(model_dir, trained_tokens, settings, step)


def resolve_hyperparameters(request: TrainingRequest, n_examples: int) -> dict[str, int | float]:
    """Numbers for what the request leaves to us.

    `batch_size` grows with the data (a 30th of it, 1 to 8: more steps teach more than larger batches save);
    `n_epochs` is 3, or as many as make 60 steps of little data (12 at most), or fewer for much data.
    """
    batch_size = request.batch_size
    if batch_size == "auto":
        batch_size = min(8, max(1, n_examples // 30))
    n_epochs = request.n_epochs
    if n_epochs == "auto":
        usual = 3 if n_examples <= 2_000 else 2 if n_examples <= 10_000 else 1
        n_epochs = max(usual, min(12, math.ceil(60 * batch_size / n_examples)))
    multiplier = 1.0 if request.learning_rate_multiplier == "auto" else request.learning_rate_multiplier
    return {"n_epochs": n_epochs, "batch_size": batch_size, "learning_rate_multiplier": multiplier}


def _read(network: Network, path: Path, features: ImageFeatures) -> list[Sequence]:
    read = []
    for number, example in lines(path):
        if isinstance(example, JsonProblem):  # validation has passed, so the file was changed since
            raise TrainingFileError(f"{path}, line {number}: {example.message}")
        sequence = encode_example(network, example["messages"], features)
        read.append(_truncate(sequence, network.max_length))
    return [sequence for sequence in read if any(sequence.learned)]


def _truncate(sequence: Sequence, max_length: int) -> Sequence:
    """Cut an example at the end to the context length, as OpenAI does; never within an image."""
    if len(sequence.ids) <= max_length:
        return sequence
    ids = sequence.ids[:max_length]
    slots, kept = sum(token < 0 for token in ids), []
    for image in sequence.images:
        if len(image) > slots:
            break
        kept.append(image)
        slots -= len(image)
    end = max_length - slots if slots and ids[-1] < 0 else max_length
    return Sequence(ids[:end], sequence.learned[:end], kept)


def _steps_per_epoch(n_examples: int, settings: dict[str, int | float]) -> int:
    return math.ceil(n_examples / settings["batch_size"])


def _ends_epoch(step: int, total_steps: int, settings: dict[str, int | float]) -> bool:
    return step % (total_steps // int(settings["n_epochs"])) == 0


def _optimiser(
    network: Network, lora: list[nn.Parameter], settings: dict[str, int | float], n_examples: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """AdamW with a linear warm-up over the first tenth of the steps and a cosine down to a tenth of the rate."""
    total = _steps_per_epoch(n_examples, settings) * int(settings["n_epochs"])
    warm_up = max(1, total // 10)
    multiplier = settings["learning_rate_multiplier"]
    groups = [{"params": lora, "lr": LEARNING_RATE * multiplier}]
    if projector := adapters.projector_parameters(network):
        groups.append({"params": projector, "lr": PROJECTOR_LEARNING_RATE * multiplier})
    optimiser = torch.optim.AdamW(groups, weight_decay=0.0, betas=(0.9, 0.99))

    def factor(step: int) -> float:
        return min(1.0, (step + 1) / warm_up) * (0.1 + 0.45 * (1 + math.cos(math.pi * step / total)))

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _batches(examples: list[Sequence], size: int, shuffler: random.Random) -> Iterator[list[Sequence]]:
    """Every example once, in random order, with neighbours in length together so that little is padded."""
    order = examples.copy()
    shuffler.shuffle(order)
    window = 8 * size
    ordered = [e for i in range(0, len(order), window) for e in sorted(order[i : i + window], key=lambda e: len(e.ids))]
    batches = [ordered[i : i + size] for i in range(0, len(ordered), size)]
    shuffler.shuffle(batches)
    yield from batches


def _learn(network: Network, batch: list[Sequence], optimiser: Any, schedule: Any) -> tuple[float, float]:
    """One optimiser step. Returns the batch's loss and token accuracy before it."""
    logits, targets = _learned_logits(network, batch)
    loss = F.cross_entropy(logits, targets)
    loss.backward()
    moved = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    nn.utils.clip_grad_norm_(moved, 1.0)
    optimiser.step()
    optimiser.zero_grad()
    schedule.step()
    return loss.item(), (logits.argmax(-1) == targets).float().mean().item()


def _learned_logits(network: Network, batch: list[Sequence]) -> tuple[Tensor, Tensor]:
    """Logits `[t, vocabulary]` in float32 and targets `[t]` of the batch's t learned tokens, and of no other."""
    rows = [example.ids for example in batch]
    first_learned = min(example.learned.index(True) for example in batch)
    shared = common_prefix(rows, at_most=first_learned - 1) if len(batch) > 1 else 0
    embedded = network.embed(rows, [example.images for example in batch])
    states = network.states(embedded, shared)
    places = [(r, t) for r, example in enumerate(batch) for t, learned in enumerate(example.learned) if learned]
    row, column = torch.tensor(places, device=network.device).T
    targets = torch.tensor([rows[r][t] for r, t in places], device=network.device)
    return network.head(states[row, column - 1 - shared]).float(), targets


@torch.no_grad()
def _measure(network: Network, examples: list[Sequence], prefix: str) -> dict[str, float]:
    """`<prefix>_loss` and `<prefix>_accuracy` over all learned tokens of `examples`; nothing for none."""
    if not examples:
        return {}
    loss, right, total = 0.0, 0, 0
    ordered = sorted(examples, key=lambda example: len(example.ids))
    for start in range(0, len(ordered), _EVALUATION_BATCH):
        logits, targets = _learned_logits(network, ordered[start : start + _EVALUATION_BATCH])
        loss += F.cross_entropy(logits, targets, reduction="sum").item()
        right += int((logits.argmax(-1) == targets).sum())
        total += len(targets)
    return {f"{prefix}_loss": loss / total, f"{prefix}_accuracy": right / total}


def _save(network: Network, target: Path) -> Path:
    """Write to a scratch folder and rename it: a half-written model is never seen."""
    scratch = target.with_name(f".{target.name}.partial")
    for leftover in (scratch, target):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch.mkdir(parents=True)
    adapters.save(network, scratch)
    return scratch.rename(target)
