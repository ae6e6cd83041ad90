"""The rules for functions: what an example declares, what the assistant calls, and which answers follow.

As in the other rules, each appends `(code, message)` to `found`.
"""

from __future__ import annotations

import re
from typing import Any

import orjson

from finetune_assets.dataset.json_lines import kind

Problem = tuple[str, str]

MAX_FUNCTIONS = 128
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
NAME_RULE = "1 to 64 letters, digits, _ or -"


def check_tools(example: dict[str, Any], found: list[Problem], where: str = "") -> None:
    """Check the example's `tools`, and `parallel_tool_calls`, which must be a boolean.

    `where` is what their names begin with in messages; it ends with a dot, or is empty.
    """
    parallel = example.get("parallel_tool_calls")
    if parallel is not None and type(parallel) is not bool:
        found.append(("invalid_tools", f"{where}parallel_tool_calls must be true or false, found {kind(parallel)}"))
    tools = example.get("tools")
    if tools is None:
        return
    if type(tools) is not list or len(tools) > MAX_FUNCTIONS:
        found.append(("invalid_tools", f"{where}tools must be a list of at most {MAX_FUNCTIONS}, found {kind(tools)}"))
        return
    for index, tool in enumerate(tools):
        if (wrong := _wrong_tool(tool)) is not None:
            found.append(("invalid_tools", f"{where}tools[{index}]{wrong}"))


def _wrong_tool(tool: object) -> str | None:
    if type(tool) is not dict or tool.get("type") != "function" or type(tool.get("function")) is not dict:
        return f' must be {{"type": "function", "function": {{...}}}}, found {kind(tool)}'
    function = tool["function"]
    if not _is_name(function.get("name")):
        return f".function.name must be {NAME_RULE}, found {kind(function.get('name'))}"
    if type(function.get("parameters", {})) is not dict:
        return f".function.parameters must be a JSON schema, found {kind(function['parameters'])}"
    return None


def check_calls(where: str, message: dict[str, Any], found: list[Problem]) -> None:
    """Check an assistant message's `tool_calls`, or the older `function_call`."""
    calls = message.get("tool_calls")
    if calls is not None and (type(calls) is not list or not calls):
        found.append(("invalid_tool_call", f"{where}.tool_calls must be a list of calls, found {kind(calls)}"))
        return
    for index, call in enumerate(calls or ()):
        at = f"{where}.tool_calls[{index}]"
        if type(call) is not dict or call.get("type") != "function" or type(call.get("id")) is not str:
            wanted = 'an object with id, "type": "function" and function'
            found.append(("invalid_tool_call", f"{at} must be {wanted}, found {kind(call)}"))
        else:
            _check_function(f"{at}.function", call.get("function"), found)
    if message.get("function_call") is not None:
        _check_function(f"{where}.function_call", message["function_call"], found)


def _check_function(where: str, function: object, found: list[Problem]) -> None:
    if type(function) is not dict or not _is_name(function.get("name")):
        found.append(("invalid_tool_call", f"{where} must have a name of {NAME_RULE}, found {kind(function)}"))
        return
    arguments = function.get("arguments")
    if type(arguments) is not str or not _is_json_object(arguments):
        message = f"{where}.arguments must be a JSON object written as text, found {kind(arguments)}"
        found.append(("invalid_tool_call", message))


def check_tool_turns(
    messages: list[dict[str, Any]], tools: object, found: list[Problem], field: str = "messages"
) -> None:
    """Check that each call is answered before the talk goes on, and that each tool message answers a call."""
    declared = {tool["function"]["name"] for tool in tools} if isinstance(tools, list) else set()
    pending: dict[str, str] = {}
    for index, message in enumerate(messages):
        where = f"{field}[{index}]"
        if message["role"] == "tool":
            if pending.pop(message["tool_call_id"], None) is None:
                detail = f"{where}.tool_call_id {message['tool_call_id']!r} answers no call before it"
                found.append(("unknown_tool_call_id", f"{detail}; repeat the id of the assistant's call"))
            continue
        _report_unanswered(pending, found)
        pending = {call["id"]: f"{where}.tool_calls" for call in message.get("tool_calls") or ()}
        for call in message.get("tool_calls") or ():
            if (name := call["function"]["name"]) not in declared:
                found.append(("undeclared_function", f"{where} calls {name!r}, which tools does not declare; add it"))


def _report_unanswered(pending: dict[str, str], found: list[Problem]) -> None:
    for call_id, where in pending.items():
        message = f"{where} id {call_id!r} has no tool message after it; add the tool's answer"
        found.append(("unanswered_tool_call", message))


def _is_name(value: object) -> bool:
    return type(value) is str and NAME.fullmatch(value) is not None


def _is_json_object(text: str) -> bool:
    try:
        return type(orjson.loads(text)) is dict
    except ValueError:
        return False
