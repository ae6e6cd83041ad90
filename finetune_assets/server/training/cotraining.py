"""Several trainings of one base model in one process: the frozen weights are there once, and pass once for all steps.

Each training is the one that it is alone (`loop.course`): its own LoRA layers and projector, optimiser, schedule, seed,
order, states, checkpoints and watcher. Only the passes of the steps that they ask for at the same time are made as one
(`joint_pass`), where a trial has found that this gives each of them its own gradients; where it does not, they are made
in turn. Whoever ends, in whatever way, leaves the others as they are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.server.model.joint_pass import JointPass, Rows
from finetune_assets.server.model.network import Network, load
from finetune_assets.server.training import trial
from finetune_assets.server.training.footprint import COPIES
from finetune_assets.server.training.hyperparameters import Optimiser
from finetune_assets.server.training.loop import Course, course, learn, move
from finetune_assets.server.training.objectives import Passing, Supervised, judged
from finetune_assets.server.training.preparing import Run, prepare
from finetune_assets.server.training.request import TrainingRequest
from finetune_assets.server.training.room import Room
from finetune_assets.server.training.watcher import TrainingResult, Watcher

PACKED_AT_ONCE = 4096
"""Tokens that take a GPU as long as fewer: up to so many, rows are packed even where a beginning that they share would
pass once otherwise. A Llama of 7.4 billion weights kept an H200 busy for 1.9 of 5.9 seconds with 4,096 at once."""

Outcome = TrainingResult | Exception | None
"""How a training ended: with a result, with an error, or (None) before its end as its watcher wished."""
Measured = tuple[float, float] | Exception
"""Loss and accuracy of a step, or what has ended it."""


@dataclass(slots=True)
class Trainee:
    """One training among others."""

    number: int
    run: Run[Any]
    watch: Watcher
    course: Course
    step: int = 0
    batch: list[Any] = field(default_factory=list)
    """What it asks for."""
    news: str = ""
    """What its watcher has yet to hear."""

    def go_on(self, found: Measured | None) -> None:
        """Tell it what its step has found, and hear what it asks for next.

        Raises:
            StopIteration: it has ended.
            Exception: whatever ends it.
        """
        if isinstance(found, Exception):
            raise found
        if self.news:
            self.watch.note(self.news)
            self.news = ""
        self.step, self.batch = next(self.course) if found is None else self.course.send(found)


def train_together(requests: Sequence[TrainingRequest], watchers: Sequence[Watcher]) -> Iterator[tuple[int, Outcome]]:
    """Fine-tune one base model for all requests; yields the number of each, and its outcome, as it ends.

    The weights are those of `loop.train`, but for rounding: sums over many numbers are added up in another order.

    Raises:
        Exception: what strikes all of them, such as memory that runs out in a pass.
    """
    room = Room.here()
    try:
        frozen = load(requests[0].base)
    except FinetuneAssetsError as error:
        yield from ((number, error) for number in range(len(requests)))
        return
    trainees: list[Trainee] = []
    for number, (request, watch) in enumerate(zip(requests, watchers, strict=True)):
        try:
            run = prepare(request, frozen.twin(), room, watch)
            trainee = Trainee(number, run, watch, course(request, run, watch))
            trainee.go_on(None)
        except StopIteration as end:
            yield number, end.value
        except Exception as error:  # noqa: BLE001 - it is told to the caller, who knows the job
            yield number, error
        else:
            trainees.append(trainee)
            room = replace(room, free=room.free - COPIES * sum(p.nbytes for p in run.optimiser.parameters))
    joint = Joint.of(frozen, trainees)
    while trainees:
        for trainee, found in zip(list(trainees), _step(joint, trainees), strict=True):
            try:
                trainee.go_on(found)
            except StopIteration as end:
                trainees.remove(trainee)
                yield trainee.number, end.value
            except Exception as error:  # noqa: BLE001
                trainees.remove(trainee)
                yield trainee.number, error


def _step(joint: Joint | None, trainees: Sequence[Trainee]) -> list[Measured]:
    """Make the step that each of them asks for."""
    if joint is None or len(trainees) == 1:
        return [_attempt(learn, t.run, t.batch, t.step) for t in trainees]
    found = joint.learn(trainees)
    return [_attempt(move, t.run, t.step, *found[t.number]) for t in trainees]


def _attempt(act: Callable[..., tuple[float, float]], *arguments: Any) -> Measured:
    try:
        return act(*arguments)
    except Exception as error:  # noqa: BLE001 - it ends this training, and no other
        return error


class Joint:
    """Computes the gradients of several trainings in one pass."""

    def __init__(self, passes: JointPass, trainees: Sequence[Trainee]) -> None:
        self._passes = passes
        self._networks = {t.number: t.run.network for t in trainees}
        self._most = min(t.run.objective.tokens_at_once for t in trainees)
        """Tokens that may pass together."""

    @classmethod
    def of(cls, frozen: Network, trainees: Sequence[Trainee]) -> Joint | None:
        """Prepare it and try it on what all ask for; None where it does not give each what it finds alone."""
        if len(trainees) < 2:
            return None
        passes = JointPass.of(frozen, {t.number: t.run.network for t in trainees})
        supervised = all(isinstance(t.run.objective, Supervised) for t in trainees)
        joint = cls(passes, trainees) if passes is not None and supervised else None
        joint = joint if joint is not None and joint._fits(trainees) else None
        how = "their steps pass together" if joint else "they make their steps in turn"
        for trainee in trainees:
            trainee.news = f"{len(trainees)} jobs train on one copy of the base model; {how}"
        return joint

    def learn(self, trainees: Sequence[Trainee]) -> dict[int, tuple[float, float]]:
        """Add up the gradients of all batches. Returns the mean loss and the accuracy of each."""
        terms = {t.number: sum(map(t.run.objective.count, t.batch)) for t in trainees}
        total, right = dict.fromkeys(terms, 0.0), dict.fromkeys(terms, 0)
        waiting = {t.number: self._passing(t) for t in trainees}
        while any(waiting.values()):
            found = self._losses(self._next(waiting))
            losses = torch.stack([loss for loss, _ in found.values()])
            (losses / losses.new_tensor([terms[number] for number in found])).sum().backward()
            for number, loss, (_, correct) in zip(found, losses.tolist(), found.values(), strict=True):
                total[number] += loss
                right[number] += int(correct)
        return {number: (total[number] / count, right[number] / count) for number, count in terms.items()}

    def _passing(self, trainee: Trainee) -> deque[Passing]:
        return deque(Passing.of(trainee.run.network, part) for part in trainee.run.objective.parts(trainee.batch))

    def _next(self, waiting: Mapping[int, deque[Passing]]) -> dict[int, Passing]:
        """Take a part of each that has one, as many as may pass together."""
        taken: dict[int, Passing] = {}
        room = self._most
        for number, parts in waiting.items():
            if parts and (not taken or parts[0].n_tokens <= room):
                taken[number] = parts.popleft()
                room -= taken[number].n_tokens
        return taken

    def _losses(self, parts: Mapping[int, Passing]) -> dict[int, tuple[Tensor, Tensor]]:
        """Summed cross-entropy of each part, and the number of tokens predicted right."""
        networks = self._networks
        if self._pack(parts.values()):
            embedded = [part.embedded_packed(networks[number]) for number, part in parts.items()]
            states = self._passes.packed_states(list(parts), embedded, [part.lengths for part in parts.values()])
            seen = map(Passing.predicting_packed, parts.values(), states)
        else:
            rows = [Rows(number, part.embedded(networks[number]), part.shared) for number, part in parts.items()]
            seen = map(Passing.predicting, parts.values(), self._passes.states(rows))
        return {
            number: judged(networks[number], states, part.targets, "sum")
            for (number, part), states in zip(parts.items(), seen, strict=True)
        }

    def _pack(self, parts: Collection[Passing]) -> bool:
        if not all(network.packed for network in self._networks.values()):
            return False
        return sum(sum(part.lengths) for part in parts) <= max(PACKED_AT_ONCE, sum(part.n_tokens for part in parts))

    def _fits(self, trainees: Sequence[Trainee]) -> bool:
        """Whether each has the gradients that it has alone, as far as the precision tells, of the first step."""
        with ExitStack() as random:
            for trainee in trainees:
                random.enter_context(trial.drawn(trainee.run.optimiser.parameters))
            alone = [trial.gradients(t.run, t.batch) for t in trainees]
            try:
                self.learn(trainees)
            except torch.OutOfMemoryError:
                raise
            except (NotImplementedError, RuntimeError, ValueError):  # as in `trial.take_packed`
                return False
            finally:
                together = [_taken_from(trainee.run.optimiser) for trainee in trainees]
        return all(map(_close, trainees, alone, together))


def _taken_from(optimiser: Optimiser) -> list[Tensor]:
    found = [parameter.grad for parameter in optimiser.parameters if parameter.grad is not None]
    optimiser.adamw.zero_grad()
    return found


def _close(trainee: Trainee, alone: list[Tensor], together: list[Tensor]) -> bool:
    terms = sum(map(trainee.run.objective.count, trainee.batch))
    before, found = (torch.cat([gradient.flatten() for gradient in some]) for some in (alone, together))
    return bool((found * terms - before).norm() <= trial.AS_CLOSE[trainee.run.network.dtype] * before.norm())
