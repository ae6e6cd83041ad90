"""LoRA fine-tuning: the algorithm, flat. What it minimises is in `objectives`.

It runs in a process of its own (`worker`), which the server may kill at any time: what it returns lies in a
folder that appears when complete, and it goes on from the last state it saved (`training_state`).

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
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import torch

from finetune_assets.errors import FinetuneAssetsError, TrainingFileError
from finetune_assets.server import checksums
from finetune_assets.server.base_models import BaseModel
from finetune_assets.server.durable import publish
from finetune_assets.server.generation.requests import ModelRef
from finetune_assets.server.grading.graders import read as read_grader
from finetune_assets.server.model import adapters
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.training import first_look, hyperparameters, trial
from finetune_assets.server.training.examples import Reader, batches, packed
from finetune_assets.server.training.feature_file import FeatureFile
from finetune_assets.server.training.hyperparameters import DPO_BETA, Auto, Optimiser, for_width
from finetune_assets.server.training.objectives import Objective, Preference, Supervised
from finetune_assets.server.training.reinforcement import ANSWER_TOKENS, Reinforcement, Sampling
from finetune_assets.server.training.rewards import Judge, Rewards
from finetune_assets.server.training.room import Room
from finetune_assets.server.training.room import plan as room_for
from finetune_assets.server.training.state import Position, StateError, TrainingState

SAVE_SECONDS = 20.0
"""A state is saved at least this often, and at every epoch's end."""
_VALIDATION_POINTS = 4
_OWN = (
    "learning_rate", "warmup_ratio", "weight_decay", "max_grad_norm", "context_length", "lora_r", "lora_alpha",
    "lora_dropout", "early_stopping_patience", "packing", "max_completion_tokens",
)  # fmt: skip

Item = TypeVar("Item")
Wish = Literal["go on", "stop", "snapshot and stop"]


class TrainingError(FinetuneAssetsError, ArithmeticError):
    """Training cannot go on: its loss or its gradients are no longer numbers."""


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
    """Each as in `api.job_format.Hyperparameters`; None is this server's own."""
    seed: int

    @property
    def given(self) -> dict[str, int | float]:
        """Those of them that were asked for."""
        found = {name: getattr(self, name) for name in _OWN}
        return {name: value for name, value in found.items() if value is not None}


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


@dataclass(frozen=True, slots=True)
class Run(Generic[Item]):
    """A training ready to go."""

    network: Network
    objective: Objective[Item]
    packs: list[list[Item]]
    """What counts as one of a batch: an example, or several where they are packed. Each learns alone all the same."""
    held_out: list[Item]
    settings: dict[str, int | float]
    optimiser: Optimiser
    seed: int

    @property
    def examples(self) -> list[Item]:
        """All that is learned from."""
        return [item for pack in self.packs for item in pack]

    @property
    def epoch_steps(self) -> int:
        """Steps of one epoch."""
        return math.ceil(len(self.packs) / self.settings["batch_size"])

    def length(self, pack: list[Item]) -> int:
        """Tokens of a pack."""
        return sum(map(self.objective.length, pack))

    def rests(self, step: int) -> bool:
        """Whether everything is measured and kept after this step: an epoch's last, or as often as the job says."""
        interval = int(self.settings.get("eval_interval", self.epoch_steps))
        return step % interval == 0 or step == self.total_steps

    @property
    def total_steps(self) -> int:
        """Steps of all epochs."""
        return self.epoch_steps * int(self.settings["n_epochs"])

    def judged(self, position: Position, measured: dict[str, Any]) -> Position:
        """Where training stands after an epoch; the weights are kept where they are the best so far."""
        loss = measured.get("full_valid_loss", math.inf)
        if "early_stopping_patience" not in self.settings or not loss < position.best_loss:
            return position
        self.optimiser.keep_best()
        return replace(position, best_step=position.step, best_loss=loss)

    def is_over(self, position: Position) -> bool:
        """Whether too many epochs were no better than the best one."""
        patience = self.settings.get("early_stopping_patience")
        return patience is not None and position.step - position.best_step >= patience * self.epoch_steps

    def steps(self, done: int) -> Iterator[tuple[int, int, list[Item]]]:
        """Number, epoch and batch of every step after `done`."""
        for epoch in range(done // self.epoch_steps + 1, int(self.settings["n_epochs"]) + 1):
            shuffler = random.Random(f"{self.seed}-{epoch}")
            order = batches(self.packs, int(self.settings["batch_size"]), self.length, shuffler)
            for step, batch in enumerate(order, (epoch - 1) * self.epoch_steps + 1):
                if step > done:
                    yield step, epoch, [item for pack in batch for item in pack]


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


def prepare(request: TrainingRequest, network: Network, room: Room, watch: Watcher) -> Run[Any]:
    """Read the files, and add what training moves to the network, before whose loading there was `room`."""
    torch.manual_seed(request.seed)
    network.max_length = min(network.max_length, request.context_length or network.max_length)
    watch.note(f"Training on {_place(network)}")
    features = FeatureFile(network, request.state / "features")
    objective = _objective(request, network, features)
    reader = Reader(network, features)
    examples = objective.read(reader, request.training_file)
    held_out = objective.read(reader, request.validation_file) if request.validation_file else []
    if request.early_stopping_patience and not held_out:
        raise TrainingFileError("the validation file has no example that tells when training has come far enough")
    if reader.dropped:
        message = f"{reader.dropped} examples are left out: within the context of {network.max_length:,} tokens"
        told = "there is no room for an answer" if request.method == "reinforcement" else "they have no token to learn"
        watch.note(f"{message} {told}", "warn")
    packs = [[example] for example in examples]
    if request.packing:
        packs = packed(examples, objective.length, network.max_length)
    settings = hyperparameters.resolve(
        request.method, len(packs), n_epochs=request.n_epochs, batch_size=request.batch_size,
        learning_rate_multiplier=request.learning_rate_multiplier, beta=request.beta,
    ) | request.given  # fmt: skip
    if request.method == "reinforcement":
        settings |= hyperparameters.explored(
            math.ceil(len(packs) / settings["batch_size"]), compute_multiplier=request.compute_multiplier,
            eval_interval=request.eval_interval, eval_samples=request.eval_samples,
        )  # fmt: skip
    if reader.cut:
        watch.note(f"{reader.cut} examples are cut at their end, to {network.max_length:,} tokens", "warn")
    rank = adapters.rank_of(request.adapter) if request.adapter else request.lora_r
    plan = room_for(request.base, max(map(objective.length, examples)), rank, room)
    objective.tokens_at_once = plan.tokens_at_once
    with_images = any(example.images for item in examples for example in objective.examples(item))
    trained = adapters.add_trainable(
        network, request.adapter, with_images=with_images, rank=request.lora_r, alpha=request.lora_alpha,
        dropout=request.lora_dropout or 0.0,
    )  # fmt: skip
    if plan.recompute:
        network.recompute()
    if plan.recompute or room.device == "cuda":
        watch.note(plan.told)
    multiplier = settings["learning_rate_multiplier"]
    if request.method == "supervised" and request.adapter is None and trained["tower"]:
        trained = first_look.look(network, trained, examples, multiplier, request.seed, request.state, watch.note)
    objective.prepare([*examples, *held_out], request.state)
    total_steps = math.ceil(len(packs) / settings["batch_size"]) * int(settings["n_epochs"])
    optimiser = Optimiser(trained, request.method, multiplier * for_width(network), total_steps, settings)
    return Run(network, objective, packs, held_out, settings, optimiser, request.seed)


def _objective(request: TrainingRequest, network: Network, features: FeatureFile) -> Objective[Any]:
    if request.method == "supervised":
        return Supervised(network)
    if request.grader is not None:
        sampling = Sampling(
            n=hyperparameters.answers(request.compute_multiplier),
            n_judged=1 if request.eval_samples in (None, "auto") else int(request.eval_samples),
            max_tokens=request.max_completion_tokens or ANSWER_TOKENS,
            json_schema=request.json_schema, effort=request.reasoning_effort,
        )  # fmt: skip
        beta = 0.0 if request.beta in (None, "auto") else float(request.beta)
        return Reinforcement(network, features, Judge(read_grader(request.grader), request.models), sampling, beta)
    return Preference(network, DPO_BETA if request.beta in (None, "auto") else float(request.beta))


def _place(network: Network) -> str:
    dtype = str(network.dtype).removeprefix("torch.") + (", linear layers in 4 bit" if network.base.four_bit else "")
    if network.device.type == "cuda":
        return f"{torch.cuda.get_device_name(network.device)} in {dtype}"
    return f"the CPU in {dtype}"


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
        "place": _place(run.network),
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
