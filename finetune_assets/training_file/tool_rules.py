"""The rules for functions: what an example declares, what the assistant calls, and which answers follow.

As in the other rules, each appends `(code, message)` to `found`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import orjson

from finetune_assets.dataset.json_lines import kind
from finetune_assets.training_file.findings import Problem
from finetune_assets.training_file.key_rules import check_keys
from finetune_assets.training_file.schema_rules import missing_properties, wrong_schema, wrong_value

MAX_FUNCTIONS = 128
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
NAME_RULE = "1 to 64 letters, digits, _ or -"
_TOOL_KEYS = frozenset({"type", "function"})
_FUNCTION_KEYS = frozenset({"name", "description", "parameters", "strict"})
_CALL_KEYS = frozenset({"id", "type", "function"})
_CALLED_KEYS = frozenset({"name", "arguments"})


def check_tools(example: dict[str, Any], found: list[Problem], where: str = "") -> None:
    """Check what the example declares: `tools`, the older `functions`, and `parallel_tool_calls`.

    `where` is what their names begin with in messages; it ends with a dot, or is empty.
    """
    tools, functions = example.get("tools"), example.get("functions")
    for field, functions_of_it in (("tools", tools), ("functions", functions)):
        if functions_of_it is not None:
            found += [(code, where + told) for code, told in _declarations(field, orjson.dumps(functions_of_it))[0]]
    if tools and functions:
        message = f"{where}functions is the older form of {where}tools, and both are here; keep tools"
        found.append(("functions_and_tools", message))
    parallel = example.get("parallel_tool_calls")
    if parallel is not None and type(parallel) is not bool:
        found.append(("invalid_tools", f"{where}parallel_tool_calls must be true or false, found {kind(parallel)}"))
    elif parallel is not None and tools is None:
        message = f"{where}parallel_tool_calls is of no use without {where}tools, and providers refuse it; drop it"
        found.append(("parallel_without_tools", message))


@lru_cache(maxsize=8)
def _declarations(field: str, written: bytes) -> tuple[list[Problem], dict[str, dict[str, Any]]]:
    """What is wrong with a list of tools or functions, and those that are well-formed by name.

    Most lines of a file declare what the line before declared, which is then looked at once.
    """
    declared = orjson.loads(written)
    found: list[Problem] = []
    if type(declared) is not list or len(declared) > MAX_FUNCTIONS:
        told = f"{field} must be a list of at most {MAX_FUNCTIONS}, found {kind(declared)}"
        return [("invalid_tools", told)], {}
    functions: dict[str, dict[str, Any]] = {}
    wrong = _wrong_tool if field == "tools" else _wrong_function
    for index, tool in enumerate(declared):
        at = f"{field}[{index}]"
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
    return found, functions


def _wrong_tool(tool: object) -> str | None:
    if type(tool) is not dict or tool.get("type") != "function" or type(tool.get("function")) is not dict:
        return f' must be {{"type": "function", "function": {{...}}}}, found {kind(tool)}'
    told = _wrong_function(tool["function"])
    return None if told is None else f".function{told}"


def _wrong_function(function: object) -> str | None:
    if type(function) is not dict or not _is_name(function.get("name")):
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


def check_calls(where: str, message: dict[str, Any], found: list[Problem]) -> None:
    """Check an assistant message's `tool_calls`, or the older `function_call`."""
    calls = message.get("tool_calls")
    if calls is not None and (type(calls) is not list or not calls):
        found.append(("invalid_tool_call", f"{where}.tool_calls must be a list of calls, found {kind(calls)}"))
        return
    for index, call in enumerate(calls or ()):
        at = f"{where}.tool_calls[{index}]"
        if type(call) is not dict or call.get("type") != "function" or not _is_text(call.get("id")):
            wanted = 'an object with id, "type": "function" and function'
            found.append(("invalid_tool_call", f"{at} must be {wanted}, found {kind(call)}"))
        else:
            _check_function(f"{at}.function", call.get("function"), found)
            check_keys(f"{at}.", call, _CALL_KEYS, found)
    if message.get("function_call") is None:
        return
    _check_function(f"{where}.function_call", message["function_call"], found)
    if calls:
        told = f"{where}.function_call is the older form of tool_calls, and both are here; keep tool_calls"
        found.append(("functions_and_tools", told))


def _check_function(where: str, function: object, found: list[Problem]) -> None:
    if type(function) is not dict or not _is_name(function.get("name")):
        found.append(("invalid_tool_call", f"{where} must have a name of {NAME_RULE}, found {kind(function)}"))
        return
    check_keys(f"{where}.", function, _CALLED_KEYS, found)
    arguments = function.get("arguments")
    if type(arguments) is not str or not _is_json_object(arguments):
        message = f"{where}.arguments must be a JSON object written as text, found {kind(arguments)}"
        found.append(("invalid_tool_call", message))


def check_tool_turns(
    messages: list[dict[str, Any]], example: dict[str, Any], found: list[Problem], field: str = "messages"
) -> None:
    """Check that what is called is declared, and that calls are answered, in well-formed messages.

    Each call is answered before the talk goes on, and each tool message answers a call.

    Args:
        messages: Of the example.
        example: The object that declares the tools.
        found: What is wrong is appended.
        field: The name of the messages in what is told.
    """
    declared = _declared(example)
    one_at_a_time = example.get("parallel_tool_calls") is False
    pending: dict[str, str] = {}
    for index, message in enumerate(messages):
        where = f"{field}[{index}]"
        if message["role"] in ("tool", "function"):
            _check_answer(message, pending, where, found)
            continue
        _report_unanswered(pending, found)
        calls = message.get("tool_calls") or ()
        pending = {call["id"]: f"{where}.tool_calls id {call['id']!r}" for call in calls}
        if len(pending) < len(calls):
            found.append(("duplicate_tool_call_id", f"{where}.tool_calls has an id twice; give each call its own"))
        if one_at_a_time and len(calls) > 1:
            told = f"{where} makes {len(calls)} calls at once, which parallel_tool_calls forbids; change either"
            found.append(("parallel_calls", told))
        functions = [call["function"] for call in calls]
        if called := message.get("function_call"):
            functions.append(called)
            pending[called["name"]] = f"{where}.function_call of {called['name']!r}"
        for function in functions:
            _check_against(declared, function, where, found)


def _check_answer(message: dict[str, Any], pending: dict[str, str], where: str, found: list[Problem]) -> None:
    """Check that a tool message, or one of the older function messages, answers a pending call, and take that off."""
    key, what = ("tool_call_id", "id") if message["role"] == "tool" else ("name", "name")
    if pending.pop(message[key], None) is None:
        detail = f"{where}.{key} {message[key]!r} answers no call before it"
        found.append(("unknown_tool_call_id", f"{detail}; repeat the {what} of the assistant's call"))


def _declared(example: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The declared functions by name; those that are not well-formed are left out."""
    written = {field: example[field] for field in ("tools", "functions") if example.get(field) is not None}
    every = [_declarations(field, orjson.dumps(functions))[1] for field, functions in written.items()]
    return {name: function for functions in every for name, function in functions.items()}


def _check_against(declared: dict[str, Any], function: dict[str, str], where: str, found: list[Problem]) -> None:
    """Check one call against the declarations."""
    name = function["name"]
    if name not in declared:
        found.append(("undeclared_function", f"{where} calls {name!r}, which tools does not declare; add it"))
        return
    given, parameters = orjson.loads(function["arguments"]), declared[name].get("parameters", {})
    if missing := missing_properties(given, parameters):
        message = f"{where} calls {name!r} without {', '.join(missing)}, which its parameters require; add it"
        found.append(("missing_argument", message))
    elif (told := wrong_value(given, parameters)) is not None:
        message = f"{where} calls {name!r} with an argument that its parameters do not allow: {told}; correct either"
        found.append(("invalid_argument", message))


def _report_unanswered(pending: dict[str, str], found: list[Problem]) -> None:
    for where in pending.values():
        message = f"{where} has no answer after it; add the message that gives it"
        found.append(("unanswered_tool_call", message))


def _is_text(value: object) -> bool:
    return type(value) is str and bool(value)


def _is_name(value: object) -> bool:
    return type(value) is str and NAME.fullmatch(value) is not None


def _is_json_object(text: str) -> bool:
    try:
        return type(orjson.loads(text)) is dict
    except ValueError:
        return False
