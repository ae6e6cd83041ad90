"""The rules of the preference format, from which direct preference optimisation (DPO) learns.

One line is `{"input": {"messages": [...], "tools": [...]}, "preferred_output": [m], "non_preferred_output": [m]}`: a
conversation that ends with the user, and two answers of the assistant to it, the better one and the other.
"""

from __future__ import annotations

from typing import Any

from finetune_assets.dataset.json_lines import kind
from finetune_assets.training_file.findings import Problem, has_error
from finetune_assets.training_file.key_rules import check_keys
from finetune_assets.training_file.message_rules import check_message, check_turns
from finetune_assets.training_file.tool_rules import check_tool_turns, check_tools

INPUT_FIELD = "input.messages"
_OUTPUTS = ("preferred_output", "non_preferred_output")
_KEYS = frozenset({"input", *_OUTPUTS})
_INPUT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls"})


def is_preference(example: dict[str, Any]) -> bool:
    """Whether a line means to be in this format."""
    return "messages" not in example and any(key in example for key in _OUTPUTS)


def input_of(example: dict[str, Any]) -> dict[str, Any]:
    """What is asked in a line, well-formed or not."""
    asked = example.get("input")
    return asked if type(asked) is dict else {}


def outputs_of(example: dict[str, Any]) -> list[Any]:
    """Both answers of a line, well-formed or not."""
    outputs = [example.get(field) for field in _OUTPUTS]
    return [message for output in outputs if type(output) is list for message in output]


def check_pair(example: dict[str, Any], found: list[Problem]) -> None:
    """Check everything but the images themselves. Where no error is found, all messages are well-formed."""
    asked = input_of(example)
    if asked:
        _check_input(asked, found)
    else:
        found.append(("invalid_input", f'input must be {{"messages": [...]}}, found {kind(example.get("input"))}'))
    for field in _OUTPUTS:
        _check_output(field, example.get(field), found)
    check_keys("", example, _KEYS, found)
    if has_error(found):
        return
    check_turns(INPUT_FIELD, [message["role"] for message in asked["messages"]], found)
    check_tool_turns(asked["messages"], asked, found, INPUT_FIELD)
    for field in _OUTPUTS:
        check_tool_turns(example[field], asked, found, field)
    preferred, other = (_said(example[field][0]) for field in _OUTPUTS)
    if preferred == other:
        message = "preferred_output and non_preferred_output are the same; nothing is learnt from the line, so drop it"
        found.append(("identical_outputs", message))


def _said(message: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key not in ("role", "weight", "name")}


def _check_input(asked: dict[str, Any], found: list[Problem]) -> None:
    messages = asked.get("messages")
    if type(messages) is not list or not messages:
        found.append(("invalid_messages", f"{INPUT_FIELD} must be a list of messages, found {kind(messages)}"))
        return
    problems: list[Problem] = []
    for index, message in enumerate(messages):
        check_message(INPUT_FIELD, index, message, problems)
    found += problems
    check_tools(asked, found, "input.")
    check_keys("input.", asked, _INPUT_KEYS, found)
    if not has_error(problems) and messages[-1]["role"] not in ("user", "tool"):
        message = f"the last message of {INPUT_FIELD} is from {messages[-1]['role']}; end with the user's question"
        found.append(("last_not_user", message))


def _check_output(field: str, output: object, found: list[Problem]) -> None:
    if type(output) is not list or len(output) != 1:
        found.append(("invalid_output", f"{field} must be a list of one assistant message, found {kind(output)}"))
        return
    [message] = output
    if type(message) is dict and message.get("role") in ("system", "developer", "user", "tool", "function"):
        found.append(("invalid_output", f"{field}[0] must be from the assistant, found {kind(message['role'])}"))
        return
    check_message(field, 0, message, found)
