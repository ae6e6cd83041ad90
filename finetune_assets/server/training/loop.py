"""LoRA fine-tuning: the algorithm, flat. What it minimises is in `objectives`, what comes before it in `preparing`.

It runs in a process of its own (`worker`), which the server may kill at any time: what it returns lies in a
folder that appears when complete, and it goes on from the last state it saved (`state`).

TRL's trainers pad examples of any length together, run the part of the prompt that all examples share, and the vision
tower, again for each of them, and on a CPU compute logits at every position over the whole vocabulary. This loop does
none of the four (`benchmarks/training.py` compares them).
"""

from __future__ import annotations

import hashlib
import math
import random
import shutil
import time
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server import checksums
from finetune_assets.server.durable import publish
from finetune_assets.server.model import adapters
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.training import trial
from finetune_assets.server.training.preparing import Run, place, prepare
from finetune_assets.server.training.reinforcement import Reinforcement
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.room import Room
from finetune_assets.server.training.state import Position, StateError, TrainingState
from finetune_assets.server.training.watcher import Progress, TrainingResult, Watcher

SAVE_SECONDS = 20.0
"""A state is saved at least this often, and at every epoch's end."""
_VALIDATION_POINTS = 4


class TrainingError(FinetuneAssetsError, ArithmeticError):
    """Training cannot go on: its loss or its gradients are no longer numbers."""


Course = Generator[tuple[int, list[Any]], tuple[float, float], TrainingResult | None]
"""A training: asks for a step (its number and batch), and is told the loss and accuracy of the batch before it."""


def train(request: TrainingRequest, watch: Watcher) -> TrainingResult | None:
    """Fine-tune `request.base` on the file's examples; None if the watcher wished to stop before the end.

    The same request gives the same weights on the same machine, however often it is interrupted, as long as the number
    of threads does not change within it, or changes no bit of the gradients (`threads`).

    Raises:
        TrainingFileError: the model cannot learn from the file.
        TrainingError: the loss is no longer a number.
        TooLargeError: it cannot fit into this machine's memory.
        BaseModelError: the base model cannot be loaded.
    """
    room = Room.here()
    run = prepare(request, load(request.base), room, watch)
    going = course(request, run, watch)
    try:
        step, batch = next(going)
        if trial.compiles(run):
            trial.take_compiled(run, run.total_steps - step + 1, watch.note)
        while True:
            step, batch = going.send(learn(run, batch, step))
    except StopIteration as end:
        return end.value


def course(request: TrainingRequest, run: Run[Any], watch: Watcher) -> Course:
    """Go through a prepared training, from its last saved state; whoever runs this makes the steps (`learn`)."""
    state = TrainingState(request.state, _work(request, run))
    position = _restore(state, run, watch)
    trial.take_savings(run)
    watch.ready(lambda: trial.sample_gradients(run))
    watch.begun(position.step, run.settings)
    last_saved = time.monotonic()
    for step, epoch, batch in () if run.is_over(position) else run.steps(position.step):
        rewards = run.objective.answer(batch, f"{run.seed}-{step}")
        loss, accuracy = yield step, batch
        tokens = sum(len(example) for item in batch for example in run.objective.examples(item))
        position = replace(position, step=step, trained_tokens=position.trained_tokens + tokens)
        rests = run.rests(step)
        measured = _validate(run, step, len(batch), full=rests)
        position = run.judged(position, measured) if rests else position
        checkpoint = _save(run.network, request.output / f"checkpoint-{step}") if rests else None
        progress = Progress(
            step=step, total_steps=run.total_steps, epoch=epoch, train_loss=loss, train_accuracy=accuracy,
            trained_tokens=position.trained_tokens, checkpoint=checkpoint, train_rewards=rewards, **measured,
        )  # fmt: skip
        watch.stepped(progress)
        wish = watch.wish()
        if rests or wish != "go on" or time.monotonic() - last_saved >= SAVE_SECONDS:
            state.save(position, run.optimiser.adamw)
            watch.saved()
            last_saved = time.monotonic()
        if wish != "go on":
            snapshot = checkpoint
            if wish == "snapshot and stop" and snapshot is None:
                snapshot = _save(run.network, request.output / f"checkpoint-{step}")
            watch.stopped(progress, snapshot)
            return None
        if run.is_over(position):
            break
    if position.best_step:
        run.optimiser.take_best()
        watch.note(f"The model is that of step {position.best_step} of {run.total_steps}: its held-out loss was lowest")
    model_dir = _save(run.network, request.output / "model")
    return TrainingResult(model_dir, position.trained_tokens, run.settings, position.step)


def _work(request: TrainingRequest, run: Run[Any]) -> dict[str, Any]:
    """What a saved state belongs to; all of it decides the weights."""
    files = (request.training_file, request.validation_file)
    return {
        "base": [request.base.name, request.base.path],
        # Not where it lies, which differs from home to home.
        "adapter": request.adapter and [_digest(path) for path in sorted(request.adapter.glob("*.safetensors"))],
        "method": request.method,
        "files": [_digest(path) for path in files if path is not None],
        "settings": run.settings,
        "seed": request.seed,
        "place": place(run.network),
    } | ({"reinforcement": _reinforced(request)} if request.grader else {})


def _reinforced(request: TrainingRequest) -> list[Any]:
    models = {name: [model.base.path, model.adapter and model.adapter.name] for name, model in request.models.items()}
    return [request.grader, models, request.json_schema, request.reasoning_effort]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _restore(state: TrainingState, run: Run[Any], watch: Watcher) -> Position:
    try:
        position = state.restore(run.optimiser.adamw)
    except StateError as error:
        watch.note(f"The saved training state cannot be used, so training starts again: {error}", "warn")
        return Position()
    if position.step:
        watch.note(f"Training goes on after step {position.step} of {run.total_steps}")
    return position


def learn(run: Run[Any], batch: list[Any], step: int) -> tuple[float, float]:
    """One optimiser step. Returns the batch's loss and accuracy before it."""
    terms = sum(map(run.objective.count, batch))
    total, right = 0.0, 0
    with adapters.dropping(run.network, f"{run.seed}-{step}"):
        for part in run.objective.parts(batch):
            loss, correct = run.objective.losses(part)
            (loss / terms).backward()
            total, right = total + loss.item(), right + int(correct)
    return move(run, step, total / terms, right / terms)


def move(run: Run[Any], step: int, loss: float, accuracy: float) -> tuple[float, float]:
    """Move what is trained along the gradients of a batch, and return its loss and accuracy.

    Raises:
        TrainingError: they are no longer numbers.
    """
    norm = run.optimiser.step(step) if math.isfinite(loss) else math.nan
    if not math.isfinite(norm):
        message = f"the training loss is {loss} at step {step}: the learning rate is too high"
        raise TrainingError(f"{message} for this data; choose a smaller learning_rate_multiplier")
    return loss, accuracy


@torch.no_grad()
def _validate(run: Run[Any], step: int, n_drawn: int, *, full: bool) -> dict[str, Any]:
    """Measure on held-out items: all of them where training rests, and a few drawn ones there and a few times between.

    Answers to held-out prompts are drawn alike each time, and all of them.
    """
    if not run.held_out:
        return {}
    if isinstance(run.objective, Reinforcement):
        return {"valid_rewards": run.objective.judge(run.held_out, f"{run.seed}-held out")} if full else {}
    measured = _measure(run, run.held_out, "full_valid") if full else {}
    if full or step % max(1, run.total_steps // _VALIDATION_POINTS) == 0:
        drawn = random.Random(f"{run.seed}-{step}").sample(run.held_out, min(len(run.held_out), n_drawn))
        measured |= _measure(run, drawn, "valid")
    return measured


def _measure(run: Run[Any], items: list[Any], prefix: str) -> dict[str, float]:
    loss, right = 0.0, 0
    for part in run.objective.parts(items):
        losses, correct = run.objective.losses(part)
        loss, right = loss + losses.item(), right + int(correct)
    terms = sum(map(run.objective.count, items))
    return {f"{prefix}_loss": loss / terms, f"{prefix}_accuracy": right / terms}


def _save(network: Network, target: Path) -> Path:
    """Write to a scratch folder and rename it: a half-written model is never seen."""
    if not all(torch.isfinite(parameter).all() for parameter in network.model.parameters() if parameter.requires_grad):
        raise TrainingError(
            "the trained weights are no longer finite numbers; choose a smaller learning_rate_multiplier"
        )
    scratch = target.with_name(f".{target.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    adapters.save(network, scratch)
    checksums.write(scratch)
    return publish(scratch, target)
