"""Conversations as typed messages: what a line of JSON says is read once, and all rules look at the same thing.

A key that holds null counts as absent, because `datasets` writes every key of any line into every line. A message
without `content` is the same as one whose content is null, a text by itself the same as a list of one text.

Reading appends `(code, message)` to `found` for whatever breaks the format and keeps the rest, so that one bad field
hides neither the order nor the images nor the texts of its line. A million examples pass through here, so a message
without anything special is let go after one condition.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import orjson

from finetune_assets.dataset.json_lines import kind
from finetune_assets.training_file.findings import Problem
from finetune_assets.training_file.key_rules import check_keys, given_keys

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
NAME_RULE = "1 to 64 letters, digits, _ or -"
_COMMON_ROLES = frozenset({"system", "user", "assistant"})
_MESSAGE_KEYS = {role: {"role", "content", "name", "weight"} for role in ROLES} | {
    "assistant": {"role", "content", "name", "weight", "refusal", "tool_calls", "function_call"},
    "tool": {"role", "content", "name", "weight", "tool_call_id"},
}
_IMAGE_KEYS = frozenset({"url", "detail"})
_CALL_KEYS = frozenset({"id", "type", "function"})
_CALLED_KEYS = frozenset({"name", "arguments"})
_PARTS = {"user": ("text", "image_url"), "assistant": ("text", "refusal")}
_WRITE_OR_DROP = "write the text or drop the line"


class ImagePart(NamedTuple):
    """An image that a user shows."""

    url: str
    detail: str
    where: str
    """Its field, as findings name it."""


class Call(NamedTuple):
    """A function that the assistant calls."""

    name: str
    arguments: str
    """A JSON object, as text."""
    id: str | None
    """None in the older form, `function_call`, which is answered by the function's name."""


class Message(NamedTuple):
    """One message, or what could be read of it."""

    role: str = ""
    """Empty where it is missing or unknown."""
    texts: tuple[str, ...] = ()
    images: tuple[ImagePart, ...] = ()
    calls: tuple[Call, ...] = ()
    name: str | None = None
    call_id: str | None = None
    """Of a tool message, which call it answers."""
    weight: int | None = None
    refused: bool = False
    """Whether the text is the assistant's refusal."""

    @property
    def label(self) -> str | None:
        """The text, where the message is one text and nothing else."""
        return self.texts[0] if len(self.texts) == 1 and not (self.images or self.calls) else None


_made: Callable[[type[Message], tuple[Any, ...]], Message] = tuple.__new__  # pyright: ignore[reportAssignmentType]
"""Half the time of calling the class."""


def plain_roles(messages: list[Any]) -> tuple[str, ...]:
    """Return the roles of messages of which each is a text by someone usual; most are, and need no other look.

    Empty for others.
    """
    roles: list[str] = []
    try:
        for message in messages:
            role, content = message["role"], message["content"]
            if role not in _COMMON_ROLES or len(message) != 2 or type(content) is not str:
                return ()
            if not content or content.isspace():
                return ()
            roles.append(role)
    except (KeyError, TypeError):  # no object, a key that is not there, a role that is no text
        return ()
    return tuple(roles)


def plain_messages(messages: list[dict[str, str]]) -> list[Message]:
    """Read messages that have `plain_roles`."""
    return [
        _made(Message, (message["role"], (message["content"],), (), (), None, None, None, False))
        for message in messages
    ]


def read_messages(field: str, messages: Sequence[Any], found: list[Problem]) -> list[Message]:
    """Read `<field>`, a list of messages; one that is no object is kept as a message without a role."""
    return [read_message(f"{field}[{index}]", message, found) for index, message in enumerate(messages)]


def read_message(where: str, message: Any, found: list[Problem]) -> Message:
    """Read one message by itself."""
    if type(message) is not dict:
        found.append(("invalid_message", f"{where} must be an object, found {kind(message)}"))
        return Message()
    given = given_keys(where, message, found, but=("content", "refusal", "function_call", "audio"))
    role = given.get("role", "")
    if "role" not in given:
        found.append(("missing_role", f"{where} has no role; it must be one of {', '.join(ROLES)}"))
    elif type(role) is not str or role not in ROLES:
        found.append(("unknown_role", f"{where}.role must be one of {', '.join(ROLES)}, found {kind(role)}"))
        role = ""
    # Of whom nobody knows who speaks, only the texts are of interest, and no finding about them.
    problems: list[Problem] = found if role else []
    _check_fields(where, role, given, problems)
    texts, images, refused = _read_content(where, role, given, problems)
    calls = read_calls(where, given, problems) if role == "assistant" else ()
    return Message(
        role,
        texts,
        images,
        calls,
        _text_or_none(given.get("name")),
        _text_or_none(given.get("tool_call_id")),
        weight if type(weight := given.get("weight")) is int else None,
        refused,
    )


def _text_or_none(value: object) -> str | None:
    return value if type(value) is str else None


def _check_fields(where: str, role: str, given: dict[str, Any], found: list[Problem]) -> None:
    """Everything in a message but its content and its calls."""
    name, weight = given.get("name"), given.get("weight")
    if (name is not None or role == "function") and not is_name(name):
        found.append(("invalid_name", f"{where}.name must be {NAME_RULE}, found {kind(name)}"))
    if role != "assistant" and weight is not None:
        found.append(("invalid_weight", f"{where}.weight does not belong in a {role} message, found {kind(weight)}"))
    elif weight is not None and (type(weight) is not int or weight not in (0, 1)):
        found.append(("invalid_weight", f"{where}.weight must be 0 or 1, found {kind(weight)}"))
    if role == "assistant" and type(refusal := given.get("refusal", "")) is not str:
        found.append(("invalid_content", f"{where}.refusal must be text, found {kind(refusal)}"))
    if role == "tool" and type(given.get("tool_call_id")) is not str:
        found.append(("unknown_tool_call_id", f"{where}.tool_call_id must repeat the id of the assistant's call"))
    check_keys(f"{where}.", given, _MESSAGE_KEYS.get(role, set()), found)


def _read_content(
    where: str, role: str, given: dict[str, Any], found: list[Problem]
) -> tuple[tuple[str, ...], tuple[ImagePart, ...], bool]:
    """The texts and images of a message, and whether it is a refusal."""
    content, refusal = given.get("content"), given.get("refusal")
    refused = (refusal,) if type(refusal) is str and refusal else ()
    says_otherwise = role == "assistant" and (refused or given.get("tool_calls") or given.get("function_call"))
    if content is None:
        # An older function message may have nothing to say: the schema allows null there, and only there.
        if not says_otherwise and role != "function":
            found.append(("missing_content", f"{where}.content ({role}) is missing or null; {_WRITE_OR_DROP}"))
        return refused, (), bool(refused)
    if type(content) is list:
        return _read_parts(where, role, content, refused, found)
    if type(content) is not str:
        found.append(("invalid_content", f"{where}.content must be text or a list of parts, found {kind(content)}"))
        return refused, (), bool(refused)
    if content and not content.isspace():
        return (content, *refused), (), bool(refused)
    if role not in ("tool", "function") and not says_otherwise:
        found.append(("empty_content", f"{where}.content ({role}) is empty; {_WRITE_OR_DROP}"))
    return refused, (), bool(refused)


def _read_parts(
    where: str, role: str, parts: list[Any], refused: tuple[str, ...], found: list[Problem]
) -> tuple[tuple[str, ...], tuple[ImagePart, ...], bool]:
    if not parts:
        found.append(("empty_content", f"{where}.content ({role}) is an empty list; write the text"))
    read = [_read_part(f"{where}.content[{index}]", role, part, found) for index, part in enumerate(parts)]
    refusals = [type(part) is dict and part.get("type") == "refusal" for part in parts]
    if len(parts) > 1 and any(refusals):
        found.append(("invalid_content", f"{where}.content must be nothing but its refusal; drop the other parts"))
    texts = tuple([part for part in read if isinstance(part, str)])
    images = tuple([part for part in read if isinstance(part, ImagePart)])
    return texts + refused, images, any(refusals) or bool(refused)


def _read_part(where: str, role: str, part: Any, found: list[Problem]) -> str | ImagePart | None:
    """The text or image of a part; None where it cannot be used."""
    if type(part) is not dict or type(part.get("type")) is not str:
        found.append(("invalid_part", f"{where} must be an object with a type, found {kind(part)}"))
        return None
    part_type, allowed = part["type"], _PARTS.get(role, ("text",))
    given = part if len(part) == 2 else given_keys(where, part, found)
    check_keys(f"{where}.", given, {"type", part_type}, found)
    if part_type not in allowed:
        if part_type == "image_url":
            found.append(("image_not_allowed", f"{where} is an image from {role}; only a user may send one"))
        else:
            found.append(("unknown_part", f"{where}.type must be {' or '.join(allowed)} here, found {part_type!r}"))
        return None
    if part_type == "image_url":
        return _read_image(f"{where}.image_url", given.get("image_url"), found)
    said = given.get(part_type)
    if type(said) is not str:
        found.append(("invalid_part", f"{where}.{part_type} must be text, found {kind(said)}"))
        return None
    if not said or said.isspace():
        found.append(("empty_content", f"{where}.{part_type} is empty; write the text or drop the part"))
    return said


def _read_image(where: str, image: Any, found: list[Problem]) -> ImagePart | None:
    if type(image) is not dict or type(image.get("url")) is not str:
        found.append(("image_invalid", f'{where} must be {{"url": "..."}}, found {kind(image)}'))
        return None
    given = image if len(image) == 1 else given_keys(where, image, found)
    detail = given.get("detail", "auto")
    if detail not in ("auto", "low", "high"):
        found.append(("invalid_detail", f"{where}.detail must be auto, low or high, found {kind(detail)}"))
        detail = "auto"
    check_keys(f"{where}.", given, _IMAGE_KEYS, found)
    return ImagePart(image["url"], detail, where)


def read_calls(where: str, given: dict[str, Any], found: list[Problem]) -> tuple[Call, ...]:
    """Read an assistant message's `tool_calls` and the older `function_call`; calls that are not whole are left out."""
    calls: list[Call | None] = []
    made, older = given.get("tool_calls"), given.get("function_call")
    if made is not None and (type(made) is not list or not made):
        found.append(("invalid_tool_call", f"{where}.tool_calls must be a list of calls, found {kind(made)}"))
        return ()
    for index, call in enumerate(made or ()):
        at = f"{where}.tool_calls[{index}]"
        named = type(call) is dict and type(call.get("id")) is str and bool(call["id"])
        if not named or call.get("type") != "function":
            wanted = 'an object with id, "type": "function" and function'
            found.append(("invalid_tool_call", f"{at} must be {wanted}, found {kind(call)}"))
        else:
            check_keys(f"{at}.", given_keys(at, call, found), _CALL_KEYS, found)
            calls.append(_read_call(f"{at}.function", call.get("function"), call["id"], found))
    if older is not None:
        calls.append(_read_call(f"{where}.function_call", older, None, found))
        if made:
            told = f"{where}.function_call is the older form of tool_calls, and both are here; keep tool_calls"
            found.append(("functions_and_tools", told))
    return tuple([call for call in calls if call is not None])


def _read_call(where: str, function: Any, call_id: str | None, found: list[Problem]) -> Call | None:
    if type(function) is not dict or not is_name(function.get("name")):
        found.append(("invalid_tool_call", f"{where} must have a name of {NAME_RULE}, found {kind(function)}"))
        return None
    check_keys(f"{where}.", given_keys(where, function, found), _CALLED_KEYS, found)
    arguments = function.get("arguments")
    if type(arguments) is not str or not _is_json_object(arguments):
        message = f"{where}.arguments must be a JSON object written as text, found {kind(arguments)}"
        found.append(("invalid_tool_call", message))
        return None
    return Call(function["name"], arguments, call_id)


def is_name(value: object) -> bool:
    """Whether a value may be the name of a function or a speaker."""
    return type(value) is str and NAME.fullmatch(value) is not None


def _is_json_object(text: str) -> bool:
    try:
        return type(orjson.loads(text)) is dict
    except ValueError:
        return False
