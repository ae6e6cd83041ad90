"""How many tokens the declared functions cost: an estimate, because no provider publishes how it writes them down.

A provider puts the functions into the prompt as TypeScript types in a namespace, as models were seen to repeat them;
counted so, estimates come within some tokens of what is billed (community.openai.com, "How to calculate the tokens
when using function call", read 2026-11-30). Keywords that such types do not have, bounds and patterns among them,
count nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from finetune_assets.training_file.tokens import count

_AROUND = 9
"""What stands around the types: a message of its own, and a line that announces it."""
_TYPES = {"integer": "number", "number": "number", "string": "string", "boolean": "boolean", "null": "null"}


def tool_tokens(functions: Iterable[dict[str, Any]]) -> int:
    """Estimate the tokens of well-formed declarations; 0 without any."""
    written = "\n".join([_function(function) for function in functions])
    return _AROUND + count(f"namespace functions {{\n\n{written}\n}} // namespace functions") if written else 0


def _function(function: dict[str, Any]) -> str:
    parameters = function.get("parameters") or {}
    taken = f"_: {_type(parameters)}" if parameters.get("properties") else ""
    return f"{_comment(function)}type {function['name']} = ({taken}) => any;\n"


def _comment(described: dict[str, Any]) -> str:
    said = described.get("description")
    return "".join([f"// {line}\n" for line in said.splitlines()]) if type(said) is str else ""


def _type(schema: Any) -> str:
    """A JSON schema as a TypeScript type."""
    if type(schema) is not dict:
        return "any"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " | ".join(map(_type, schema[key]))
    if "enum" in schema or "const" in schema:
        return " | ".join([orjson.dumps(value).decode() for value in schema.get("enum", [schema.get("const")])])
    declared = schema.get("type", "object" if "properties" in schema else "any")
    return " | ".join([_named(one, schema) for one in (declared if type(declared) is list else [declared])])


def _named(declared: str, schema: dict[str, Any]) -> str:
    if declared == "array":
        return f"{_type(schema.get('items'))}[]"
    if declared != "object":
        return _TYPES.get(declared, "any")
    required = schema.get("required", ())
    fields = [
        f"{_comment(value) if type(value) is dict else ''}{name}{'' if name in required else '?'}: {_type(value)},\n"
        for name, value in schema.get("properties", {}).items()
    ]
    return f"{{\n{''.join(fields)}}}" if fields else "object"
