"""How a model writes an answer: where it thinks, what it says and what it calls, found in its own chat template.

Conversations of marked words are written out by the template; what stands between the words is the form. So what
training teaches, what a model may write and what is read of it are the same thing, and no family is known by name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from typing import Any

from finetune_assets.server.model.chat_template import ChatTemplate, Message, PromptError

_EFFORT = "medium"
_DEGREES = ("minimal", "low", "medium", "high", "xhigh", "max")
_USUAL_DEGREES, _NO_DEGREE = ("low", "medium", "high"), "degree0"
_SAID, _THOUGHT = "Answer3", "Thinking4"
_NAMES = ("function5", "function6")
_ARGUMENTS: tuple[dict[str, Any], ...] = ({"key7": 'a "quoted" ü', "key8": {"x": [1, True, None]}}, {"key9": "b"})
_LITERALS: dict[str, Any] = {"key7": True, "key8": False, "key9": None}
_THINK, _THINK_END = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Marks:
    """What a thought stands between."""

    begin: str
    """Empty where the prompt has begun the thought already."""
    end: str


@dataclass(frozen=True, slots=True)
class TaggedArguments:
    """How arguments are written one by one: texts as they are, everything else as JSON."""

    begin: str
    """Before a key."""
    named: str
    """Between a key and its value."""
    end: str
    """After a value."""
    literals: tuple[str, str, str] = ("true", "false", "null")
    """Some templates write those of Python, but not within other values."""

    def written(self, arguments: Mapping[str, Any]) -> str:
        """Arguments as the template writes them."""
        return "".join(
            f"{self.begin}{key}{self.named}{self.value(value)}{self.end}" for key, value in arguments.items()
        )

    def read(self, written: str) -> Any:
        """A value that is no text; a text where there is none."""
        for literal, meant in zip(self.literals, (True, False, None), strict=True):
            if written == literal:
                return meant
        try:
            found = json.loads(written, parse_constant=_no_json)
        except ValueError:
            return written
        return written if isinstance(found, str) else found

    def value(self, value: Any) -> str:
        """A value as the template writes it."""
        for literal, meant in zip(self.literals, (True, False, None), strict=True):
            if value is meant:
                return literal
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class CallForm:
    """How functions are called."""

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
    tagged: TaggedArguments | None = None
    """None: arguments are one JSON object."""


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
        tagged = self.calls and self.calls.tagged
        parts = [part for part in (self.thought, self.calls, tagged) if part is not None]
        found = [getattr(part, field.name) for part in parts for field in fields(part)]
        return [mark for mark in (self.content, *found) if isinstance(mark, str) and mark]

    def written(self, write: Callable[[str], str]) -> AnswerForm:
        """The same with its marks written in another way."""
        thought, calls, tagged = (
            part and replace(part, **{mark: write(text) for mark, text in _texts(part).items()})
            for part in (self.thought, self.calls, self.calls and self.calls.tagged)
        )
        calls = calls and replace(calls, tagged=tagged)
        return replace(self, content=write(self.content), thought=thought, calls=calls)


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _texts(marks: Marks | CallForm | TaggedArguments) -> dict[str, str]:
    named = {field.name: getattr(marks, field.name) for field in fields(marks)}
    return {name: text for name, text in named.items() if isinstance(text, str)}


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
    tagged = _tagged(template, one)
    begin, named, end = _around_call(one, 0, tagged)
    between = after_content = None
    two = _tried(template, _turn("", 2))
    if two.startswith(begin) and _NAMES[1] in two:
        _, _, rest = _around_call(two, 0, tagged)
        between, named_again, end_again = _around_call(rest, 1, tagged)
        if (named_again, end_again) != (named, end):
            raise _UnreadableError("writes each of several calls in another way")
    opening, said, behind = _tried(template, _turn(_SAID, 1)).partition(_SAID)
    if said and _NAMES[0] in behind and opening == _written(template, _turn(_SAID), tools=True).partition(_SAID)[0]:
        joined = _around_call(behind, 0, tagged)[0]
        after_content = joined if joined.strip() == begin.strip() else None
    return CallForm(begin, named, end, between, after_content, tagged)


def _around_call(text: str, which: int, tagged: TaggedArguments | None) -> tuple[str, str, str]:
    """What stands before the name of a call, between it and its arguments, and behind them."""
    begin, found, rest = text.partition(_NAMES[which])
    as_json = (json.dumps(_ARGUMENTS[which], ensure_ascii=False), json.dumps(_ARGUMENTS[which]))
    for written in as_json if tagged is None else (tagged.written(_ARGUMENTS[which]),):
        named, arguments, end = rest.partition(written)
        if found and arguments and _NAMES[which] not in named:
            return begin, named, end
    raise _UnreadableError("writes calls in another way than this server reads: neither their arguments as JSON, nor "
                           "one by one between marks")  # fmt: skip


def _tagged(template: ChatTemplate, call: str) -> TaggedArguments | None:
    """The marks around arguments that stand one by one; None where they do not."""
    (first, text), (second, held) = _ARGUMENTS[0].items()
    before, found, rest = call.partition(first)
    named, said, rest = rest.partition(text)
    between, again, rest = rest.partition(second)
    named_again, value, behind = rest.partition(json.dumps(held))
    if not (found and said and again and value and named and named == named_again):
        return None
    end = _whole_marks(between, behind)
    begin = between[len(end) :]
    if not (end.strip() and begin.strip() and before.endswith(begin)) or behind[len(end) :].startswith(begin):
        return None
    tagged = TaggedArguments(begin, named, end)
    literals = _tried(template, _turn("") | {"tool_calls": [_call(_NAMES[0], _LITERALS)]})
    python = replace(tagged, literals=("True", "False", "None"))
    return python if python.written(_LITERALS) in literals else tagged


def _whole_marks(first: str, second: str) -> str:
    """What both texts begin with, without the piece of a mark at its end."""
    pairs = enumerate(zip(first, second, strict=False))
    same = first[: next((place for place, (a, b) in pairs if a != b), min(len(first), len(second)))]
    return same[: max(map(same.rfind, ">\n")) + 1]


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
        turn["tool_calls"] = [_call(*called) for called in zip(_NAMES[:n_calls], _ARGUMENTS, strict=False)]
    if thought:
        turn["reasoning_content"] = thought
    return turn


def _call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


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
