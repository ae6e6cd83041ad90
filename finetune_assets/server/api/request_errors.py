"""Says what is wrong with a request in OpenAI's words: pydantic's findings become message, param and code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TYPES = {
    "string_type": "a string",
    "int_type": "an integer",
    "int_parsing": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_BOUNDS = {
    "greater_than_equal": ("ge", ">=", "below minimum", "below_min_value"),
    "greater_than": ("gt", ">", "below minimum", "below_min_value"),
    "less_than_equal": ("le", "<=", "above maximum", "above_max_value"),
    "less_than": ("lt", "<", "above maximum", "above_max_value"),
}
_TAGS = ("union_tag_invalid", "union_tag_not_found")
_MISSING = ("missing", "union_tag_not_found")
_CHOICES = ("literal_error", "union_tag_invalid")
_MINIMUM_LENGTHS = ("string_too_short", "too_short")
_MAXIMUM_LENGTHS = ("string_too_long", "too_long")
_SHOWN = 100
_LOOKED_AT = 200
"""Findings among which one is chosen: a body with as many is no near miss."""
_KINDS = {str: "string", list: "array", dict: "object", bool: "boolean", int: "integer", float: "decimal"}


@dataclass(frozen=True, slots=True)
class Problem:
    """What the error envelope says of a request that breaks its schema."""

    message: str
    param: str | None
    code: str | None


def explain(errors: Sequence[Mapping[str, Any]], body: Any) -> Problem:
    """Choose the finding that helps most, and word it.

    Where a value may be of several types, pydantic reports each type that did not fit. The finding that got deepest
    into the body is about the type that was meant; on one level, a broken bound says most and a wrong word least.
    """
    found = [(_param(error, body), error) for error in errors[:_LOOKED_AT]]
    param, error = max(found, key=lambda item: (_depth(item[0]), _telling(item[1])))
    if param and error["type"] in _TYPES:
        expected = dict.fromkeys(_TYPES[e["type"]] for p, e in found if p == param and e["type"] in _TYPES)
        return _wrong_type(param, " or ".join(expected), error["input"])
    return _word(param, error)


def _param(error: Mapping[str, Any], body: Any) -> str:
    """Write the place of an error like `messages[0].content`, without pydantic's names for the types it tried."""
    place, *steps = error["loc"]
    if place != "body":
        return str(steps[0])
    if steps[-1:] == ["[key]"]:
        steps = steps[:-2]  # a key that breaks the rules may be of any length
    if error["type"] in _TAGS:
        steps.append(error["ctx"]["discriminator"].strip("'()_"))  # 'type', or the function `type_()` that finds it
    param = ""
    for number, step in enumerate(steps, start=1):
        if isinstance(body, list) and isinstance(step, int):
            param += f"[{step}]"
            body = body[step]
        elif isinstance(body, Mapping) and (step in body or (error["type"] in _MISSING and number == len(steps))):
            param += f".{str(step)[:_SHOWN]}" if param else str(step)[:_SHOWN]
            body = body.get(step)
    return param


def _depth(param: str) -> int:
    return param.count(".") + param.count("[") + bool(param)


def _telling(error: Mapping[str, Any]) -> int:
    if error["type"] == "literal_error":
        # The wrong kind of object explains whatever else is wrong with it.
        return 3 if error["loc"][-1] == "type" else 0
    return 1 if error["type"] in _TYPES else 2


def _word(param: str, error: Mapping[str, Any]) -> Problem:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "json_invalid":
        return Problem("We could not parse the JSON body of your request.", None, None)
    if not param:
        return Problem("The body of the request must be a JSON object.", None, None)
    if kind in _MISSING:
        return Problem(f"Missing required parameter: '{param}'.", param, "missing_required_parameter")
    if kind == "extra_forbidden":
        return Problem(f"Unknown parameter: '{param}'.", param, "unknown_parameter")
    if kind in _CHOICES:
        value, supported = _choice(error)
        message = f"Invalid value: {_shortened(value)}. Supported values are: {supported}."
        return Problem(message, param, "invalid_value")
    if kind == "string_pattern_mismatch":
        expected = f"Expected a string that matches the pattern '{context['pattern']}'."
        return Problem(f"Invalid '{param}': string does not match pattern. {expected}", param, "invalid_value")
    if kind in _BOUNDS:
        return _out_of_bounds(param, error)
    if kind in _MINIMUM_LENGTHS or kind in _MAXIMUM_LENGTHS:
        return _wrong_length(param, error)
    return Problem(f"Invalid '{param}': {error['msg']}.", param, "invalid_value")


def _choice(error: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the value that was found, and those that are supported."""
    if error["type"] == "literal_error":
        return error["input"], error["ctx"]["expected"]
    *first, last = error["ctx"]["expected_tags"].split(", ")
    return error["ctx"]["tag"], f"{', '.join(first)} or {last}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _wrong_type(param: str, expected: str, value: Any) -> Problem:
    kind = _KINDS.get(type(value), "null" if value is None else "value of another type")
    article = "" if value is None else "an " if kind[0] in "aio" else "a "
    message = f"Invalid type for '{param}': expected {expected}, but got {article}{kind} instead."
    return Problem(message, param, "invalid_type")


def _out_of_bounds(param: str, error: Mapping[str, Any]) -> Problem:
    key, sign, side, code = _BOUNDS[error["type"]]
    bound = error["ctx"][key]
    kind = _KINDS[type(bound)]
    wanted = f"Expected a value {sign} {_number(bound)}, but got {_number(error['input'])} instead."
    return Problem(f"Invalid '{param}': {kind} {side} value. {wanted}", param, f"{kind}_{code}")


def _number(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)[:_SHOWN]


def _wrong_length(param: str, error: Mapping[str, Any]) -> Problem:
    value = error["input"]
    kind = _KINDS[type(value)]
    size = "number of properties" if kind == "object" else "length"
    article = "an" if kind[0] in "ao" else "a"
    got = f"{article} {kind} with {size} {len(value)}" if value else f"an empty {kind}"
    if error["type"] in _MAXIMUM_LENGTHS:
        limit, side, code = f"maximum {size} {error['ctx']['max_length']}", f"{kind} too long", "above_max_length"
    else:
        limit, side, code = f"minimum {size} {error['ctx']['min_length']}", f"{kind} too short", "below_min_length"
    code = f"{kind}_{code}".replace("object_above_max_length", "object_above_max_properties")
    if not value:
        side, code = f"empty {kind}", f"empty_{kind}"
    return Problem(
        f"Invalid '{param}': {side}. Expected {article} {kind} with {limit}, but got {got} instead.", param, code
    )
