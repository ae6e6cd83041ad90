"""What a call for decisions asks, and what it gets."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from finetune_assets.server.generation.lora import Adapter
from finetune_assets.server.generation.requests import ModelRef
from finetune_assets.server.model.decision_encoding import EncodedQuestion, Question


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRequest:
    """What one call asks."""

    model: ModelRef
    messages: list[dict[str, Any]]
    """The input, in chat format."""
    questions: tuple[Question, ...]
    lead: str = ""
    """What stands between the input and each question; all share it, so that it is read once."""
    keep: bool = True
    """Whether what is read of the input may be kept for later requests."""
    partition: str = ""
    """Only requests of one partition find what was kept."""
    owner: str = ""
    """Whose it is: owners are served in turn."""

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The messages, and the questions as messages of their own."""
        return [*self.messages, *({"role": "user", "content": list(q.parts)} for q in self.questions)]

    def showing(self, shown: list[dict[str, Any]]) -> DecisionRequest:
        """The same with what `shown` returned in place of it, images fetched for example."""
        n = len(self.messages)
        questions = (replace(q, parts=m["content"]) for q, m in zip(self.questions, shown[n:], strict=True))
        return replace(self, messages=shown[:n], questions=tuple(questions))


@dataclass(frozen=True, slots=True)
class Decided:
    """The answers to one call."""

    log_probabilities: list[list[float]]
    """Of each question's options, in their order."""
    input_tokens: int
    cached_tokens: int
    """How many of them were known from an earlier request."""
    kept_tokens: int
    """How many of them were read now and are kept."""


@dataclass(eq=False)
class Deciding:
    """A request on its way."""

    request: DecisionRequest
    future: Future[Decided]
    questions: list[EncodedQuestion]
    adapter: Adapter | None
    found: dict[int, list[float]] = field(default_factory=dict)
    """By the question's number."""
    n_tokens: int = 0
    n_cached: int = 0
    n_kept: int = 0

    def fail(self, error: Exception) -> None:
        """Raise `error` where the answers are waited for."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)

    def settle(self) -> None:
        """Hand over the answers."""
        if not self.future.done() and self.future.set_running_or_notify_cancel():
            answers = [self.found[number] for number in range(len(self.questions))]
            self.future.set_result(Decided(answers, self.n_tokens, self.n_cached, self.n_kept))
