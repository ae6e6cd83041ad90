"""A training made ready: its files read, its settings decided, and what it moves added to the network."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch

from finetune_assets.errors import TrainingFileError, UnfitModelError
from finetune_assets.server.grading.graders import read as read_grader
from finetune_assets.server.model import adapters
from finetune_assets.server.model.network import Network
from finetune_assets.server.training import first_look, hyperparameters, rehearsal
from finetune_assets.server.training.examples import Example, Reader, batches, packed
from finetune_assets.server.training.feature_file import FeatureFile
from finetune_assets.server.training.hyperparameters import DPO_BETA, Optimiser, for_width
from finetune_assets.server.training.objectives import Objective, Preference, Supervised
from finetune_assets.server.training.reinforcement import ANSWER_TOKENS, Reinforcement, Sampling
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.rewards import Judge
from finetune_assets.server.training.room import Room
from finetune_assets.server.training.room import plan as room_for
from finetune_assets.server.training.seen import keep_seen
from finetune_assets.server.training.state import Position
from finetune_assets.server.training.watcher import Watcher

Item = TypeVar("Item")


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


def prepare(request: TrainingRequest, network: Network, room: Room, watch: Watcher) -> Run[Any]:
    """Read the files, and add what training moves to the network, before whose loading there was `room`.

    Raises:
        UnfitModelError: what would be trained is not what would be served.
        TrainingFileError: the model cannot learn from the file.
        TooLargeError: it cannot fit into this machine's memory.
    """
    if request.adapter is None and not network.base.bundled:
        _rehearse(network, sight=bool(request.train_vision_tower))  # before the seed is set, as it draws weights
    torch.manual_seed(request.seed)
    network.max_length = min(network.max_length, request.context_length or network.max_length)
    watch.note(f"Training on {place(network)}")
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
    shown = [example for item in examples for example in objective.examples(item)]
    with_images = any(example.images for example in shown)
    trained = adapters.add_trainable(
        network, request.adapter, with_images=with_images, rank=request.lora_r, alpha=request.lora_alpha,
        dropout=request.lora_dropout or 0.0, sight=bool(request.train_vision_tower),
    )  # fmt: skip
    _settle_sight(request, network, shown)
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


def _settle_sight(request: TrainingRequest, network: Network, examples: list[Example]) -> None:
    """Let a model with a processor of its own see each image once, unless the layers through which it sees learn.

    Raises:
        TrainingFileError: they are to, and there is no image.
    """
    pictured = next((example for example in examples if example.extras_file), None)
    if request.train_vision_tower and pictured is None:
        raise TrainingFileError("train_vision_tower is set, and no example shows an image; leave it out")
    if pictured is not None and not adapters.seeing(network):
        keep_seen(network, request.state / "features", pictured)


def _rehearse(network: Network, *, sight: bool) -> None:
    """Refuse a model that cannot be trained: it may have been named in `models.yaml` after the server's start.

    Raises:
        UnfitModelError: as it says.
    """
    if found := rehearsal.fails(network.twin(), sight=sight):
        raise UnfitModelError(f"the base model {network.base.name!r} cannot be used here: {found}")


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


def place(network: Network) -> str:
    """Say where, and in which precision, a network is trained."""
    dtype = str(network.dtype).removeprefix("torch.") + (", linear layers in 4 bit" if network.base.four_bit else "")
    if network.device.type == "cuda":
        return f"{torch.cuda.get_device_name(network.device)} in {dtype}"
    return f"the CPU in {dtype}"
