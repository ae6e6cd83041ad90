"""What a decision is about: a text, or messages, calls of tools and what came of them; and the same as chat messages.

Every item becomes text and images in the order they came. Calls of tools are told in words, because few models' chat
templates know them, and none knows calls that no declared tool belongs to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import Discriminator, Field, StringConstraints, Tag

from finetune_assets.server.api.body_shape import CHAT
from finetune_assets.server.api.chat_messages import MAX_PARTS, MAX_TEXT
from finetune_assets.server.api.wire import ApiError, RequestBody

MAX_ITEMS = 4096
MAX_JSON_DEPTH, MAX_JSON_VALUES, MAX_JSON_BYTES = 32, 10_000, 256 << 10
"""Of one JSON part: levels of objects and arrays, values, and bytes of compact UTF-8."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
LongText = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Status = Literal["in_progress", "completed", "incomplete"]


class CacheBreakpoint(RequestBody):
    """Marks the end of what may be kept. Without effect: the whole input is what is kept here."""

    mode: Literal["explicit"]


class TextPart(RequestBody):
    """A piece of text."""

    type: Literal["input_text"]
    text: LongText
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class ImagePart(RequestBody):
    """An image."""

    type: Literal["input_image"]
    image_url: Annotated[str, StringConstraints(max_length=CHAT.bytes)]
    """A data URL or, where the server was started with --fetch-images, an https URL."""
    detail: Literal["low", "high", "auto", "original"] | None = None
    """Without effect: every image is looked at in the size its model was made for."""
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class JsonPart(RequestBody):
    """JSON, which the model reads as text."""

    type: Literal["input_json"]
    data: dict[str, Any] | list[dict[str, Any]]


class QuestionTextPart(RequestBody):
    """A piece of a question's text."""

    type: Literal["input_text"]
    text: LongText


class QuestionImagePart(RequestBody):
    """An image that a question shows."""

    type: Literal["input_image"]
    image_url: Annotated[str, StringConstraints(max_length=CHAT.bytes)]
    detail: Literal["low", "high", "auto", "original"] | None = None


class OutputText(RequestBody):
    """What an assistant has said."""

    type: Literal["output_text"]
    text: LongText


class RefusalPart(RequestBody):
    """What an assistant has said in place of an answer."""

    type: Literal["refusal"]
    refusal: LongText


Part = Annotated[TextPart | ImagePart | JsonPart, Field(discriminator="type")]
QuestionPart = Annotated[QuestionTextPart | QuestionImagePart | JsonPart, Field(discriminator="type")]
_AssistantPart = Annotated[OutputText | RefusalPart, Field(discriminator="type")]
_OutputPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]
_Some = Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)


class UserMessage(RequestBody):
    """What a person says and shows."""

    type: Literal["message"] = "message"
    role: Literal["user"]
    content: LongText | Annotated[list[Part], _Some]


class SystemMessage(RequestBody):
    """Instructions that stand above the user's."""

    type: Literal["message"] = "message"
    role: Literal["developer", "system"]
    content: LongText | Annotated[list[TextPart], _Some]


class AssistantMessage(RequestBody):
    """What an assistant has said."""

    type: Literal["message"] = "message"
    role: Literal["assistant"]
    content: LongText | Annotated[list[_AssistantPart], _Some]
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(RequestBody):
    """A function that was called."""

    type: Literal["function_call"]
    call_id: Annotated[str, StringConstraints(min_length=1)]
    name: Annotated[str, StringConstraints(min_length=1)]
    arguments: LongText
    id: str | None = None
    namespace: str | None = None
    status: Status | None = None


class FunctionOutput(RequestBody):
    """What a function has returned."""

    type: Literal["function_call_output"]
    call_id: Annotated[str, StringConstraints(min_length=1)]
    output: LongText | Annotated[list[_OutputPart], _Some]
    id: str | None = None
    status: Status | None = None


class CustomCall(RequestBody):
    """A tool of free text that was called."""

    type: Literal["custom_tool_call"]
    call_id: Annotated[str, StringConstraints(min_length=1)]
    name: Annotated[str, StringConstraints(min_length=1)]
    input: LongText
    id: str | None = None
    namespace: str | None = None
    status: Status | None = None


class CustomOutput(RequestBody):
    """What such a tool has returned."""

    type: Literal["custom_tool_call_output"]
    call_id: Annotated[str, StringConstraints(min_length=1)]
    output: LongText | Annotated[list[_OutputPart], _Some]
    id: str | None = None
    status: Status | None = None


def type_(item: Any) -> str | None:
    """Say which item it is; messages may leave their type out."""
    if not isinstance(item, dict):
        return getattr(item, "type", "message")  # what is no item at all is told that it is no object
    said = item.get("type", "message" if "role" in item else None)
    return said if isinstance(said, str | None) else str(said)


_Message = Annotated[UserMessage | SystemMessage | AssistantMessage, Field(discriminator="role")]
Item = Annotated[
    Annotated[_Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionOutput, Tag("function_call_output")]
    | Annotated[CustomCall, Tag("custom_tool_call")]
    | Annotated[CustomOutput, Tag("custom_tool_call_output")],
    Discriminator(type_),
]
Input = Text | Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS, fail_fast=True)]
_CALLS = {"function_call_output": FunctionCall, "custom_tool_call_output": CustomCall}


def check_input(given: str | Sequence[Item]) -> None:
    """Refuse what the schema cannot see: outputs of no call, and JSON that is too large.

    Raises:
        ApiError: naming the place.
    """
    called: dict[str, type] = {}
    for number, item in enumerate([] if isinstance(given, str) else given):
        if isinstance(item, FunctionCall | CustomCall):
            if item.call_id in called:
                text = f"Invalid 'input[{number}].call_id': another call has the id '{item.call_id[:100]}'."
                raise ApiError(400, text, param=f"input[{number}].call_id", code="duplicate_call_id")
            called[item.call_id] = type(item)
        elif isinstance(item, FunctionOutput | CustomOutput) and called.get(item.call_id) is not _CALLS[item.type]:
            text = f"No tool call found for the tool output with call_id '{item.call_id[:100]}'."
            raise ApiError(400, text, param=f"input[{number}].call_id", code="unknown_call_id")
    for place, part in parts_of(given):
        if isinstance(part, JsonPart):
            check_json(part, place)


def check_json(part: JsonPart, place: str) -> None:
    """Refuse JSON that is too deep, of too many values, or too long.

    Raises:
        ApiError: naming the place.
    """
    values, deepest = 0, 0
    waiting: list[tuple[Any, int]] = [(part.data, 1)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if isinstance(value, dict | list):
            deepest = max(deepest, depth)
            waiting += ((inner, depth + 1) for inner in (value.values() if isinstance(value, dict) else value))
    size = len(orjson.dumps(part.data))
    for found, most, what in (
        (deepest, MAX_JSON_DEPTH, "levels of objects and arrays"),
        (values, MAX_JSON_VALUES, "values"),
        (size, MAX_JSON_BYTES, "bytes as compact UTF-8 JSON"),
    ):
        if found > most:
            text = f"Invalid '{place}.data': it has {found:,} {what}, more than {most:,}."
            raise ApiError(400, text, param=f"{place}.data", code="json_too_large")


def parts_of(given: str | Sequence[Item]) -> Iterator[tuple[str, Any]]:
    """Yield every part of an input, with its place in the request."""
    for number, item in enumerate([] if isinstance(given, str) else given):
        name = "output" if isinstance(item, FunctionOutput | CustomOutput) else "content"
        inner = getattr(item, name, None)
        for place, part in enumerate(inner if isinstance(inner, list) else []):
            yield f"input[{number}].{name}[{place}]", part


def messages_of(given: str | Sequence[Item]) -> list[dict[str, Any]]:
    """Turn an input into chat messages; items of one role that follow each other are one message."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    names = {item.call_id: item.name for item in given if isinstance(item, FunctionCall | CustomCall)}
    messages: list[dict[str, Any]] = []
    for item in given:
        role, content = _said(item, names)
        if messages and messages[-1]["role"] == role:
            before = [*_parts(messages[-1]["content"]), {"type": "text", "text": "\n\n"}]
            messages[-1] = {"role": role, "content": [*before, *_parts(content)]}
        else:
            messages.append({"role": role, "content": content})
    return messages


def plain_part(part: Any) -> dict[str, Any]:
    """Turn a part of an input or of a question into one of chat messages."""
    match part:
        case ImagePart() | QuestionImagePart():
            return {"type": "image_url", "image_url": {"url": part.image_url}}
        case JsonPart():
            return {"type": "text", "text": orjson.dumps(part.data).decode()}
        case RefusalPart():
            return {"type": "text", "text": part.refusal}
        case _:
            return {"type": "text", "text": part.text}


def _said(item: Item, names: dict[str, str]) -> tuple[str, Any]:
    match item:
        case FunctionCall() | CustomCall():
            given = item.arguments if isinstance(item, FunctionCall) else item.input
            name = f"{item.namespace}.{item.name}" if item.namespace else item.name
            return "user", f"The tool {name} was called with: {given}"
        case FunctionOutput() | CustomOutput():
            told = {"type": "text", "text": f"The tool {names[item.call_id]} returned: "}
            return "user", [told, *(_parts(_plain(item.output)))]
        case _:
            return "system" if item.role == "developer" else item.role, _plain(item.content)


def _plain(content: str | list[Any]) -> Any:
    return content if isinstance(content, str) else [plain_part(part) for part in content]


def _parts(content: Any) -> list[dict[str, Any]]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}]
