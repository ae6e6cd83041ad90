"""The rules of the chat format for one example, as OpenAI's fine-tuning guides and published schema state them.

Every rule appends `(code, message)` to `found`; the message names the field, what was found and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from finetune_assets.dataset.json_lines import kind
from finetune_assets.training_file.example import Example
from finetune_assets.training_file.findings import Problem, has_error
from finetune_assets.training_file.key_rules import check_keys
from finetune_assets.training_file.messages import Message, plain_messages, plain_roles, read_messages
from finetune_assets.training_file.target import Target
from finetune_assets.training_file.tool_rules import check_tool_turns
from finetune_assets.training_file.tools import read_tools

EXAMPLE_KEYS = frozenset({"messages", "tools", "parallel_tool_calls", "functions"})
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


def read_chat(example: dict[str, Any], target: Target, found: list[Problem]) -> Example:
    """Read and check everything but the images themselves. Where no error is found, all messages are well-formed."""
    raw = listed_messages(example, found)
    if not raw:
        return Example([])
    if check_plain_chat(example, found):
        return Example(plain_messages(raw))
    read = read_conversation(example, raw, target, found)
    check_keys("", {key: held for key, held in example.items() if held is not None}, EXAMPLE_KEYS, found)
    if not has_error(found):
        check_tool_turns(read.messages, read.tools, found)
    if all(message.role for message in read.messages):
        _check_order(read.messages, found)
        _check_weights(read.messages, found)
    return read


def check_plain_chat(example: dict[str, Any], found: list[Problem]) -> bool:
    """Check a conversation of usual messages without reading it; False for any other, which has to be read."""
    messages = example.get("messages")
    roles = plain_roles(messages) if len(example) == 1 and type(messages) is list else ()
    if roles:
        found += _plain_order_problems(roles)
    return bool(roles)


def listed_messages(example: dict[str, Any], found: list[Problem]) -> list[Any]:
    """The messages of an object as they are written; none where there are none, which is then said."""
    messages = example.get("messages")
    if type(messages) is not list:
        found.append(_no_messages(example))
        return []
    if not messages:
        found.append(("empty_messages", "messages is empty; it needs a user message and the assistant's answer"))
    return messages


def read_conversation(
    asked: dict[str, Any], messages: list[Any], target: Target, found: list[Problem], where: str = ""
) -> Example:
    """Read messages and the declarations that stand beside them; `where` is what their names begin with."""
    return Example(
        read_messages(f"{where}messages", messages, found),
        read_tools(asked, target.max_functions, found, where),
    )


def _no_messages(example: dict[str, Any]) -> Problem:
    if "messages" in example:
        return "invalid_messages", f"messages must be a list, found {kind(example['messages'])}"
    for keys, name in _OTHER_FORMATS.items():
        if all(key in example for key in keys):
            wanted = 'write {"messages": [{"role": "user", ...}, {"role": "assistant", ...}]}'
            return "wrong_format", f"the line is in {name} (keys {', '.join(keys)}); {wanted}"
    keys = ", ".join(list(example)[:5]) or "none"
    return "missing_messages", f"there is no key messages (found: {keys}); put the conversation there as a list"


@lru_cache(maxsize=1024)
def _plain_order_problems(roles: tuple[str, ...]) -> tuple[Problem, ...]:
    """As `_check_order`. Few orders occur, so that each is looked at once."""
    found: list[Problem] = []
    _check_order([Message(role) for role in roles], found)
    return tuple(found)


def _check_order(messages: Sequence[Message], found: list[Problem]) -> None:
    """Check that the assistant has the last word, and that the turns before it are usual."""
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        found.append(("missing_assistant", "there is no assistant message; end with the answer to be learnt"))
    elif roles[-1] != "assistant":
        found.append(("last_not_assistant", f"the last message is from {roles[-1]}; end with the assistant's answer"))
    check_turns("messages", messages, found)


def check_turns(field: str, messages: Sequence[Message], found: list[Problem]) -> None:
    """Warn of messages that are not in the usual order, whoever is to have the last word.

    A user may say something in one message and show an image in the next, as in OpenAI's vision fine-tuning guide.
    """
    if all(message.role != "user" for message in messages):
        found.append(("missing_user", "there is no user message; add what the assistant answers"))
    for at, message in enumerate(messages[1:], 1):
        role, before = message.role, messages[at - 1]
        if role in ("system", "developer"):
            told = f"{field}[{at}] is a {role} message after the first; move it to the front"
            found.append(("system_not_first", told))
        elif role in ("user", "assistant") and role == before.role and not (message.images or before.images):
            told = f"{field}[{at}] is from {role} as the one before; join them, or add what was said between"
            found.append(("repeated_role", told))


def _check_weights(messages: Sequence[Message], found: list[Problem]) -> None:
    answers = [message for message in messages if message.role == "assistant"]
    if answers and all(message.weight == 0 for message in answers):
        found.append(("nothing_to_train", "every assistant message has weight 0; set the one to be learnt to 1"))
