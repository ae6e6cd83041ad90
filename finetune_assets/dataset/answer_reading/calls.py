"""Calls of functions: one form for what an expert labelled and what a model called, as JSON of name and arguments."""

from __future__ import annotations

import json
import math
from typing import Any

from finetune_assets.dataset.schema_rules import missing_properties, wrong_value
from finetune_assets.task.answers import CallAnswer

_KEYS = frozenset(("name", "arguments", "id", "call_id", "type", "status", "index"))
"""Of a call, as chats and exports write it; under another key its arguments would be passed over."""


def read_call(found: object, answer: CallAnswer) -> str | None:
    """Return a call as JSON, its arguments in the order of the function's schema; None where it is not exactly one.

    What would lose a part of it is none: a key that stands twice, or one that a call does not have (`parameters`).

    Args:
        found: An object with `name` and `arguments` (an object, or JSON of one), the same under `function`, a list of
            one such, or JSON of any of these.
        answer: The task's functions. One that is none of them is read all the same.
    """
    call = _call(_json(found))
    if call is None:
        return None
    name, arguments = call
    ordered = {key: arguments[key] for key in [*_properties(name, answer), *sorted(arguments)] if key in arguments}
    return json.dumps({"name": name, "arguments": ordered}, ensure_ascii=False)


def same_call(found: str) -> str | None:
    """Return one text for all spellings of a call, whatever the functions; None where it is none."""
    call = _call(_json(found))
    return None if call is None else json.dumps(call, sort_keys=True, ensure_ascii=False)


def parts_of(call: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of what `read_call` returned."""
    read = json.loads(call)
    return read["name"], read["arguments"]


def why_no_call(found: object, answer: CallAnswer) -> str | None:
    """Say why what was found cannot be a label; None where it can."""
    call = read_call(found, answer)
    if call is None:
        return 'it is no single call, such as {"name": "...", "arguments": {...}}'
    name, arguments = parts_of(call)
    parameters = next((tool.parameters for tool in answer.tools if tool.name == name), None)
    if parameters is None:
        return f"it calls {name!r}, which is none of {', '.join(tool.name for tool in answer.tools)}"
    if missing := missing_properties(arguments, parameters):
        return f"it calls {name!r} without {', '.join(missing)}"
    told = wrong_value(arguments, parameters)
    return None if told is None else f"it calls {name!r} with an argument that its parameters do not allow: {told}"


def _json(found: object) -> object:
    if not isinstance(found, str):
        return found
    try:
        return json.loads(found, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_each_once)
    except (ValueError, RecursionError):
        return None


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _finite(digits: str) -> float:
    if not math.isfinite(number := float(digits)):
        raise ValueError(f"{digits} is more than a number can be")
    return number


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice, and only one of its values would count")
    return found


def _call(found: object) -> tuple[str, dict[str, Any]] | None:
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if isinstance(found, dict) and isinstance(found.get("function"), dict):
        found = found["function"]
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    if found.keys() - _KEYS:
        return None
    arguments = _json(found.get("arguments", {}))
    return (found["name"], arguments) if isinstance(arguments, dict) else None


def _properties(name: str, answer: CallAnswer) -> list[str]:
    return next((list(tool.parameters.get("properties", {})) for tool in answer.tools if tool.name == name), [])
