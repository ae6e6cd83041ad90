"""Reads an answer as its text comes: what is thought, what is said, and which functions are called with what.

Between the marks of the model's form (see `answer_form`) blanks mean nothing: models are free with them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from finetune_assets.server.generation.tagged_arguments import Schema, argument, value
from finetune_assets.server.model.answer_form import AnswerForm, CallForm, TaggedArguments
from finetune_assets.server.model.control_tokens import SIGNS

_NO_SIGNS = dict.fromkeys(SIGNS)
_NO_FUNCTIONS: Mapping[str, Schema] = MappingProxyType({})
Kind = Literal["mark", "thought", "content", "name", "arguments"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of an answer that nothing can change any more."""

    kind: Kind
    """`name` begins a call, of which `arguments` follow in pieces; `mark` is no part of the answer."""
    text: str


class AnswerReader:
    """Reads one answer.

    Args:
        form: how the model writes; its control tokens as they stand in the text (see `control_tokens.Signs`).
        calling: whether functions may be called.
        thinking: whether the model was asked to think first.
        functions: schemas of the arguments of those that are known, by name.
    """

    def __init__(
        self, form: AnswerForm, *, calling: bool, thinking: bool, functions: Mapping[str, Schema] = _NO_FUNCTIONS
    ) -> None:
        thought = form.thought if thinking else None
        self._thought_end = thought.end if thought else ""
        """Empty: there is no thought, or none any more."""
        self._thought_begin = thought.begin if thought else ""
        self._content_mark = form.content.strip()
        self._calling = calling and form.calls is not None
        self._calls = form.calls or CallForm("", "", "", None, None)
        self._held = ""
        self._begun = False
        self._scan = _JsonScan()
        self._functions = functions
        self._called: Schema = {}
        self._argued = False
        self._read: Callable[[], Iterator[Piece]] = self._open
        if self._thought_end and not self._thought_begin:
            self._read = self._think

    @property
    def says(self) -> bool:
        """Whether what comes next may be said, as far as is known."""
        return self._read in (self._open, self._say)

    @property
    def thinks(self) -> bool:
        """Whether what comes next is thought."""
        return self._read == self._think

    @property
    def n_held(self) -> int:
        """Characters that may still turn out to be a mark."""
        return len(self._held)

    def feed(self, text: str) -> Iterator[Piece]:
        """Read on."""
        self._held += text
        while True:
            before = self._read, len(self._held)
            for piece in self._read():
                # A control token in the wrong place is none of what was said.
                yield Piece(piece.kind, piece.text.translate(_NO_SIGNS))
            if before == (self._read, len(self._held)) or not self._held:
                return

    def end(self) -> Iterator[Piece]:
        """Read what was held back, when nothing more comes."""
        if self.says and self._held.strip():
            yield Piece("content", self._held if self._read == self._say else self._held.lstrip())
        elif self.thinks and self._held.strip():
            yield Piece("thought", self._held.rstrip() if self._begun else self._held.strip())
        elif self._read == self._argue_in_tags and not self._calls.end.strip() and not self._held.strip():
            yield Piece("arguments", self._closing())
        self._held = ""

    def _open(self) -> Iterator[Piece]:
        """Before anything of the answer: one of the marks, or what is said without one."""
        text = self._held.lstrip()
        nexts: dict[str, Callable[[], Iterator[Piece]]] = {}
        if self._thought_end:
            nexts[self._thought_begin] = self._think
        if self._calling:
            nexts[self._calls.begin.lstrip()] = self._name
        if self._content_mark:
            nexts[self._content_mark] = self._say
        for mark, read in nexts.items():
            if text.startswith(mark):
                self._held, self._read = text[len(mark) :], read
                yield Piece("mark", mark)
                return
        if text and not any(mark.startswith(text) for mark in nexts):
            self._held, self._read = text, self._say
            yield Piece("mark", "")

    def _think(self) -> Iterator[Piece]:
        text, found, rest = self._held.partition(self._thought_end)
        if found:
            self._held, self._read, self._thought_end = rest, self._open, ""
        else:
            certain = _before_blanks(text[: len(text) - _partial(text, self._thought_end)])
            text, self._held = text[:certain], text[certain:]
        text = text if self._begun else text.lstrip()
        if text := text.rstrip() if found else text:
            self._begun = True
            yield Piece("thought", text)
        if found:
            yield Piece("mark", found)

    def _say(self) -> Iterator[Piece]:
        mark = self._calls.begin.lstrip() if self._calling and self._calls.after_content else ""
        if not mark:
            text, self._held = self._held, ""
        else:
            text, found, rest = self._held.partition(mark)
            if found:
                if text := text.rstrip():
                    yield Piece("content", text)
                self._held, self._read = rest, self._name
                yield Piece("mark", mark)
                return
            certain = _before_blanks(text[: len(text) - _partial(text, mark)])
            text, self._held = text[:certain], text[certain:]
        if text:
            yield Piece("content", text)

    def _name(self) -> Iterator[Piece]:
        name, found, rest = self._held.partition(self._calls.named)
        if found:
            self._held, self._scan, self._called = rest, _JsonScan(), self._functions.get(name, {})
            self._read, self._argued = self._argue if self._calls.tagged is None else self._argue_in_tags, False
            yield Piece("name", name)

    def _argue_in_tags(self) -> Iterator[Piece]:
        """The next of arguments that stand one by one, or what comes after the last one."""
        tagged = self._calls.tagged or TaggedArguments("", "", "")
        text, begin = self._held.lstrip(), tagged.begin.lstrip()
        if text.startswith(begin):
            name, named, rest = text[len(begin) :].partition(tagged.named)
            written, ended, rest = rest.partition(tagged.end)
            if named and ended:
                self._held = rest
                held = json.dumps(value(written, argument(self._called, name), tagged), ensure_ascii=False)
                opening, self._argued = ", " if self._argued else "{", True
                yield Piece("arguments", f"{opening}{json.dumps(name, ensure_ascii=False)}: {held}")
        elif text and not begin.startswith(text):
            self._read = self._go_on
            yield Piece("arguments", self._closing())

    def _closing(self) -> str:
        return "}" if self._argued else "{}"

    def _argue(self) -> Iterator[Piece]:
        end = self._scan.end(self._held)
        text, self._held = self._held[:end], self._held[end:]
        if self._scan.over:
            self._read = self._go_on
        if text:
            yield Piece("arguments", text)

    def _go_on(self) -> Iterator[Piece]:
        """After a call: another one, or what ends the answer."""
        between = self._calls.between
        held = self._held if self._calls.tagged is None else self._held.lstrip()
        between = between if between is None or self._calls.tagged is None else between.lstrip()
        if between is not None and held.startswith(between):
            self._held, self._read = held[len(between) :], self._name
        yield from ()


class _JsonScan:
    """Finds where a JSON object ends."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = self._escaped = False
        self.over = False

    def end(self, text: str) -> int:
        """Where the object ends that began in earlier texts or begins here; the text's length, if it does not yet."""
        for place, character in enumerate(text, 1):
            if self._quoted:
                self._quoted = self._escaped or character != '"'
                self._escaped = character == "\\" and not self._escaped
            elif character == '"':
                self._quoted = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth <= 0:
                    self.over = True
                    return place
        return len(text)


def _partial(text: str, mark: str) -> int:
    """How many of the last characters may begin the mark."""
    return next((n for n in range(min(len(text), len(mark) - 1), 0, -1) if mark.startswith(text[-n:])), 0)


def _before_blanks(text: str) -> int:
    return len(text.rstrip())
