"""Texts with `{{item.label}}` and `{{sample.output_text}}` in them: what graders are given of an example and answer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import orjson

from finetune_assets.errors import GraderError

Flag = Literal["invalid_variable_error", "sample_parse_error"]
_OPEN, _CLOSE = "{{", "}}"
_STEP = re.compile(r"""\.\s*([^\s.\[\]'"]+)\s*|\[\s*(?:(\d{1,9})|"([^"]*)"|'([^']*)')\s*\]\s*""")
_SAMPLE = ("output_text", "output_json")
_UNKNOWN = ("output_tools", "output_audio", "choices")


class UnfilledError(ValueError):
    """A template asks for something that this example or answer does not have; `flag` is the protocol's word for it."""

    def __init__(self, message: str, flag: Flag) -> None:
        super().__init__(message)
        self.flag: Flag = flag


@dataclass(frozen=True)
class Values:
    """What templates are filled with."""

    item: Mapping[str, Any]
    """The example's own fields."""
    text: str
    """What the model said."""

    @cached_property
    def json(self) -> Any:
        """What the model said, read as JSON.

        Raises:
            UnfilledError: it is none.
        """
        try:
            return orjson.loads(self.text)
        except orjson.JSONDecodeError:
            raise UnfilledError("the answer is no JSON", "sample_parse_error") from None


@dataclass(frozen=True)
class Name:
    """`item.a[0].b` or `sample.output_text`: a namespace, and the way from there."""

    written: str
    space: Literal["item", "sample"]
    path: tuple[str | int, ...]

    def value(self, values: Values) -> Any:
        """Look it up.

        Raises:
            UnfilledError: there is nothing.
        """
        path, found = self.path, values.item
        if self.space == "sample":
            path, found = path[1:], values.text if path[0] == "output_text" else values.json
        for step in path:
            found = self._inside(found, step)
        return found

    def _inside(self, found: Any, step: str | int) -> Any:
        entries = enumerate(found) if isinstance(found, list) else found if isinstance(found, Mapping) else ()
        known: dict[Any, Any] = dict(entries)
        if step not in known:
            raise UnfilledError(f"there is no {self.written}", "invalid_variable_error")
        return known[step]


class Template:
    """A text in which names are filled in.

    Raises:
        GraderError: between two braces is something else than a name, or one that no grader is given.
    """

    def __init__(self, text: str) -> None:
        self._parts: list[str | Name] = []
        place = 0
        while (begin := text.find(_OPEN, place)) >= 0:
            end = text.find(_CLOSE, begin)
            if end < 0:
                raise GraderError(f"{text[begin : begin + 60]!r} is opened by '{{{{' and never closed by '}}}}'")
            self._parts += [text[place:begin], _name(text[begin + len(_OPEN) : end].strip())]
            place = end + len(_CLOSE)
        self._parts.append(text[place:])

    @property
    def names(self) -> list[Name]:
        """Those that are filled in."""
        return [part for part in self._parts if isinstance(part, Name)]

    def fill(self, values: Values) -> str:
        """Put values in place of their names: texts as they are, everything else as JSON.

        Raises:
            UnfilledError: a name has none.
        """
        return "".join(part if isinstance(part, str) else _written(part.value(values)) for part in self._parts)


def _name(written: str) -> Name:
    space = re.match(r"item|sample", written)
    steps: list[str | int] = []
    place = space.end() if space else 0
    while space and (step := _STEP.match(written, place)):
        plain, number, *quoted = step.groups()
        steps.append(int(number) if number is not None else next(s for s in (plain, *quoted) if s is not None))
        place = step.end()
    if not space or not steps or place < len(written):
        told = "is no name such as {{item.label}}, {{item.labels[0]}} or {{sample.output_text}}"
        raise GraderError(f"{{{{{written[:60]}}}}} {told}")
    if space[0] == "sample":
        _check_sample(written, steps)
    return Name(written, "item" if space[0] == "item" else "sample", tuple(steps))


def _check_sample(written: str, steps: Sequence[str | int]) -> None:
    if steps[0] not in _SAMPLE or (steps[0] == "output_text" and len(steps) > 1):
        known = "sample.output_text, sample.output_json and what is in it"
        lacks = "this server gives graders no" if steps[0] in _UNKNOWN else "there is no"
        raise GraderError(f"{{{{{written[:60]}}}}}: {lacks} sample.{str(steps[0])[:40]}, only {known}")


def _written(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()
