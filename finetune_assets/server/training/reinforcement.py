"""Group relative policy optimisation (Shao et al. 2024, DeepSeekMath): learning from answers of one's own.

At each step the model as it is answers each prompt of the batch several times. An answer's advantage is by how many
standard deviations its reward exceeds the mean of its group; the loss of each of its tokens is that, negative, times
the ratio of the token's probability to what it was when it was sampled. Every answer is learned from once, so that the
ratio is 1 (its gradient is not), and the clip of PPO has nothing to do. The terms are averaged over all tokens of the
batch (DAPO, Yu et al. 2025), so that long answers do not count less. `beta` makes it dear to diverge from the model
before training; the divergence is estimated as k3 (Schulman 2020) and times the ratio too, without which its gradient
would be another one (DeepSeek-V3.2, 2025). All of it is as TRL's trainer does usually, with which
`test_reinforcement.py` compares.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.completion import Completion
from finetune_assets.server.generation.reader import AnsweringModel
from finetune_assets.server.generation.requests import GenerationRequest, ModelRef
from finetune_assets.server.generation.together import answered
from finetune_assets.server.grading.template import Values
from finetune_assets.server.model.chat_encoding import ImageSource
from finetune_assets.server.model.network import Network
from finetune_assets.server.training.examples import Example, Reader, Task
from finetune_assets.server.training.objectives import cross_entropies
from finetune_assets.server.training.rewards import Judge, Judged, Rewards
from finetune_assets.server.training.room import TOKENS_AT_ONCE

ANSWER_TOKENS = 256
"""Of an answer at most, where the job does not say."""
_REHEARSED_TOKENS = 16
_SAME = 1e-4
"""What is added to the standard deviation of a group, as in TRL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers come about."""

    n: int
    """Answers to each prompt that is learned from."""
    n_judged: int = 1
    """Answers to each prompt of the validation file."""
    max_tokens: int = ANSWER_TOKENS
    json_schema: dict[str, Any] | None = None
    """What answers fit."""
    effort: str | None = None
    """How much the model thinks first."""


@dataclass(slots=True)
class Said:
    """An answer to learn from."""

    example: Example
    advantage: float


@dataclass(slots=True)
class Prompted:
    """A prompt, and what the model has said to it last."""

    task: Task
    said: list[Said] = field(default_factory=list)


class Reinforcement:
    """See above. An item counts as many terms as its answers have tokens; none of them is right or wrong."""

    def __init__(
        self, network: Network, features: ImageSource, judge: Judge, sampling: Sampling, beta: float = 0.0
    ) -> None:
        self._network = network
        self._features = features
        self._judge = judge
        self._sampling = sampling
        self._beta = beta
        self.tokens_at_once = TOKENS_AT_ONCE["cpu"][0]
        self._model: AnsweringModel | None = None
        self._before: list[Tensor] = []
        """What is trained, before it was."""

    def read(self, reader: Reader, path: Path) -> list[Prompted]:
        """Read a file in reinforcement format."""
        return [Prompted(task) for task in reader.tasks(path, self._sampling.effort)]

    def prepare(self, items: list[Prompted], folder: Path) -> None:  # noqa: ARG002
        """Keep what is trained as it is now, where the divergence from it counts."""
        self._model = AnsweringModel(self._network, self._features)
        if self._beta:
            self._before = [weight.detach().clone() for weight in self._trained()]

    def examples(self, item: Prompted) -> list[Example]:
        """The prompt with each answer; alone before there are any."""
        return [said.example for said in item.said] or [item.task.prompt]

    def length(self, item: Prompted) -> int:
        """Tokens of the prompt, and as many as an answer may have."""
        return min(len(item.task.prompt) + self._sampling.max_tokens, self._network.max_length)

    def parts(self, items: Iterable[Prompted]) -> Iterator[list[Prompted]]:
        """Each prompt alone, so that it passes once for all its answers; those without an advantage are left out."""
        for item in items:
            said = [each for each in item.said if each.advantage or self._beta]
            size = self._at_once(item.task, said)
            for start in range(0, len(said), size):
                yield [replace(item, said=said[start : start + size])]

    def count(self, item: Prompted) -> int:
        """Tokens of its answers."""
        return sum(int(said.example.learned.sum()) for said in item.said)

    def losses(self, items: Sequence[Prompted]) -> tuple[Tensor, Tensor]:
        """Summed loss of the answers' tokens, and 0."""
        said = [each for item in items for each in item.said]
        logprobs, row = self._logprobs(said)
        advantages = torch.tensor([each.advantage for each in said], device=logprobs.device)[row]
        gained = advantages
        if self._beta:
            with torch.no_grad(), self._as_before():
                before = self._logprobs(said)[0]
            gained = gained - self._beta * ((before - logprobs).exp() - (before - logprobs) - 1)
        ratio = (logprobs - logprobs.detach()).exp()
        return -(ratio * gained).sum(), torch.zeros((), dtype=torch.long)

    def answer(self, items: Sequence[Prompted], seed: str) -> Rewards:
        """Answer prompts anew, and find the advantage of each answer. The same seed draws the same.

        Raises:
            BaseModelError: the model computes no finite probabilities.
        """
        answers = self._answers([item.task for item in items], self._sampling.n, seed)
        judged = self._judged([item.task for item in items], answers)
        for item, made, grades in zip(items, answers, judged, strict=True):
            rewards = torch.tensor([grade.graded.reward for grade in grades], dtype=torch.float64)
            advantages = advantages_of(rewards).tolist()
            item.said = [
                Said(_example(item.task.prompt, answer), advantage)
                for answer, advantage in zip(made, advantages, strict=True)
            ]
        return Rewards.of([grade for grades in judged for grade in grades])

    def rehearse(self, items: Sequence[Prompted]) -> None:
        """Answer prompts, with advantages by turns of 1 and -1, so that each answer has a gradient."""
        answers = self._answers([item.task for item in items], 2, "rehearsal", _REHEARSED_TOKENS)
        for item, made in zip(items, answers, strict=True):
            item.said = [Said(_example(item.task.prompt, answer), (-1.0) ** place) for place, answer in enumerate(made)]

    def judge(self, items: Sequence[Prompted], seed: str) -> Rewards:
        """Say what answers to held-out prompts are worth."""
        tasks = [item.task for item in items]
        judged = self._judged(tasks, self._answers(tasks, self._sampling.n_judged, seed))
        return Rewards.of([grade for grades in judged for grade in grades])

    def _answers(self, tasks: Sequence[Task], n: int, seed: str, at_most: int | None = None) -> list[list[Answer]]:
        model = self._model
        assert model is not None, "prepared"  # noqa: S101
        model.batch.forget()
        base = ModelRef(self._network.base, None)
        how, longest = self._sampling, min(self._sampling.max_tokens, at_most or self._sampling.max_tokens)
        requests = [
            GenerationRequest(
                model=base, messages=task.messages, max_tokens=min(longest, self._room(task)), n=n,
                seed=_number(f"{seed}-{task.line}"), json_schema=how.json_schema, effort=how.effort,
            )
            for task in tasks
        ]  # fmt: skip
        made = answered(model, requests)
        return [each.answers if isinstance(each, Completion) else _raise(each) for each in made]

    def _judged(self, tasks: Sequence[Task], answers: list[list[Answer]]) -> list[list[Judged]]:
        values = [
            Values(task.row, answer.choice().text) for task, made in zip(tasks, answers, strict=True) for answer in made
        ]
        graded = iter(self._judge.grade(values))
        return [
            [Judged(next(graded), len(a.made), a.n_thought, a.finish_reason == "length") for a in made]
            for made in answers
        ]

    def _room(self, task: Task) -> int:
        return self._network.max_length - len(task.prompt)

    def _at_once(self, task: Task, said: list[Said]) -> int:
        """How many answers pass together: beside each other behind one prompt, or each behind a copy of it."""
        longest = max((len(each.example) for each in said), default=0)
        copied = self._network.recomputes or self._network.whole or task.prompt.images
        shared = 0 if copied else len(task.prompt)
        return max(1, (self.tokens_at_once - shared) // max(1, longest - shared))

    def _logprobs(self, said: Sequence[Said]) -> tuple[Tensor, Tensor]:
        losses, _right, row = cross_entropies(self._network, [each.example for each in said], "none")
        return -losses, row

    def _trained(self) -> list[Tensor]:
        seeing = list(self._network.vision.projector.parameters()) if self._network.vision else []
        return [weight for weight in [*self._network.model.parameters(), *seeing] if weight.requires_grad]

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        """Let the model be what it was before training, meanwhile."""
        now = [weight.data for weight in self._trained()]
        for weight, before in zip(self._trained(), self._before, strict=True):
            weight.data = before
        try:
            yield
        finally:
            for weight, data in zip(self._trained(), now, strict=True):
                weight.data = data


def advantages_of(rewards: Tensor) -> Tensor:
    """By how many standard deviations (of n - 1) each reward of a group exceeds its mean; 0 where all are equal.

    Args:
        rewards: `[n]`, of the answers to one prompt.
    """
    if len(rewards) < 2 or bool((rewards == rewards[0]).all()):
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean()) / (rewards.std() + _SAME)


def _example(prompt: Example, answer: Answer) -> Example:
    """The prompt with an answer, whose tokens are learned, the one that ended it too."""
    made = answer.made if answer.end is None else [*answer.made, answer.end]
    ids = torch.cat([prompt.ids, torch.tensor(made, dtype=prompt.ids.dtype)])
    return Example(ids, torch.arange(len(ids)) >= len(prompt), prompt.images)


def _number(seed: str) -> int:
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:7])


def _raise(error: Exception) -> Any:
    raise error
