"""The functions that an example declares, read once: `tools`, the older `functions`, and `parallel_tool_calls`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import orjson

from finetune_assets.dataset.json_lines import kind
from finetune_assets.dataset.schema_rules import wrong_schema
from finetune_assets.training_file.findings import Problem
from finetune_assets.training_file.key_rules import check_keys, given_keys
from finetune_assets.training_file.messages import NAME_RULE, is_name
from finetune_assets.training_file.tool_tokens import tool_tokens

_TOOL_KEYS = frozenset({"type", "function"})
_FUNCTION_KEYS = frozenset({"name", "description", "parameters", "strict"})
_HOLDS_VALUES = frozenset({"enum", "const", "default", "example", "examples"})
"""Keywords of a schema whose value may be null and mean it."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What may be called."""

    functions: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    """The well-formed declarations by name."""
    tokens: int = 0
    """An estimate (`tool_tokens`)."""
    key: int = 0
    """Hash of the declarations, the same for equal ones in either form; 0 without any."""
    one_at_a_time: bool = False


NO_TOOLS = Tools()


def read_tools(example: dict[str, Any], most: int, found: list[Problem], where: str = "") -> Tools:
    """Read what an example declares.

    Args:
        example: The object that holds the declarations.
        most: How many functions the provider takes.
        found: What is wrong is appended.
        where: What the names of fields begin with in messages; it ends with a dot, or is empty.
    """
    tools, functions, parallel = (example.get(key) for key in ("tools", "functions", "parallel_tool_calls"))
    read: list[dict[str, dict[str, Any]]] = []
    tokens, keys = 0, []
    for name, declared in (("tools", tools), ("functions", functions)):
        if declared is None:
            continue
        problems, by_name, n_tokens = _declarations(name, orjson.dumps(declared), most)
        found += [(code, where + told) for code, told in problems]
        read.append(by_name)
        tokens += n_tokens
        keys += [orjson.dumps(by_name, option=orjson.OPT_SORT_KEYS)] if by_name else []
    if tools and functions:
        message = f"{where}functions is the older form of {where}tools, and both are here; keep tools"
        found.append(("functions_and_tools", message))
    if parallel is not None and type(parallel) is not bool:
        found.append(("invalid_tools", f"{where}parallel_tool_calls must be true or false, found {kind(parallel)}"))
    elif parallel is not None and tools is None:
        message = f"{where}parallel_tool_calls is of no use without {where}tools, and providers refuse it; drop it"
        found.append(("parallel_without_tools", message))
    by_name = {name: function for each in read for name, function in each.items()}
    return Tools(by_name, tokens, hash(tuple(keys)) if keys else 0, parallel is False)


@lru_cache(maxsize=8)
def _declarations(field: str, written: bytes, most: int) -> tuple[list[Problem], dict[str, dict[str, Any]], int]:
    """What is wrong with a list of tools or functions, those that are well-formed by name, and their tokens.

    Most lines of a file declare what the line before declared, which is then looked at once.
    """
    declared = orjson.loads(written)
    found: list[Problem] = []
    if type(declared) is not list or len(declared) > most:
        return [("invalid_tools", f"{field} must be a list of at most {most}, found {kind(declared)}")], {}, 0
    functions: dict[str, dict[str, Any]] = {}
    wrong = _wrong_tool if field == "tools" else _wrong_function
    for index, with_nulls in enumerate(declared):
        at = f"{field}[{index}]"
        tool = _without_nulls(at, with_nulls, found)
        if (told := wrong(tool)) is not None:
            found.append(("invalid_tools", at + told))
            continue
        function = tool.get("function", tool)
        if function["name"] in functions:
            found.append(("duplicate_function", f"{at} declares {function['name']!r} again; keep one declaration"))
        functions[function["name"]] = function
        if field == "tools":
            check_keys(f"{at}.", tool, _TOOL_KEYS, found)
            at += ".function"
        check_keys(f"{at}.", function, _FUNCTION_KEYS, found)
    return found, functions, tool_tokens(functions.values())


def _without_nulls(where: str, value: Any, found: list[Problem]) -> Any:
    """A declaration without the keys that hold null, which `datasets` writes at every depth."""
    if type(value) is list:
        return [_without_nulls(where, item, found) for item in value]
    if type(value) is not dict:
        return value
    given = given_keys(where, value, found, tuple(_HOLDS_VALUES))
    kept = {key: value[key] for key in value if key in given or key in _HOLDS_VALUES - {"enum"}}
    return {key: held if key in _HOLDS_VALUES else _without_nulls(where, held, found) for key, held in kept.items()}


def _wrong_tool(tool: object) -> str | None:
    if type(tool) is not dict or tool.get("type") != "function" or type(tool.get("function")) is not dict:
        return f' must be {{"type": "function", "function": {{...}}}}, found {kind(tool)}'
    told = _wrong_function(tool["function"])
    return None if told is None else f".function{told}"


def _wrong_function(function: object) -> str | None:
    if type(function) is not dict or not is_name(function.get("name")):
        found = kind(function.get("name") if type(function) is dict else function)
        return f".name must be {NAME_RULE}, found {found}"
    if type(function.get("description")) not in (str, type(None)):
        return f".description must be text, found {kind(function['description'])}"
    if type(strict := function.get("strict")) not in (bool, type(None)):
        return f".strict must be true or false, found {kind(strict)}"
    if type(parameters := function.get("parameters", {})) is not dict:
        return f".parameters must be a JSON schema, found {kind(parameters)}"
    if parameters and parameters.get("type", "object") != "object":
        return f'.parameters.type must be "object", found {kind(parameters["type"])}'
    told = wrong_schema(parameters)
    return None if told is None else f".parameters{told}"
