"""The rules of the chat format for one example, as OpenAI's fine-tuning guides and published schema state them.

Every rule appends `(code, message)` to `found`; the message names the field, what was found and what to do.
A million examples pass through here, so a message without anything special is let go after one condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from finetune_assets.dataset.json_lines import kind
from finetune_assets.training_file.findings import Problem, has_error
from finetune_assets.training_file.key_rules import check_keys
from finetune_assets.training_file.tool_rules import (
    NAME,
    NAME_RULE,
    check_calls,
    check_tool_turns,
    check_tools,
)

_EXAMPLE_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
_COMMON_ROLES = frozenset({"system", "user", "assistant"})
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_MESSAGE_KEYS = {role: {"role", "content", "name"} for role in _ROLES} | {
    "assistant": {"role", "content", "name", "weight", "refusal", "tool_calls", "function_call"},
    "tool": {"role", "content", "tool_call_id"},
}
_IMAGE_KEYS = frozenset({"url", "detail"})
_PARTS = {"user": ("text", "image_url"), "assistant": ("text", "refusal")}
_WRITE_OR_DROP = "write the text or drop the line"
_OTHER_FORMATS = {
    ("prompt", "completion"): "the old completions format",
    ("input", "preferred_output"): "the preference (DPO) format, which the supervised method does not take",
    ("prompt", "chosen"): "a preference format, which the supervised method does not take",
    ("instruction", "output"): "the instruction format",
    ("input", "output"): "an input and output format",
    ("question", "answer"): "a question and answer format",
    ("custom_id", "body"): "the batch format",
    ("conversations",): "the ShareGPT format",
    ("contents",): "Gemini's format",
}


def check_example(example: dict[str, Any], found: list[Problem]) -> None:
    """Check everything but the images themselves. Where no error is found, the messages are well-formed."""
    messages = example.get("messages")
    if type(messages) is not list:
        found.append(_no_messages(example))
        return
    if not messages:
        found.append(("empty_messages", "messages is empty; it needs a user message and the assistant's answer"))
        return
    if len(example) == 1 and (roles := _usual_roles(messages)) is not None:
        found += _order_problems(roles)
        return
    for index, message in enumerate(messages):
        check_message("messages", index, message, found)
    if len(example) > 1:
        check_tools(example, found)
        check_keys("", example, _EXAMPLE_KEYS, found)
    well_formed = not has_error(found)
    if not well_formed and any(type(message) is not dict or message.get("role") not in _ROLES for message in messages):
        return
    found += _order_problems(tuple([message["role"] for message in messages]))
    if max(map(len, messages)) > 2:
        _check_weights(messages, found)
        if well_formed:
            check_tool_turns(messages, example, found)


def _usual_roles(messages: list[Any]) -> tuple[str, ...] | None:
    """The roles, where each message is a text by someone usual and nothing else; most are, and need no other look."""
    roles: list[str] = []
    for message in messages:
        if type(message) is not dict or len(message) != 2:
            return None
        role, content = message.get("role"), message.get("content")
        if type(content) is not str or not content or content.isspace():
            return None
        if type(role) is not str or role not in _COMMON_ROLES:
            return None
        roles.append(role)
    return tuple(roles)


def _no_messages(example: dict[str, Any]) -> Problem:
    if "messages" in example:
        return "invalid_messages", f"messages must be a list, found {kind(example['messages'])}"
    for keys, name in _OTHER_FORMATS.items():
        if all(key in example for key in keys):
            wanted = 'write {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}'
            return "wrong_format", f"the line is in {name} (keys {', '.join(keys)}); {wanted}"
    keys = ", ".join(list(example)[:5]) or "none"
    return "missing_messages", f"there is no key messages (found: {keys}); put the conversation there as a list"


def check_message(field: str, index: int, message: Any, found: list[Problem]) -> None:
    """Check `<field>[<index>]` by itself."""
    if type(message) is not dict:
        found.append(("invalid_message", f"{field}[{index}] must be an object, found {kind(message)}"))
        return
    role, content = message.get("role"), message.get("content")
    if len(message) == 2 and type(content) is str and type(role) is str and role in _COMMON_ROLES:
        if not content or content.isspace():
            found.append(("empty_content", f"{field}[{index}].content ({role}) is empty; {_WRITE_OR_DROP}"))
        return
    where = f"{field}[{index}]"
    if "role" not in message:
        found.append(("missing_role", f"{where} has no role; it must be one of {', '.join(_ROLES)}"))
    elif type(role) is not str or role not in _ROLES:
        found.append(("unknown_role", f"{where}.role must be one of {', '.join(_ROLES)}, found {kind(role)}"))
    else:
        _check_fields(where, role, message, found)
        _check_content(where, role, message, found)


def _check_fields(where: str, role: str, message: dict[str, Any], found: list[Problem]) -> None:
    """Everything in a message but its content."""
    name, weight = message.get("name"), message.get("weight")
    if (name is not None or role == "function") and (type(name) is not str or not NAME.fullmatch(name)):
        found.append(("invalid_name", f"{where}.name must be {NAME_RULE}, found {kind(name)}"))
    if role != "assistant" and weight is not None:
        found.append(("invalid_weight", f"{where}.weight does not belong in a {role} message, found {kind(weight)}"))
    if role == "assistant" and "weight" in message and (type(weight) is not int or weight not in (0, 1)):
        found.append(("invalid_weight", f"{where}.weight must be 0 or 1, found {kind(weight)}"))
    if role == "assistant":
        check_calls(where, message, found)
        if type(refusal := message.get("refusal")) not in (str, type(None)):
            found.append(("invalid_content", f"{where}.refusal must be text, found {kind(refusal)}"))
    if role == "tool" and type(message.get("tool_call_id")) is not str:
        found.append(("unknown_tool_call_id", f"{where}.tool_call_id must repeat the id of the assistant's call"))
    check_keys(f"{where}.", message, _MESSAGE_KEYS[role] | {"weight"}, found)


def _check_content(where: str, role: str, message: dict[str, Any], found: list[Problem]) -> None:
    content = message.get("content")
    if content is None:
        says_otherwise = role == "assistant" and any(message.get(k) for k in ("tool_calls", "function_call", "refusal"))
        if not says_otherwise:
            state = "null" if "content" in message else "missing"
            found.append(("missing_content", f"{where}.content ({role}) is {state}; {_WRITE_OR_DROP}"))
    elif type(content) is list:
        if not content:
            found.append(("empty_content", f"{where}.content ({role}) is an empty list; write the text"))
        for index, part in enumerate(content):
            _check_part(f"{where}.content[{index}]", role, part, found)
        if len(content) > 1 and any(type(part) is dict and part.get("type") == "refusal" for part in content):
            found.append(("invalid_content", f"{where}.content must be nothing but its refusal; drop the other parts"))
    elif type(content) is not str:
        found.append(("invalid_content", f"{where}.content must be text or a list of parts, found {kind(content)}"))
    elif (not content or content.isspace()) and role != "tool" and not message.get("tool_calls"):
        found.append(("empty_content", f"{where}.content ({role}) is empty; {_WRITE_OR_DROP}"))


def _check_part(where: str, role: str, part: Any, found: list[Problem]) -> None:
    if type(part) is not dict or type(part.get("type")) is not str:
        found.append(("invalid_part", f"{where} must be an object with a type, found {kind(part)}"))
        return
    part_type, allowed = part["type"], _PARTS.get(role, ("text",))
    if len(part) != 2:
        check_keys(f"{where}.", part, {"type", part_type}, found)
    if part_type not in allowed:
        if part_type == "image_url":
            found.append(("image_not_allowed", f"{where} is an image from {role}; only a user may send one"))
        else:
            found.append(("unknown_part", f"{where}.type must be {' or '.join(allowed)} here, found {part_type!r}"))
    elif part_type == "image_url":
        image = part.get("image_url")
        if type(image) is not dict or type(image.get("url")) is not str:
            message = f'{where}.image_url must be {{"url": "..."}}, found {kind(image)}'
            found.append(("image_invalid", message))
        elif image.get("detail", "auto") not in ("auto", "low", "high"):
            message = f"{where}.image_url.detail must be auto, low or high, found {kind(image['detail'])}"
            found.append(("invalid_detail", message))
        else:
            check_keys(f"{where}.image_url.", image, _IMAGE_KEYS, found)
    elif type(part.get(part_type)) is not str:
        found.append(("invalid_part", f"{where}.{part_type} must be text, found {kind(part.get(part_type))}"))
    elif not part[part_type] or part[part_type].isspace():
        found.append(("empty_content", f"{where}.{part_type} is empty; write the text or drop the part"))


@lru_cache(maxsize=1024)
def _order_problems(roles: tuple[str, ...]) -> tuple[Problem, ...]:
    """Say what is wrong with the order of the messages. Few orders occur, so that each is looked at once."""
    found: list[Problem] = []
    if "assistant" not in roles:
        found.append(("missing_assistant", "there is no assistant message; end with the answer to be learnt"))
    elif roles[-1] != "assistant":
        found.append(("last_not_assistant", f"the last message is from {roles[-1]}; end with the assistant's answer"))
    check_turns("messages", roles, found)
    return tuple(found)


def check_turns(field: str, roles: Sequence[str], found: list[Problem]) -> None:
    """Warn of messages that are not in the usual order, whoever is to have the last word."""
    if "user" not in roles:
        found.append(("missing_user", "there is no user message; add what the assistant answers"))
    for at, role in enumerate(roles[1:], 1):
        if role in ("system", "developer"):
            message = f"{field}[{at}] is a {role} message after the first; move it to the front"
            found.append(("system_not_first", message))
        elif role in ("user", "assistant") and role == roles[at - 1]:
            message = f"{field}[{at}] is from {role} as the one before; join them, or add what was said between"
            found.append(("repeated_role", message))


def _check_weights(messages: list[dict[str, Any]], found: list[Problem]) -> None:
    answers = [message for message in messages if message["role"] == "assistant"]
    if answers and all(message.get("weight") == 0 for message in answers):
        found.append(("nothing_to_train", "every assistant message has weight 0; set the one to be learnt to 1"))
