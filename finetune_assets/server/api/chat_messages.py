"""The messages of a chat completion request: who says, shows or calls what, and how the engine is given it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from finetune_assets.server.api.body_shape import CHAT
from finetune_assets.server.api.wire import RequestBody

MAX_TEXT = 10_485_760
"""Characters in one text, as with OpenAI."""
MAX_MESSAGES = 4096
MAX_PARTS = 4096
MAX_CALLS = 128
"""Calls in one message."""
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]


class ImageUrl(RequestBody):
    """Where an image is, and how closely to look."""

    url: Annotated[str, StringConstraints(max_length=CHAT.bytes)]
    """A data URL or, where the server was started with --fetch-images, an https URL."""
    detail: Literal["auto", "low", "high"] = "auto"
    """Without effect: every image is looked at in the size its model was made for."""


class TextPart(RequestBody):
    """A piece of text."""

    type: Literal["text"]
    text: Text


class ImagePart(RequestBody):
    """An image."""

    type: Literal["image_url"]
    image_url: ImageUrl


class RefusalPart(RequestBody):
    """A piece of an answer in which the assistant refused."""

    type: Literal["refusal"]
    refusal: Text


UserPart = Annotated[TextPart | ImagePart, Field(discriminator="type")]
AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]


class SystemMessage(RequestBody):
    """Instructions that stand above the user's."""

    role: Literal["developer", "system"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
    name: str | None = None


class UserMessage(RequestBody):
    """What a person says and shows."""

    role: Literal["user"]
    content: Text | Annotated[list[UserPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
    name: str | None = None


class CalledFunction(RequestBody):
    """What was called."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    arguments: Text
    """A JSON object."""


class ToolCall(RequestBody):
    """A call that the assistant made."""

    id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    type: Literal["function"]
    function: CalledFunction


class AssistantMessage(RequestBody):
    """An earlier answer, which may be sent back as it came."""

    role: Literal["assistant"]
    content: Text | Annotated[list[AssistantPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)] | None = (
        None
    )
    refusal: Text | None = None
    name: str | None = None
    annotations: Annotated[list[Any], Field(max_length=MAX_PARTS)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=MAX_CALLS)] | None = None
    reasoning_content: Text | None = None
    """What was thought before; most models are not shown it again."""


class ToolMessage(RequestBody):
    """What a tool says to a call."""

    role: Literal["tool"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
    tool_call_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]


def plain_messages(messages: list[Message]) -> list[dict[str, Any]]:
    """Return the messages as the engine takes them: `role`, `content` of text and images, and what is said of calls."""
    plain: list[dict[str, Any]] = []
    for message in messages:
        content: Any = message.content
        if isinstance(content, list):
            content = [_plain_part(part) for part in content]
        elif content is None and isinstance(message, AssistantMessage):
            content = message.refusal
        plain.append({"role": message.role, "content": content} | _beside(message))
    return plain


def _beside(message: Message) -> dict[str, Any]:
    match message:
        case AssistantMessage():
            calls = [call.model_dump() for call in message.tool_calls or ()]
            fields = {"tool_calls": calls, "reasoning_content": message.reasoning_content}
            return {name: held for name, held in fields.items() if held}
        case ToolMessage():
            return {"tool_call_id": message.tool_call_id}
        case _:
            return {}


def images_of(messages: list[Message]) -> Iterator[tuple[str, str]]:
    """Yield each image's place in the request, and its URL."""
    for i, message in enumerate(messages):
        for j, part in enumerate(message.content if isinstance(message.content, list) else []):
            if isinstance(part, ImagePart):
                yield f"messages[{i}].content[{j}].image_url.url", part.image_url.url


def _plain_part(part: TextPart | ImagePart | RefusalPart) -> dict[str, Any]:
    match part:
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": part.image_url.url}}
        case RefusalPart():
            return {"type": "text", "text": part.refusal}
        case TextPart():
            return {"type": "text", "text": part.text}
