"""The body of a request for decisions: an input, and 1 to 400 questions about it; and how each is put to a model.

A question is put after the input in these words, with its options where it has any, unless the conversation asks it
itself: where the last message is the user's and one of its texts is the question's instructions, word for word, and no
option has a description. Then nothing is added, and the model is asked exactly as by a completion of that conversation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, StrictBool, StrictStr, StringConstraints

from finetune_assets.server.api.chat_messages import MAX_PARTS
from finetune_assets.server.api.decision_items import (
    ImagePart,
    Input,
    JsonPart,
    QuestionImagePart,
    QuestionPart,
    Text,
    check_input,
    check_json,
    messages_of,
    parts_of,
    plain_part,
)
from finetune_assets.server.api.image_limits import check_images
from finetune_assets.server.api.wire import ApiError, RequestBody

MAX_QUESTIONS = 400
MAX_CHOICES = 255
MAX_LEVELS = 10

Instructions = Text | Annotated[list[QuestionPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
Named = Annotated[str, StringConstraints(min_length=1)]


class Predicate(RequestBody):
    """Asks how likely a statement about the input is to be true."""

    type: Literal["predicate"]
    instructions: Instructions
    name: str | None = None


class Option(RequestBody):
    """One of the options of a choice. A string and a boolean of one text are two options."""

    value: StrictBool | Annotated[StrictStr, StringConstraints(min_length=1)]
    description: str | None = None


class Choice(RequestBody):
    """Asks which of the options fits the input."""

    type: Literal["choice"]
    instructions: Instructions
    choices: Annotated[list[Option], Field(min_length=2, max_length=MAX_CHOICES)]
    name: str | None = None


class Level(RequestBody):
    """One of the levels of a score."""

    label: Named
    description: str | None = None


class Score(RequestBody):
    """Asks which of the ordered levels fits the input; the first one has the value 0."""

    type: Literal["score"]
    instructions: Instructions
    levels: Annotated[list[Level], Field(min_length=2, max_length=MAX_LEVELS)]
    name: str | None = None


Question = Annotated[Predicate | Choice | Score, Field(discriminator="type")]


class CacheOptions(RequestBody):
    """Whether what is read of the input is kept for later requests."""

    mode: Literal["implicit", "explicit"] | None = None
    """With explicit, only where a part of the input has a breakpoint."""
    ttl: Literal["30m"] = "30m"


class DecisionBody(RequestBody):
    """Body of a request for decisions."""

    model: str
    input: Input
    questions: Annotated[list[Question], Field(min_length=1, max_length=MAX_QUESTIONS)]
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    safety_identifier: Annotated[str, Field(max_length=64)] | None = None
    calibrate: bool = True
    """Apply the calibrator that is registered with the model, to the questions that it was made for. Not OpenAI's."""
    defer: bool = False
    """Answer with a refusal where the model's answer is not sure enough to be used without a person. Not OpenAI's."""

    @property
    def keeps(self) -> bool:
        """Whether what is read of the input may be kept."""
        if self.prompt_cache_options is None or self.prompt_cache_options.mode != "explicit":
            return True
        return any(getattr(part, "prompt_cache_breakpoint", None) for _, part in parts_of(self.input))


@dataclass(frozen=True, slots=True)
class Put:
    """A question as it is put to a model."""

    parts: list[dict[str, Any]]
    """What is added to the conversation; nothing where that asks the question itself."""
    options: list[str]


def check(body: DecisionBody) -> None:
    """Refuse what the schema cannot see. Not for the event loop: headers of images are looked at.

    Raises:
        ApiError: naming the parameter.
    """
    check_input(body.input)
    shown = [(f"{p}.image_url", part.image_url) for p, part in parts_of(body.input) if isinstance(part, ImagePart)]
    for number, question in enumerate(body.questions):
        place = f"questions[{number}]"
        if not isinstance(question, Predicate):
            _check_unique(question, place)
        for inner, part in enumerate(question.instructions if isinstance(question.instructions, list) else []):
            if isinstance(part, JsonPart):
                check_json(part, f"{place}.instructions[{inner}]")
            elif isinstance(part, QuestionImagePart):
                shown.append((f"{place}.instructions[{inner}].image_url", part.image_url))
    check_images(shown, "input")


def conversation(body: DecisionBody) -> list[dict[str, Any]]:
    """Return the input as chat messages."""
    return messages_of(body.input)


def put(question: Question, messages: Sequence[dict[str, Any]], words: tuple[str, str] = ("Yes", "No")) -> Put:
    """Put a question to a model.

    Args:
        question: what is asked.
        messages: the conversation, as `conversation` returns it.
        words: what a predicate is answered with, if it is true and if not.
    """
    asked, options = _instructions(question), options_of(question, words)
    if _asks_itself(question, messages):
        return Put([], options)
    match question:
        case Predicate():
            return Put(asked, options)
        case Choice():
            listed = [(text, option.description) for text, option in zip(options, question.choices, strict=True)]
            rest = f"\n\nOptions:\n{_listed(listed)}"
        case Score():
            listed = [(level.label, level.description) for level in question.levels]
            rest = f"\n\nOptions, from the lowest to the highest:\n{_listed(listed)}"
    return Put([*asked, {"type": "text", "text": rest}], options)


def lead(words: tuple[str, str]) -> str:
    """Return what stands between an input and each question: the same for all, so that it is read once."""
    return (
        f"Answer what follows with one of its options and nothing else. If it has none, it is a statement: answer "
        f"{words[0]} if it is true and {words[1]} if it is not.\n\n"
    )


def options_of(question: Question, words: tuple[str, str]) -> list[str]:
    """Return the text of each option, as the model is to say it; of a predicate the two words."""
    match question:
        case Predicate():
            return list(words)
        case Score():
            return [level.label for level in question.levels]
        case Choice():
            values = [option.value for option in question.choices]
            texts = [str(value).lower() if isinstance(value, bool) else value for value in values]
            twice = {text for text, n in Counter(texts).items() if n > 1}
            written = [orjson.dumps(value).decode() for value in values]
            some = [json if text in twice else text for json, text in zip(written, texts, strict=True)]
            return some if len(set(some)) == len(some) else written


def _check_unique(question: Choice | Score, place: str) -> None:
    is_score = isinstance(question, Score)
    name, field = ("levels", "label") if is_score else ("choices", "value")
    seen: set[tuple[type, Any]] = set()
    for number, option in enumerate(question.levels if is_score else question.choices):
        value = getattr(option, field)
        if (key := (type(value), value)) in seen:
            param = f"{place}.{name}[{number}].{field}"
            text = f"Invalid '{param}': {str(value)[:100]!r} is there already. Each must be unique."
            raise ApiError(400, text, param=param, code="duplicate_value")
        seen.add(key)


def _asks_itself(question: Question, messages: Sequence[dict[str, Any]]) -> bool:
    told = question.choices if isinstance(question, Choice) else question.levels if isinstance(question, Score) else []
    asked = _instructions(question)
    if messages[-1]["role"] != "user" or len(asked) != 1 or any(option.description for option in told):
        return False
    content = messages[-1]["content"]
    return asked[0] in (content if isinstance(content, list) else [{"type": "text", "text": content}])


def _instructions(question: Question) -> list[dict[str, Any]]:
    if isinstance(question.instructions, str):
        return [{"type": "text", "text": question.instructions}]
    return [plain_part(part) for part in question.instructions]


def _listed(options: Sequence[tuple[str, str | None]]) -> str:
    return "\n".join(f"- {text}: {told}" if told else f"- {text}" for text, told in options)
