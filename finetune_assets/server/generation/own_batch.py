"""Answers of a base model that is asked by its own forward alone: each by itself, one token of each in turn.

It is slower than a `Batch`, whose rows share every product, and right for every model that transformers has.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import torch

from finetune_assets.server.generation.answer import Answer
from finetune_assets.server.generation.batch import explained, no_choice
from finetune_assets.server.generation.completion import Completion
from finetune_assets.server.generation.lora import RowLora
from finetune_assets.server.generation.memory import Budget
from finetune_assets.server.generation.next_tokens import NextTokens
from finetune_assets.server.model.network import Network
from finetune_assets.server.model.own_forward import Continuation, logits_at
from finetune_assets.server.turns import Turns

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class Line:
    """An answer, and its conversation in the model; None before the prompt is read."""

    completion: Completion
    answer: Answer
    grown: Continuation | None = None

    @property
    def over(self) -> bool:
        """Whether it grows no more."""
        return self.completion.over or self.answer.finish_reason is not None


class OwnBatch:
    """Everything that is under way for one base model. Used by one thread only."""

    def __init__(self, network: Network, budget: Budget, release: Callable[[Completion], None]) -> None:
        self.network = network
        self._release = release
        self._most = budget.rows
        self.lora = RowLora(network)
        self._next = NextTokens(network)
        self._waiting: Turns[Line] = Turns()
        self._lines: list[Line] = []
        self._open: list[Completion] = []

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._open)

    @property
    def n_rows(self) -> int:
        """Answers that grow at each step."""
        return len(self._lines)

    @property
    def n_waiting(self) -> int:
        """Answers that nothing was done for yet."""
        return len(self._waiting)

    def add(self, completion: Completion) -> None:
        """Queue a request."""
        self._open.append(completion)
        for answer in completion.growing:
            self._waiting.add(completion.request.owner, Line(completion, answer))

    def fail_all(self, error: Exception) -> None:
        """End everything that is under way."""
        for completion in self._open:
            completion.fail(error)

    def forget(self) -> None:
        """Nothing is kept."""

    @torch.inference_mode()
    def step(self, set_threads: Callable[[int], None]) -> None:
        """Read one prompt that waits, then make every answer longer by a token.

        Args:
            set_threads: called before each run of the model with the number of its tokens.
        """
        for completion in [completion for completion in self._open if completion.unscored and not completion.over][:1]:
            self._score(completion, set_threads)
        if (line := next(iter(self._waiting), None)) and (len(self._lines) < self._most or self._has_none(line)):
            self._waiting.take([line])
            if not line.over:
                self._lines.append(line)
        for line in self._lines:
            if not line.over:
                set_threads(1 if line.grown else len(line.completion.prompt.ids))
                self._advance(line)
        self._lines = [line for line in self._lines if not line.over]
        self._settle()

    def _has_none(self, line: Line) -> bool:
        """Whether no answer of this line's owner grows, who then need not wait for those of others."""
        return all(other.completion.request.owner != line.completion.request.owner for other in self._lines)

    def _score(self, completion: Completion, set_threads: Callable[[int], None]) -> None:
        """Say how probable the tokens of a prompt are. If that fails, so does its request, and no other."""
        ids = completion.prompt.ids
        set_threads(len(ids))
        try:
            self.lora.select([completion.adapter])
            logits = logits_at(self.network.model, torch.tensor(ids), {}, torch.arange(len(ids)))
            told = self._next.scores(ids, lambda start, end: logits[start:end], completion.request.top_logprobs)
            completion.scores = told
        except Exception as error:  # noqa: BLE001 - as in `_advance`
            completion.fail(explained(error))

    def _advance(self, line: Line) -> None:
        """Add a token to an answer. If that fails, so does its request, and no other."""
        try:
            self.lora.select([line.completion.adapter])
            if line.grown is None:
                prompt = line.completion.prompt
                line.grown = Continuation(self.network.model, torch.tensor(prompt.ids), prompt.extras)
                logits = line.grown.step()
            else:
                logits = line.grown.step(line.answer.made[-1])
            (token,) = self._next.choose([line.answer], logits[None])
            if token is None:
                line.completion.fail(no_choice(line.completion.request))
            else:
                line.answer.take(token, ends=token.id in self.network.end_ids)
        except Exception as error:  # noqa: BLE001 - whoever asked gets it; the engine must live on
            # Without the error's message, which may quote a prompt.
            trace = "".join(traceback.format_tb(error.__traceback__))
            logger.warning("generation with %s failed: %s\n%s", self.network.base.name, type(error).__name__, trace)
            line.completion.fail(explained(error))

    def _settle(self) -> None:
        """Answer the requests that are complete, and let go of their adapters."""
        for completion in self._open:
            completion.settle()
        over = [completion for completion in self._open if completion.over]
        self._open = [completion for completion in self._open if completion not in over]
        for completion in over:
            self._release(completion)
