"""Which part of what a model wrote is its answer, and that part in one spelling whose places are still known."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

_REASONING = "think|thinking|thought|thoughts|reasoning|reason|analysis|scratchpad|reflection"
_OPENED = re.compile(rf"\s*(?:<(?:{_REASONING})>|\[think\]|◁think▷)", re.IGNORECASE)
_CLOSED = re.compile(rf"(?:</(?:{_REASONING})>|\[/think\]|◁/think▷)", re.IGNORECASE)
_FINAL_CHANNEL = re.compile(r"<\|channel\|>\s*final[^<]*<\|message\|>")
_SPECIAL_TOKEN = re.compile(r"<\|[\w ]{1,40}\|>|</s>|<(?:eos|end_of_turn)>")
_FENCED = re.compile(r"\s*```\w*\s*\n?(.*?)\s*```\s*", re.DOTALL)
_ANSWER_KEYS = re.compile(
    r"\s*(?:final[_ ]?)?(?:answer|label|result|predict(?:ion|ed)|class|category|choice|option|value|response|verdict"
    r"|classification|diagnosis|output|antwort|r[eé]ponse|respuesta|答案)\s*",
    re.IGNORECASE,
)
_LONGEST_JSON = 100_000


class Span(NamedTuple):
    """A part of a text, from `start` up to but not including `end`."""

    start: int
    end: int

    def within(self, text: str) -> str:
        """Return the part itself."""
        return text[self.start : self.end]


def after_reasoning(text: str) -> Span | None:
    """Find what follows a model's reasoning (`<think>…</think>`, the channels before `final`), or all of a text.

    None where the reasoning never ended, so that there is no answer yet.
    """
    if "<|channel|>" in text:
        finals = list(_FINAL_CHANNEL.finditer(text))
        if not finals:
            return None
        start = finals[-1].end()
    else:
        closings = list(_CLOSED.finditer(text))
        start = closings[-1].end() if closings else 0
        if _OPENED.match(text, start) is not None:
            return None
    special = _SPECIAL_TOKEN.search(text, start)
    return Span(start, special.start() if special else len(text))


def json_value(text: str) -> Span | bool | None:
    """Find the answer in a text that is a JSON object: the one under a key such as `answer`, or its only value.

    False where the text is no object, None where it is one without an answer that is a text or a number.
    """
    fenced = _FENCED.fullmatch(text)
    start, end = fenced.span(1) if fenced else (0, len(text))
    inner = text[start:end]
    if not inner.lstrip().startswith("{") or len(inner) > _LONGEST_JSON:
        return False
    try:
        found = json.loads(inner)
    except (ValueError, RecursionError):
        return False
    if not isinstance(found, dict):
        return False
    keys = [key for key in found if _ANSWER_KEYS.fullmatch(key)] or (list(found) if len(found) == 1 else [])
    value = found[keys[0]] if len(keys) == 1 else None
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        return None
    written = rf'"{re.escape(keys[0])}"\s*:\s*("?)([^"\\\n]*?)\1\s*(?=[,}}])'
    places = list(re.finditer(written, inner))
    if len(places) != 1 or places[0][2] != (value if isinstance(value, str) else places[0][2]):
        return None
    return Span(start + places[0].start(2), start + places[0].end(2))


@dataclass(frozen=True, slots=True)
class Folded:
    """A text in which case and compatible spellings (full-width letters, combining accents) no longer matter."""

    text: str
    places: Sequence[int] | None
    """Where each character began in the original, and one more for its end; None where the places are the same."""

    @classmethod
    def of(cls, original: str) -> Folded:
        """Fold a text, character by character with the marks that combine with it."""
        if original.isascii():
            return cls(original.lower(), None)
        folded: list[str] = []
        places: list[int] = []
        start = 0
        for end in range(1, len(original) + 1):
            if end < len(original) and unicodedata.combining(original[end]):
                continue
            part = unicodedata.normalize("NFKC", original[start:end]).casefold()
            folded.append(part)
            places += [start] * len(part)
            start = end
        return cls("".join(folded), [*places, len(original)])

    def span(self, start: int, end: int) -> Span:
        """Return the place in the original of a part of the folded text that is not empty."""
        if self.places is None:
            return Span(start, end)
        last = self.places[end - 1]
        return Span(self.places[start], next((place for place in self.places[end:] if place > last), self.places[-1]))


def normal(text: str) -> str:
    """Return a text as `Folded` spells it."""
    return Folded.of(text).text
