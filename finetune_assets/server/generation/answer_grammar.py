"""Which texts an answer may be, in the language of llguidance: thoughts, then something said or functions called.

What is free is any text. As soon as the mark of a call stands in it, it is one, and goes on as a call must.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from finetune_assets.server.generation.tagged_arguments import argument, is_text, options, values
from finetune_assets.server.model.answer_form import AnswerForm, CallForm, Marks, TaggedArguments
from finetune_assets.server.model.control_tokens import Signs

LAYOUT: Any = {"whitespace_flexible": True, "whitespace_pattern": r" |\n {0,32}"}
"""Between the parts of JSON one space, or a line break with its indentation, is allowed: small models would otherwise
go on with blanks for ever, while models that were taught a layout keep theirs."""
_ANY = r"/(.|\n)*/"


@dataclass(frozen=True, slots=True)
class Function:
    """A function that may be called."""

    name: str
    schema: dict[str, Any]
    """Of its arguments."""
    strict: bool = False
    """Whether a schema that cannot be kept to is an error, and not only ignored."""


@dataclass(frozen=True, slots=True)
class Calling:
    """Which functions may be called."""

    functions: tuple[Function, ...] = ()
    must: bool = False
    """Whether the answer is calls and nothing else."""
    several: bool = True
    """Whether there may be several calls in an answer."""


def answer_grammar(
    form: AnswerForm, signs: Signs, calling: Calling, schema: dict[str, Any] | None, *, thinking: bool
) -> str:
    """Write the grammar.

    Args:
        form: how the model writes.
        signs: of the form's control tokens.
        calling: which functions may be called.
        schema: of what is said; None: any text.
        thinking: whether the model was asked to think first.
    """
    writer = _Writer(form, signs)
    answers = [] if calling.must else writer.said(schema, calling)
    if form.calls is not None and calling.functions:
        answers += writer.called(form.calls, calling, says=not calling.must and schema is None)
    thoughts = writer.thoughts(form.thought) if thinking and form.thought is not None else ""
    start = f"start: {thoughts} BLANKS ({' | '.join(answers)})"
    return "\n".join(["%llguidance {}", start, *writer.rules, r"BLANKS: /[ \n\r\t]{0,8}/", f"TEXT: {_ANY}"])


def json_grammar(schema: dict[str, Any]) -> str:
    """JSON that fits a schema, in one of the usual layouts."""
    return f"%json {json.dumps({'x-guidance': LAYOUT} | schema)}"


class _Writer:
    """Collects the rules of one grammar."""

    def __init__(self, form: AnswerForm, signs: Signs) -> None:
        self._form = form
        self._signs = signs
        self.rules: list[str] = []

    def thoughts(self, thought: Marks) -> str:
        """One thought, which may be left out where the prompt does not begin it."""
        self.rules.append(f"thought: {self._after_text('thought_text', thought.end)}")
        if not thought.begin:
            return "thought"
        self.rules.append(f"thoughtful: {self._lazily('thinking', thought.begin)} thought")
        return "thoughtful?"

    def said(self, schema: dict[str, Any] | None, calling: Calling) -> list[str]:
        """What is said, without a call."""
        text = "TEXT" if calling.functions or self._form.calls is None else self._text_without(self._form.calls)
        text = text if schema is None else json_grammar(schema)
        return [f"{self._mark(self._form.content.strip())} {text}"]

    def called(self, form: CallForm, calling: Calling, *, says: bool) -> list[str]:
        """Calls; where `says`, with something said before them if the template writes that."""
        calls = [
            f"{json.dumps(function.name)} {self._mark(form.named)} {self._arguments(function.schema, form.tagged)}"
            for function in calling.functions
        ]
        self.rules.append(f"call: {' | '.join(calls)}")
        more = f"({self._mark(form.between)} call)*" if form.between is not None and calling.several else ""
        self.rules.append(f"calls: call {more} {self._mark(form.end)}")
        begin = form.begin.lstrip()
        if not says or form.after_content is None:
            # Lazily, as what is said might begin so too.
            return [f"{self._lazily('calling', begin)} calls"]
        trigger = _trigger(begin, self._signs)
        return [f"{self._after_text('calling', trigger)} {self._mark(begin[len(trigger) :])} calls"]

    def _arguments(self, schema: dict[str, Any], tagged: TaggedArguments | None) -> str:
        """What stands between a function's name and the end of its call."""
        if tagged is None:
            return json_grammar(schema)
        named, must = list(schema.get("properties", {})), schema.get("required", ())
        parts = [
            self._argument(json.dumps(name), argument(schema, name), tagged) + ("" if name in must else "?")
            for name in named
        ]
        if schema.get("additionalProperties", True) is not False:
            key = self._new("KEY")
            others = f" & ~/({'|'.join(map(_escaped, named))})/" if named else ""
            self.rules.append(rf"{key}: /[\w.-]+/{others}")
            parts.append(self._argument(key, argument(schema, ""), tagged) + "*")
        return " ".join(parts)

    def _argument(self, key: str, schema: dict[str, Any], tagged: TaggedArguments) -> str:
        """An argument between its marks."""
        rule, found = self._new("argument"), options(schema)
        if any(map(is_text, found)):
            written = self._after_text(f"{rule}_text", tagged.end)
        else:
            written = f"({' | '.join(_plain(option, tagged) for option in found)}) {self._mark(tagged.end)}"
        self.rules.append(f"{rule}: {self._mark(tagged.begin)} {key} {self._mark(tagged.named)} {written}")
        return rule

    def _new(self, name: str) -> str:
        return f"{name}_{len(self.rules)}"

    def _text_without(self, calls: CallForm) -> str:
        trigger = _trigger(calls.begin.lstrip(), self._signs)
        if self._signs.parts(trigger) != [trigger]:
            return "TEXT"
        self.rules.append(rf"OTHER: {_ANY} & ~/(.|\n)*{_escaped(trigger)}(.|\n)*/")
        return "OTHER"

    def _after_text(self, rule: str, mark: str) -> str:
        """Any text up to a mark, and the mark."""
        first, *rest = self._signs.parts(mark)
        if isinstance(first, int):
            return f"TEXT {self._mark(mark)}"
        self.rules.append(f"{rule}[lazy]: TEXT {json.dumps(first)}")
        return " ".join([rule, *map(self._part, rest)])

    def _lazily(self, rule: str, mark: str) -> str:
        """A mark that is none of the text which may stand in its place."""
        first, *rest = self._signs.parts(mark)
        if isinstance(first, int):
            return self._mark(mark)
        self.rules.append(f"{rule}[lazy]: {json.dumps(first)}")
        return " ".join([rule, *map(self._part, rest)])

    def _mark(self, mark: str) -> str:
        return " ".join(map(self._part, self._signs.parts(mark)))

    @staticmethod
    def _part(part: str | int) -> str:
        return f"<[{part}]>" if isinstance(part, int) else json.dumps(part)


def _plain(option: dict[str, Any], tagged: TaggedArguments) -> str:
    """A value that is not any text."""
    found = values(option)
    return json_grammar(option) if found is None else " | ".join(json.dumps(tagged.value(value)) for value in found)


def _trigger(mark: str, signs: Signs) -> str:
    """How much of a mark tells that it is one: its first control token, or its first word."""
    first = signs.parts(mark)[0]
    if isinstance(first, int):
        return next(mark[:n] for n in range(1, len(mark) + 1) if signs.parts(mark[:n]) == [first])
    return first.split(maxsplit=1)[0]


def _escaped(text: str) -> str:
    return re.escape(text).replace("/", r"\/")
