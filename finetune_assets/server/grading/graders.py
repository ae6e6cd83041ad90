"""Graders as they were asked for, ready to judge answers.

What a grader asks of a model comes first (`questions`), so that whoever grades many answers asks for all at once; with
the replies, in the same order, it grades (`grade`). Whatever fails in that gives the reward 0 and says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from finetune_assets.errors import GraderError
from finetune_assets.server.grading import similarity
from finetune_assets.server.grading.formula import FUNCTIONS, Formula
from finetune_assets.server.grading.template import Name, Template, UnfilledError, Values

REPLY = {
    "type": "object",
    "properties": {
        "result": {"type": "number"},
        "steps": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"description": {"type": "string"}, "conclusion": {"type": "string"}},
                "required": ["description", "conclusion"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["result", "steps"],
    "additionalProperties": False,
}
"""JSON schema of what a model that scores is asked to answer."""
USUAL_TOKENS = 1024
"""Of a reply, where the grader does not say."""
_RANGE = (0.0, 1.0)
_TEXT_PARTS = ("input_text", "output_text")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_REFUSED = {
    "python": "code that clients send is not run here",
    "label_model": "it passes answers or not, and gives no reward",
}


@dataclass(frozen=True)
class Question:
    """What a grader asks a model."""

    model: str
    messages: list[dict[str, Any]]
    """Chat messages, contents as texts or parts."""
    sampling: Mapping[str, Any]
    """`temperature`, `top_p`, `seed`, `max_completions_tokens`, `reasoning_effort`, where given."""


@dataclass(frozen=True)
class Reply:
    """What the model said."""

    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    error: str | None = None
    """Why it said nothing."""


@dataclass(frozen=True)
class Graded:
    """What an answer is worth."""

    reward: float
    errors: frozenset[str] = frozenset()
    """The protocol's names of what went wrong."""
    details: str | None = None
    """Why a model did not answer."""
    parts: Mapping[str, Graded] = field(default_factory=dict)
    """Of a grader of several, theirs."""
    asked: tuple[tuple[str, Reply], ...] = ()
    """Models and what they replied."""


class Grader(Protocol):
    """One way to judge."""

    name: str
    type: str

    @property
    def names(self) -> list[Name]:
        """What it looks up."""
        ...

    @property
    def models(self) -> list[tuple[str, str]]:
        """Which models it asks, each with the place in the grader that names it."""
        ...

    def questions(self, values: Values) -> list[Question]:
        """What it asks models about an answer."""
        ...

    def grade(self, values: Values, replies: Iterator[Reply]) -> Graded:
        """Judge an answer, with the replies to its questions."""
        ...


def read(described: Mapping[str, Any]) -> Grader:
    """Make a grader ready. What it is, in types and keys, was looked at before (`api.grader_format`).

    Raises:
        GraderError: something in it cannot be used here; `param` says where.
    """
    match described["type"]:
        case "string_check":
            return StringCheck(described)
        case "text_similarity":
            return TextSimilarity(described)
        case "score_model":
            return ScoreModel(described)
        case "multi":
            return Multi(described)
        case kind:
            told = f"graders of the type {kind!r} are not available on this server: {_REFUSED[kind]}"
            raise GraderError(f"{told}. Use string_check, text_similarity, score_model or multi", "type")


class _Comparison:
    """A grader that compares one text with another, and asks nobody."""

    def __init__(self, described: Mapping[str, Any], compare: Callable[[str, str], float]) -> None:
        self.name, self.type = described["name"], described["type"]
        self._input, self._reference = (_template(described[key], key) for key in ("input", "reference"))
        self._compare = compare

    @property
    def names(self) -> list[Name]:
        return self._input.names + self._reference.names

    @property
    def models(self) -> list[tuple[str, str]]:
        return []

    def questions(self, values: Values) -> list[Question]:  # noqa: ARG002
        return []

    def grade(self, values: Values, replies: Iterator[Reply]) -> Graded:  # noqa: ARG002
        try:
            answer, reference = self._input.fill(values), self._reference.fill(values)
        except UnfilledError as error:
            return _failed(error.flag)
        try:
            return Graded(self._compare(answer, reference))
        except OverflowError:
            return _failed("other_error")


class StringCheck(_Comparison):
    """1 where the input is (`eq`), is not (`ne`) or holds (`like`; `ilike`, in any case) the reference, else 0."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        compare = _STRING_CHECKS[described["operation"]]
        super().__init__(described, lambda answer, reference: float(compare(answer, reference)))


_STRING_CHECKS: Mapping[str, Callable[[str, str], bool]] = {
    "eq": lambda answer, reference: answer == reference,
    "ne": lambda answer, reference: answer != reference,
    "like": lambda answer, reference: reference in answer,
    "ilike": lambda answer, reference: reference.casefold() in answer.casefold(),
}


class TextSimilarity(_Comparison):
    """How alike input and reference are (`similarity`)."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        with _at("evaluation_metric"):
            measure = similarity.measure(described["evaluation_metric"])

        def compare(answer: str, reference: str) -> float:
            if max(len(answer), len(reference)) > similarity.LONGEST:
                raise OverflowError
            return measure(answer, reference)

        super().__init__(described, compare)


class ScoreModel:
    """The number that a model gives, within a range; 0 where it gives none."""

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.name, self.type = described["name"], described["type"]
        self._model: str = described["model"]
        self._messages = [_message(each, f"input[{place}]") for place, each in enumerate(described["input"])]
        self._sampling = {
            key: held for key, held in (described.get("sampling_params") or {}).items() if held is not None
        }
        self._least, self._most = described.get("range") or _RANGE
        if not self._least < self._most:
            raise GraderError("the first number of a range must be below the second", "range")

    @property
    def names(self) -> list[Name]:
        """As of every grader."""
        parts = [part for _, parts in self._messages for part in parts]
        return [name for _, template in parts for name in template.names]

    @property
    def models(self) -> list[tuple[str, str]]:
        """As of every grader."""
        return [(self._model, "model")]

    def questions(self, values: Values) -> list[Question]:
        """As of every grader; none where a template cannot be filled."""
        try:
            messages = [{"role": role, "content": _filled(parts, values)} for role, parts in self._messages]
        except UnfilledError:
            return []
        return [Question(self._model, messages, self._sampling)]

    def grade(self, values: Values, replies: Iterator[Reply]) -> Graded:
        """As of every grader."""
        try:
            for name in self.names:
                name.value(values)
        except UnfilledError as error:
            return _failed(error.flag)
        reply = next(replies)
        asked = ((self._model, reply),)
        if reply.error is not None:
            return Graded(0.0, frozenset({"model_grader_server_error"}), reply.error, asked=asked)
        score = _score(reply.text)
        if score is None:
            return Graded(0.0, frozenset({"model_grader_parse_error"}), asked=asked)
        return Graded(min(max(score, self._least), self._most), asked=asked)


class Multi:
    """What a formula makes of the rewards of several graders."""

    type = "multi"

    def __init__(self, described: Mapping[str, Any]) -> None:
        self.name = described.get("name") or self.type
        self.graders = {name: _inner(name, inner, place) for name, inner, place in _several(described["graders"])}
        with _at("calculate_output"):
            self._formula = Formula(described["calculate_output"], list(self.graders))
        self._places = {name: place for name, _, place in _several(described["graders"])}

    @property
    def names(self) -> list[Name]:
        """As of every grader."""
        return [name for grader in self.graders.values() for name in grader.names]

    @property
    def models(self) -> list[tuple[str, str]]:
        """As of every grader."""
        found = [(self._places[name], *each) for name, grader in self.graders.items() for each in grader.models]
        return [(model, f"{place}.{inner}") for place, model, inner in found]

    def questions(self, values: Values) -> list[Question]:
        """As of every grader."""
        return [question for grader in self.graders.values() for question in grader.questions(values)]

    def grade(self, values: Values, replies: Iterator[Reply]) -> Graded:
        """As of every grader."""
        parts = {name: grader.grade(values, replies) for name, grader in self.graders.items()}
        errors = frozenset(error for part in parts.values() for error in part.errors)
        details = next((part.details for part in parts.values() if part.details), None)
        asked = tuple(each for part in parts.values() for each in part.asked)
        try:
            reward = self._formula.value({name: part.reward for name, part in parts.items()})
        except ArithmeticError:
            reward, errors = 0.0, errors | {"formula_parse_error"}
        return Graded(reward, errors, details, parts, asked)


def _several(graders: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str]]:
    """Name, grader and place of each: the guide writes them by name, the API's schema has place for one alone."""
    if isinstance(graders.get("type"), str):
        return [(graders["name"], graders, "graders")]
    return [(name, grader, f"graders.{name}") for name, grader in graders.items()]


def _inner(name: str, described: Mapping[str, Any], place: str) -> Grader:
    if not _VARIABLE.fullmatch(name) or name in FUNCTIONS:
        told = "a grader's name in a formula must be a word of letters, digits and '_' that is no function's"
        raise GraderError(f"{told}, got {name[:40]!r}", place)
    with _at(place):
        return read(described)


def _message(described: Mapping[str, Any], place: str) -> tuple[str, list[tuple[str, Template]]]:
    """A role, and of each part its kind (`text` or `image`) and the template of its text or address."""
    content = described["content"]
    parts: list[tuple[str, Template]] = []
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str) or part["type"] in _TEXT_PARTS:
            parts.append(("text", _template(part if isinstance(part, str) else part["text"], f"{place}.content")))
        elif part["type"] == "input_image":
            parts.append(("image", _template(part["image_url"], f"{place}.content")))
        else:
            raise GraderError("models of this server hear nothing; leave 'input_audio' out", f"{place}.content")
    return described["role"], parts


def _filled(parts: list[tuple[str, Template]], values: Values) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and parts[0][0] == "text":
        return parts[0][1].fill(values)
    return [
        {"type": "text", "text": template.fill(values)}
        if kind == "text"
        else {"type": "image_url", "image_url": {"url": template.fill(values)}}
        for kind, template in parts
    ]


def _score(text: str) -> float | None:
    try:
        found = orjson.loads(text)["result"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_number and math.isfinite(found) else None


def _failed(flag: str) -> Graded:
    return Graded(0.0, frozenset({flag}))


def _template(text: str, param: str) -> Template:
    with _at(param):
        return Template(text)


class _at:  # noqa: N801 (used as a statement)
    """Say in errors about what is done with it where in the grader it stands."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, GraderError):
            inner = f".{error.param}" if error.param else ""
            raise GraderError(error.told, self._place + inner) from error
