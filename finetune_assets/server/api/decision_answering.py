"""Decisions: from a request to its answers, for both endpoints that ask for them and for batches."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openai.types import CompletionUsage

from finetune_assets.server.api.chat_completions import Completions
from finetune_assets.server.api.decision_request import (
    DecisionBody,
    Predicate,
    Put,
    Score,
    check,
    conversation,
    lead,
    put,
)
from finetune_assets.server.api.wire import ApiError
from finetune_assets.server.calibration import Calibration
from finetune_assets.server.catalog import FoundModel
from finetune_assets.server.database.usage import Account

if TYPE_CHECKING:
    from finetune_assets.server.generation.decision_requests import Decided

WORDS = ("Yes", "No")
"""What a predicate is answered with, unless the model's calibrator says otherwise."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A question's answer."""

    options: list[str]
    probabilities: list[float]
    """Of the options, in their order; they add up to 1."""
    calibrated: bool
    refused: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to a request, and what they took."""

    answers: list[Answered]
    input_tokens: int
    cached_tokens: int
    kept_tokens: int


class DecisionMaker:
    """Answers requests for decisions; every method belongs to the server's event loop."""

    def __init__(self, completions: Completions) -> None:
        self._completions = completions

    async def decide(self, body: DecisionBody, asker: Account) -> Answers:
        """Answer all questions of a request, for the holder of a key.

        Raises:
            ApiError: the request cannot be answered.
        """
        model, fitted = await asyncio.to_thread(self._checked, body, asker)
        messages = conversation(body)
        words = _words(fitted)
        puts = [put(question, messages, words) for question in body.questions]
        decided = await self._decided(body, model, puts, lead(words), asker)
        answers = await asyncio.to_thread(_answers, body, puts, decided, fitted)  # of up to 102,000 options
        await self._completions.count(_usage(decided), asker)
        return Answers(answers, decided.input_tokens, decided.cached_tokens, decided.kept_tokens)

    def _checked(self, body: DecisionBody, asker: Account) -> tuple[FoundModel, Calibration | None]:
        check(body)
        model = self._completions.admitted(body.model, asker)
        fitted = None if model.calibration is None else Calibration.model_validate(model.calibration)
        if body.defer and (fitted is None or fitted.least is None):
            message = (
                f"The model `{body.model[:200]}` has no threshold below which a person is asked: register a "
                "calibrator with `least` for it, or leave 'defer' out."
            )
            raise ApiError(400, message, param="defer", code="no_threshold")
        return model, fitted

    async def _decided(
        self, body: DecisionBody, model: FoundModel, puts: list[Put], between: str, asker: Account
    ) -> Decided:
        from finetune_assets.server.generation.decision_requests import DecisionRequest
        from finetune_assets.server.generation.requests import ModelRef
        from finetune_assets.server.model.decision_encoding import Question

        request = DecisionRequest(
            model=ModelRef(model.base, model.adapter),
            messages=conversation(body),
            questions=tuple(Question(asked.parts, asked.options) for asked in puts),
            lead=between,
            keep=body.keeps,
            partition=body.prompt_cache_key or "",
            owner=asker.name,
        )
        try:
            return await self._completions.result_of(lambda engine: engine.decide(request), body.model)
        except ApiError as error:
            if error.body.param == "messages":  # what chat calls the same thing
                error.body.param = "input"
            raise


def _usage(decided: Decided) -> CompletionUsage:
    used = {"prompt_tokens": decided.input_tokens, "completion_tokens": 0, "total_tokens": decided.input_tokens}
    cached = {"prompt_tokens_details": {"cached_tokens": decided.cached_tokens}}
    return CompletionUsage.model_validate(used | cached)


def _answers(body: DecisionBody, puts: list[Put], decided: Decided, fitted: Calibration | None) -> list[Answered]:
    from finetune_assets.server.generation.option_trie import normalised

    messages, answers = conversation(body), []
    for question, asked, logs in zip(body.questions, puts, decided.log_probabilities, strict=True):
        p, itself = normalised(logs), not asked.parts
        if (
            fitted is None
            or not _kind_fits(fitted, question)
            or not fitted.is_for(asked.options, messages, itself=itself)
        ):
            answers.append(Answered(asked.options, p, calibrated=False, refused=body.defer))
            continue
        calibrated = fitted.applied(asked.options, p)
        refused = body.defer and not fitted.is_sure(asked.options, calibrated)
        answers.append(Answered(asked.options, calibrated if body.calibrate else p, body.calibrate, refused))
    return answers


def _words(fitted: Calibration | None) -> tuple[str, str]:
    if fitted is None or fitted.kind != "predicate":
        return WORDS
    positive, negative = fitted.options
    return positive, negative


def _kind_fits(fitted: Calibration, question: object) -> bool:
    """A choice between a predicate's two words is the same question."""
    if isinstance(question, Score) or fitted.kind == "score":
        return isinstance(question, Score) and fitted.kind == "score"
    return fitted.kind == "predicate" or not isinstance(question, Predicate)
