"""How a model writes an answer: where it thinks, what it says and what it calls, found in its own chat template.

Conversations of marked words are written out by the template; what stands between the words is the form. So what
training teaches, what a model may write and what is read of it are the same thing, and no family is known by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from finetune_assets.server.model.chat_template import ChatTemplate, Message, PromptError

_EFFORT = "medium"
_DEGREES = ("minimal", "low", "medium", "high", "xhigh", "max")
_USUAL_DEGREES, _NO_DEGREE = ("low", "medium", "high"), "degree0"
_SAID, _THOUGHT = "Answer3", "Thinking4"
_NAMES = ("function5", "function6")
_ARGUMENTS: tuple[dict[str, Any], ...] = ({"key7": 'a "quoted" ü', "key8": {"x": [1, True, None]}}, {"key9": "b"})
_THINK, _THINK_END = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Marks:
    """What a thought stands between."""

    begin: str
    """Empty where the prompt has begun the thought already."""
    end: str


@dataclass(frozen=True, slots=True)
class CallForm:
    """How functions are called, with arguments in JSON."""

    begin: str
    """Before the name of the first function."""
    named: str
    """Between a name and its arguments."""
    end: str
    """After the arguments of the last call."""
    between: str | None
    """After the arguments of a call and before the next name; None: the template writes one call only."""
    after_content: str | None
    """In the place of `begin` after something said; None: the template writes nothing before a call."""


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How a model writes an answer."""

    content: str = ""
    """Before what is said, where the prompt does not write it: with tools or reasoning."""
    thought: Marks | None = None
    """None: its template knows no reasoning."""
    efforts: tuple[str, ...] = ()
    """How much reasoning can be asked for."""
    calls: CallForm | None = None
    no_calls: str = ""
    """Why there are none."""

    @property
    def marks(self) -> list[str]:
        """All of them."""
        parts = [part for part in (self.thought, self.calls) if part is not None]
        found = [getattr(part, field.name) for part in parts for field in fields(part)]
        return [mark for mark in (self.content, *found) if mark]

    def written(self, write: Callable[[str], str]) -> AnswerForm:
        """The same with its marks written in another way."""
        thought, calls = (
            part and replace(part, **{k: write(v) for k, v in asdict(part).items() if v is not None})
            for part in (self.thought, self.calls)
        )
        return replace(self, content=write(self.content), thought=thought, calls=calls)


def answer_form(template: ChatTemplate) -> AnswerForm:
    """Find the form by rendering."""
    thought, content = _thoughts(template)
    efforts = () if thought is None else _efforts(template)
    try:
        calls = _calls(template)
        content = content or _written(template, _turn(_SAID), tools=True).partition(_SAID)[0]
    except (_UnreadableError, PromptError) as error:
        return AnswerForm(content, thought, efforts, no_calls=str(error))
    return AnswerForm(content, thought, efforts, calls)


def ended(form: AnswerForm, controls: Mapping[str, int], ends: set[int]) -> tuple[AnswerForm, set[int]]:
    """Take what ends an answer off the last call, and find the token that does where no file names it.

    Args:
        form: as `answer_form` returns it.
        controls: ids of the tokenizer's control tokens.
        ends: those that are known to end an answer.
    """
    if form.calls is None:
        return form, ends
    calls, found = form.calls, [name for name, token in controls.items() if token in ends and name in form.calls.end]
    last = next((name for name in controls if calls.end.rstrip().endswith(name)), None)
    if not found and last is not None and last not in (calls.between or ""):
        found, ends = [last], ends | {controls[last]}
    places = [calls.end.index(name) for name in found]
    return replace(form, calls=replace(calls, end=calls.end[: min(places, default=None)])), ends


class _UnreadableError(ValueError):
    """The template does not write what it is given in a way that can be read."""


def _calls(template: ChatTemplate) -> CallForm:
    try:
        template.prompt(_asked(template), _TOOLS)
    except PromptError as error:
        raise _UnreadableError("knows no tools") from error
    try:
        one = _written(template, _turn("", 1), tools=True)
    except PromptError as error:
        raise _UnreadableError(f"takes no calls of tools as this server writes them ({error})") from error
    if _NAMES[0] not in one or "key7" not in one:
        raise _UnreadableError("leaves out calls of tools")
    begin, named, end = _around_call(one, 0)
    between = after_content = None
    two = _tried(template, _turn("", 2))
    if two.startswith(begin) and _NAMES[1] in two:
        _, _, rest = _around_call(two, 0)
        between, named_again, end_again = _around_call(rest, 1)
        if (named_again, end_again) != (named, end):
            raise _UnreadableError("writes each of several calls in another way")
    opening, said, behind = _tried(template, _turn(_SAID, 1)).partition(_SAID)
    if said and _NAMES[0] in behind and opening == _written(template, _turn(_SAID), tools=True).partition(_SAID)[0]:
        joined = _around_call(behind, 0)[0]
        after_content = joined if joined.strip() == begin.strip() else None
    return CallForm(begin, named, end, between, after_content)


def _around_call(text: str, which: int) -> tuple[str, str, str]:
    """What stands before the name of a call, between it and its arguments, and behind them."""
    begin, found, rest = text.partition(_NAMES[which])
    for written in (json.dumps(_ARGUMENTS[which], ensure_ascii=False), json.dumps(_ARGUMENTS[which])):
        named, arguments, end = rest.partition(written)
        if found and arguments:
            return begin, named, end
    raise _UnreadableError("writes the arguments of calls in another way than as JSON, which this server does not read")


def _thoughts(template: ChatTemplate) -> tuple[Marks | None, str]:
    """What a thought stands between, and what is written before what is said after it."""
    asked = _asked(template)
    try:
        prompt = template.prompt(asked, effort=_EFFORT)
    except PromptError:  # it does not take the effort
        return None, ""
    try:
        thoughtful = _written(template, _turn(_SAID, thought=_THOUGHT), effort=_EFFORT)
    except (_UnreadableError, PromptError):
        thoughtful = ""
    begin, found, rest = thoughtful.partition(_THOUGHT)
    end, said, _ = rest.partition(_SAID)
    if found and said:
        content = _tried(template, _turn(_SAID), tools=True).partition(_SAID)[0]
        content = content if content and end.endswith(content) else ""
        return Marks(begin.strip(), end.removesuffix(content).strip()), content
    if prompt.rstrip().endswith(_THINK) and prompt != template.prompt(asked):
        return Marks("", _THINK_END), ""
    return None, ""


def _efforts(template: ChatTemplate) -> tuple[str, ...]:
    """Those that the template tells apart. One that takes any word for an effort means what gpt-oss has."""
    prompts: dict[str, str] = {}
    for effort in (*_DEGREES, _NO_DEGREE):
        with suppress(PromptError):
            prompts[effort] = template.prompt(_asked(template), effort=effort)
    if len(set(prompts.values())) == 1:
        return (_EFFORT,)
    return _USUAL_DEGREES if _NO_DEGREE in prompts else tuple(prompts)


def _written(template: ChatTemplate, turn: Message, *, tools: bool = False, effort: str | None = None) -> str:
    """What the template adds to the prompt for an answer, up to its end."""
    given, asked = _TOOLS if tools else None, _asked(template)
    prompt = template.prompt(asked, given, effort)
    whole = template.render([*asked, {**turn, "content": template.content([_text(turn["content"])])}], given, effort)
    if not whole.startswith(prompt):
        raise _UnreadableError("writes answers so that no prompt leads to them")
    return whole[len(prompt) :]


def _tried(template: ChatTemplate, turn: Message, *, tools: bool = True) -> str:
    """The same; empty where the template does not take the turn."""
    try:
        return _written(template, turn, tools=tools)
    except (_UnreadableError, PromptError):
        return ""


def _asked(template: ChatTemplate) -> list[Message]:
    return [{"role": "user", "content": template.content([_text("Question2")])}]


def _turn(said: str, n_calls: int = 0, thought: str = "") -> Message:
    turn: Message = {"role": "assistant", "content": said}
    if n_calls:
        called = zip(_NAMES[:n_calls], _ARGUMENTS, strict=False)
        turn["tool_calls"] = [{"type": "function", "function": {"name": n, "arguments": a}} for n, a in called]
    if thought:
        turn["reasoning_content"] = thought
    return turn


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


_TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": "It does something.",
            "parameters": {"type": "object", "properties": {key: {"type": "string"} for key in arguments}},
        },
    }
    for name, arguments in zip(_NAMES, _ARGUMENTS, strict=True)
]
