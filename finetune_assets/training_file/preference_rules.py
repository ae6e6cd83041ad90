"""The rules of the preference format, from which direct preference optimisation (DPO) learns.

One line is `{"input": {"messages": [...], "tools": [...]}, "preferred_output": [m], "non_preferred_output": [m]}`: a
conversation that ends with the user, and two answers of the assistant to it, the better one and the other.
"""

from __future__ import annotations

from typing import Any

from finetune_assets.dataset.json_lines import kind
from finetune_assets.training_file.example import Example
from finetune_assets.training_file.findings import Problem, has_error
from finetune_assets.training_file.key_rules import check_keys
from finetune_assets.training_file.message_rules import check_turns, read_conversation
from finetune_assets.training_file.messages import Message, read_message
from finetune_assets.training_file.target import Target
from finetune_assets.training_file.tool_rules import check_tool_turns

_INPUT_FIELD = "input.messages"
_OUTPUTS = ("preferred_output", "non_preferred_output")
_KEYS = frozenset({"input", *_OUTPUTS})
_INPUT_KEYS = frozenset({"messages", "tools", "parallel_tool_calls"})


def is_preference(example: dict[str, Any]) -> bool:
    """Whether a line means to be in this format."""
    return "messages" not in example and any(key in example for key in _OUTPUTS)


def read_pair(example: dict[str, Any], target: Target, found: list[Problem]) -> Example:
    """Read and check everything but the images themselves. Where no error is found, all messages are well-formed."""
    asked = example.get("input")
    if type(asked) is dict and asked:
        read = _read_input(asked, target, found)
    else:
        found.append(("invalid_input", f'input must be {{"messages": [...]}}, found {kind(asked)}'))
        read = Example([])
    outputs = [_read_output(field, example.get(field), found) for field in _OUTPUTS]
    check_keys("", example, _KEYS, found)
    read = read._replace(outputs=tuple([output for output in outputs if output is not None]))
    if has_error(found):
        return read
    check_turns(_INPUT_FIELD, read.messages, found)
    check_tool_turns(read.messages, read.tools, found, _INPUT_FIELD)
    for field, output in zip(_OUTPUTS, read.outputs, strict=True):
        check_tool_turns([output], read.tools, found, field)
    preferred, other = (output._replace(weight=None, name=None) for output in read.outputs)
    if preferred == other:
        message = "preferred_output and non_preferred_output are the same; nothing is learnt from the line, so drop it"
        found.append(("identical_outputs", message))
    return read


def _read_input(asked: dict[str, Any], target: Target, found: list[Problem]) -> Example:
    messages = asked.get("messages")
    if type(messages) is not list or not messages:
        found.append(("invalid_messages", f"{_INPUT_FIELD} must be a list of messages, found {kind(messages)}"))
        return Example([])
    n_found = len(found)
    read = read_conversation(asked, messages, target, found, "input.")
    check_keys("input.", {key: held for key, held in asked.items() if held is not None}, _INPUT_KEYS, found)
    last = read.messages[-1].role
    if not has_error(found[n_found:]) and last not in ("user", "tool"):
        message = f"the last message of {_INPUT_FIELD} is from {last}; end with the user's question"
        found.append(("last_not_user", message))
    return read


def _read_output(field: str, output: object, found: list[Problem]) -> Message | None:
    if type(output) is not list or len(output) != 1:
        found.append(("invalid_output", f"{field} must be a list of one assistant message, found {kind(output)}"))
        return None
    [message] = output
    if type(message) is dict and message.get("role") in ("system", "developer", "user", "tool", "function"):
        found.append(("invalid_output", f"{field}[0] must be from the assistant, found {kind(message['role'])}"))
        return None
    return read_message(f"{field}[0]", message, found)
