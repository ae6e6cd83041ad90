"""What a model's answers are worth: graded, with the models that graders ask, and summed up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_assets.server.generation.completion import Completion
from finetune_assets.server.generation.reader import ServedModel
from finetune_assets.server.generation.requests import GenerationRequest, ModelRef
from finetune_assets.server.generation.together import answered
from finetune_assets.server.grading.graders import REPLY, USUAL_TOKENS, Graded, Grader, Question, Reply
from finetune_assets.server.grading.template import Values


@dataclass(frozen=True, slots=True)
class Rewards:
    """Of many answers."""

    mean: float
    by_grader: Mapping[str, float]
    """Mean reward of each; of a grader of several, of those."""
    errors: Mapping[str, float]
    """Share of the answers that a grader could not judge, by the protocol's name of the error."""
    completion_tokens: float
    """Mean of an answer."""
    reasoning_tokens: float
    """Mean of what an answer thought."""
    cut: float
    """Share of the answers that were cut off at their limit of tokens."""

    @classmethod
    def of(cls, answers: Sequence[Judged]) -> Rewards:
        """Sum up; there is at least one answer."""
        graded = [answer.graded for answer in answers]
        parts = [dict(each.parts) for each in graded]
        errors = [error for each in graded for error in each.errors]
        return cls(
            mean=_mean([each.reward for each in graded]),
            by_grader={name: _mean([part[name].reward for part in parts]) for name in parts[0]},
            errors={error: errors.count(error) / len(graded) for error in sorted(set(errors))},
            completion_tokens=_mean([answer.n_tokens for answer in answers]),
            reasoning_tokens=_mean([answer.n_thought for answer in answers]),
            cut=_mean([answer.cut for answer in answers]),
        )


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer and its grade."""

    graded: Graded
    n_tokens: int
    n_thought: int
    cut: bool


class Judge:
    """A grader with the models that it asks, loaded when they are asked first.

    Args:
        grader: what judges.
        models: those it asks, by the names it has for them.
    """

    def __init__(self, grader: Grader, models: Mapping[str, ModelRef]) -> None:
        self._grader = grader
        self._models = models
        self._loaded: dict[str, ServedModel] = {}

    def grade(self, answers: Sequence[Values]) -> list[Graded]:
        """Judge answers together.

        Raises:
            BaseModelError: a model that is asked cannot be loaded.
        """
        asked = [question for values in answers for question in self._grader.questions(values)]
        replies = self._replies(asked)
        return [self._grader.grade(values, replies) for values in answers]

    def _replies(self, questions: list[Question]) -> Iterator[Reply]:
        found: list[Reply] = [Reply("")] * len(questions)
        for name in dict.fromkeys(question.model for question in questions):
            places = [place for place, question in enumerate(questions) if question.model == name]
            made = answered(self._model(name), [self._request(questions[place]) for place in places])
            for place, completion in zip(places, made, strict=True):
                found[place] = _reply(completion)
        return iter(found)

    def _model(self, name: str) -> ServedModel:
        base = self._models[name].base
        if base.path not in self._loaded:
            self._loaded[base.path] = ServedModel(base)
        return self._loaded[base.path]

    def _request(self, question: Question) -> GenerationRequest:
        sampling: dict[str, Any] = dict(question.sampling)
        effort, longest = sampling.pop("reasoning_effort", None), sampling.pop("max_completions_tokens", USUAL_TOKENS)
        sampling = {"seed": 0} | sampling
        return GenerationRequest(
            model=self._models[question.model],
            messages=question.messages,
            max_tokens=longest,
            json_schema=REPLY,
            effort=None if effort == "none" else effort,
            **sampling,
        )


def _reply(made: Completion | Exception) -> Reply:
    if not isinstance(made, Completion):
        return Reply("", error=str(made))
    generation = made.future.result()
    counts = (generation.prompt_tokens, generation.completion_tokens, generation.cached_tokens)
    return Reply(generation.choices[0].text, *counts)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
