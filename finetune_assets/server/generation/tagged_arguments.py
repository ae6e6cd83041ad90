"""Arguments that a model writes one by one between marks, and not as one JSON object: Qwen3.5, GLM-4.5, Nemotron 3.

A text stands there as it is and everything else as JSON, so `7` is a number or a text. The schema of the function tells
which; where it allows both, what can be read as something else is no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_assets.server.model.answer_form import TaggedArguments

Schema = Mapping[str, Any]
_KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null",
                           list: "array", dict: "object"}  # fmt: skip
_FINITE: dict[Any, list[Any]] = {"null": [None], "boolean": [True, False]}
_LIMITS = {"pattern", "format", "minLength", "maxLength", "not", "allOf", "if"}
"""Keywords to which a text between marks is not held."""
_DEFINITIONS = ("$defs", "definitions")


def argument(function: Schema, name: str) -> dict[str, Any]:
    """The schema of one of a function's arguments, with the definitions that it may refer to."""
    found = function.get("properties", {}).get(name, function.get("additionalProperties"))
    return _defined(function) | found if isinstance(found, dict) else {}


def options(schema: Schema) -> list[dict[str, Any]]:
    """A schema as simple ones of which one must fit: none of them refers to another or lists several types."""
    rest = {word: told for word, told in schema.items() if word not in ("$ref", "anyOf", "oneOf")}
    if "$ref" in schema:
        return options(rest | dict(_referred(schema)))
    for word in ("anyOf", "oneOf"):
        if word in schema:
            return [simple for option in schema[word] for simple in options(rest | option)]
    types = schema.get("type")
    return [dict(rest, type=kind) for kind in types] if isinstance(types, list) else [rest]


def values(option: Schema) -> list[Any] | None:
    """All values that a simple schema allows; None where they are no short list."""
    return [option["const"]] if "const" in option else option.get("enum", _FINITE.get(option.get("type")))


def is_text(option: Schema) -> bool:
    """Whether a simple schema allows any text."""
    return values(option) is None and option.get("type", "string") == "string"


def value(written: str, schema: Schema, tagged: TaggedArguments) -> Any:
    """What was meant by what stands between the marks."""
    read = tagged.read(written)
    allowed = set().union(*map(_kinds, options(schema)))
    fits = _KINDS[type(read)] in allowed or (type(read) is int and "number" in allowed)
    return read if fits or "string" not in allowed else written


def unkept(function: Schema) -> str | None:
    """What of a function's schema cannot be enforced between marks; None where all can."""
    for name in function.get("properties", {}):
        found = options(argument(function, name))
        for text in filter(is_text, found):
            if limits := sorted(_LIMITS & text.keys()):
                return f"the model writes {name!r} without quotes, where {limits[0]!r} cannot be enforced"
            if any(other.get("type") not in ("string", *_FINITE) for other in found):
                return f"the model writes {name!r} without quotes, where a text cannot be told from other values"
    return None


def _kinds(option: Schema) -> set[str]:
    if "type" in option:
        return {option["type"]}
    found = values(option)
    return set(_KINDS.values()) if found is None else {_KINDS[type(value)] for value in found}


def _referred(schema: Schema) -> Schema:
    found: Any = schema
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _defined(schema: Schema) -> dict[str, Any]:
    return {word: schema[word] for word in _DEFINITIONS if word in schema}
