"""JSON schema as far as providers look at it: whether a function's parameters are one, and whether a call keeps to it.

Only what functions are declared with is known (types, properties, required, enum, items, bounds); other keywords,
references among them, forbid nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from finetune_assets.dataset.json_lines import kind

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "null": (type(None),),
}
_MANY = ("anyOf", "oneOf", "allOf")
_BOUNDS = ("minimum", "maximum")


def _is_type(value: Any) -> bool:
    types = value if type(value) is list else [value]
    return bool(types) and all(type(one) is str and one in _TYPES for one in types)


def _is_names(value: Any) -> bool:
    return type(value) is list and all(type(name) is str for name in value) and len(set(value)) == len(value)


def _is_filled_list(value: Any) -> bool:
    return type(value) is list and bool(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


_KEYWORDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"one of {', '.join(_TYPES)}"),
    "properties": (lambda value: type(value) is dict, "an object"),
    "required": (_is_names, "a list of different names"),
    "enum": (_is_filled_list, "a list of values"),
    **dict.fromkeys(_BOUNDS, (_is_number, "a number")),
    **dict.fromkeys(_MANY, (_is_filled_list, "a list of schemas")),
}
"""What a keyword's value must be, and how that is told."""


def wrong_schema(schema: dict[str, Any]) -> str | None:
    """Say where a schema breaks its own rules, and how; None where it keeps them."""
    if (told := _wrong_keywords(schema)) is not None:
        return told
    for where, value in _inner(schema):
        if type(value) not in (dict, bool):
            return f"{where} must be a JSON schema, found {kind(value)}"
        if type(value) is dict and (told := wrong_schema(value)) is not None:
            return where + told
    return None


def _wrong_keywords(schema: dict[str, Any]) -> str | None:
    """What is wrong with a schema besides the schemas in it."""
    for key, (is_fit, wanted) in _KEYWORDS.items():
        if key in schema and not is_fit(schema[key]):
            return f".{key} must be {wanted}, found {kind(schema[key])}"
    properties = schema.get("properties")
    if properties and (unknown := [key for key in schema.get("required", ()) if key not in properties]):
        return f".required names {unknown[0]!r}, which properties does not have"
    if schema.get("type") == "array" and "items" not in schema and "prefixItems" not in schema:
        return ".items is missing; say what the array holds"
    return None


def _inner(schema: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas in a schema, each with its place."""
    for name, value in schema.get("properties", {}).items():
        yield f".properties.{name}", value
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield f".{key}", schema[key]
    for key in _MANY:
        for index, value in enumerate(schema.get(key, ())):
            yield f".{key}[{index}]", value


def wrong_value(value: Any, schema: Any, where: str = "") -> str | None:
    """Say where a value breaks a well-formed schema, and how; None where it keeps to it.

    A property that the schema does not name counts as wrong, unless it names none or allows others by a word of its
    own: JSON schema lets it pass, but what is called does not know it.
    """
    if type(schema) is not dict:
        return None
    declared: Any = schema.get("type", [])
    types: list[str] = declared if type(declared) is list else [declared]
    if types and not any(_is_a(value, one) for one in types):
        return f"{where} must be of the type {' or '.join(types)}, found {kind(value)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} must be one of {', '.join(map(str, schema['enum'][:10]))}, found {kind(value)}"
    if _is_number(value):
        return _out_of_bounds(value, schema, where)
    if type(value) is list:
        told = (wrong_value(item, schema.get("items"), f"{where}[{at}]") for at, item in enumerate(value))
        return next(filter(None, told), None)
    return _wrong_properties(value, schema, where) if type(value) is dict else None


def _out_of_bounds(value: float, schema: dict[str, Any], where: str) -> str | None:
    least, most = (schema.get(key) for key in _BOUNDS)
    if (least is not None and value < least) or (most is not None and value > most):
        return f"{where} must be from {least} to {most}, found {value}"
    return None


def _wrong_properties(value: dict[str, Any], schema: dict[str, Any], where: str) -> str | None:
    properties = schema.get("properties", {})
    others_forbidden = schema.get("additionalProperties", not properties) is False and "patternProperties" not in schema
    if missing := missing_properties(value, schema):
        return f"{where} lacks {', '.join(missing)}"
    for key, item in value.items():
        at = f"{where}.{key}" if where else key
        if key in properties:
            if (told := wrong_value(item, properties[key], at)) is not None:
                return told
        elif others_forbidden:
            return f"{at} is not declared"
    return None


def missing_properties(value: dict[str, Any], schema: dict[str, Any]) -> list[str]:
    """Name the properties that a schema requires and a value does not have."""
    return [key for key in schema.get("required", ()) if key not in value]


def _is_a(value: Any, declared: str) -> bool:
    if type(value) is float and declared == "integer":
        return value.is_integer()
    return isinstance(value, _TYPES[declared]) and (declared == "boolean" or type(value) is not bool)
