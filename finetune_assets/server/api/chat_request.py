"""The body of a chat completion request: what may stand in it, what has no effect here, and what is refused."""

from __future__ import annotations

import base64
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from finetune_assets.dataset import images
from finetune_assets.errors import ImageError
from finetune_assets.server.api.body_shape import CHAT
from finetune_assets.server.api.wire import ApiError, Metadata, RequestBody

MAX_TEXT = 10_485_760
"""Characters in one text, as with OpenAI."""
MAX_IMAGES = 500
"""Images in one request, as with OpenAI."""
MAX_IMAGE_BYTES = 20 << 20
MAX_PIXELS = 128_000_000
"""Of all images of a request together: two of the largest, or thirty of a common camera."""
MAX_MESSAGES = 4096
MAX_PARTS = 4096
MAX_TOKENS = 131_072
"""Tokens that all choices of a request may have together."""

_UNSERVED: dict[str, tuple[Any, ...]] = {
    "reasoning_effort": ("none",),
    "verbosity": ("medium",),
    "store": (False,),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "moderation": (),
}
"""Parameters that would change the answer, with the values besides null that ask for nothing."""

_WHY = {
    "reasoning_effort": "this server's models answer without reasoning",
    "verbosity": "this server's models are as long as they were taught to be",
    "store": "this server keeps no completions",
}

Text = Annotated[str, StringConstraints(max_length=MAX_TEXT)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, StringConstraints(min_length=1)]
TokenId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]


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


class AssistantMessage(RequestBody):
    """An earlier answer, which may be sent back as it came; calls of tools are not served."""

    role: Literal["assistant"]
    content: Text | Annotated[list[AssistantPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)] | None = (
        None
    )
    refusal: Text | None = None
    name: str | None = None
    annotations: Annotated[list[Any], Field(max_length=MAX_PARTS)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage, Field(discriminator="role")]


class PlainFormat(RequestBody):
    """Any text."""

    type: Literal["text"]


class JsonFormat(RequestBody):
    """A JSON object of any shape; the messages must speak of JSON."""

    type: Literal["json_object"]


class JsonSchema(RequestBody):
    """A shape to keep to."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: Annotated[dict[str, Any] | None, Field(alias="schema")] = None
    strict: bool | None = None
    """Without effect: the schema is always kept to."""


class JsonSchemaFormat(RequestBody):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class StreamOptions(RequestBody):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None
    """Add a last chunk with the tokens used."""
    include_obfuscation: bool | None = None
    """Even out the sizes of chunks by random letters, so that the encrypted stream tells nothing; true by default."""


class Prediction(RequestBody):
    """Text that the answer is likely to repeat: a hint, which this server does not need."""

    type: Literal["content"]
    content: Text | Annotated[list[TextPart], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]


class ChatBody(RequestBody):
    """Body of a request for a completion."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Annotated[dict[TokenId, Annotated[float, Field(ge=-100, le=100)]], Field(max_length=1024)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None

    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Deprecated form of `max_completion_tokens`."""
    stop: Stop | Annotated[list[Stop], Field(min_length=1, max_length=4)] | None = None
    response_format: Annotated[PlainFormat | JsonFormat | JsonSchemaFormat, Field(discriminator="type")] | None = None

    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    tools: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    """Only with `tool_choice` none: these models call no tools."""
    tool_choice: Literal["none", "auto", "required"] | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    function_call: Literal["none", "auto"] | dict[str, Any] | None = None
    modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1)] | None = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    store: bool | None = None
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """Only none: these models answer without reasoning first."""
    verbosity: Literal["low", "medium", "high"] | None = None

    # Without effect on the answers of these models.
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: Annotated[str, Field(max_length=64)] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    prediction: Prediction | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None


def check(body: ChatBody) -> None:
    """Refuse what the schema cannot see. Not for the event loop: headers of images are looked at.

    Raises:
        ApiError: naming the parameter.
    """
    _check_unserved(body)
    if body.top_logprobs is not None and not body.logprobs:
        raise _invalid("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.")
    if (body.n or 1) * (body.max_completion_tokens or body.max_tokens or 1) > MAX_TOKENS:
        message = f"'n' answers of this many tokens are more than {MAX_TOKENS:,} together; send several requests."
        raise _invalid("n", message)
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        message = "'max_tokens' (deprecated) and 'max_completion_tokens' cannot both be given."
        raise _invalid("max_tokens", message)
    if body.stream_options is not None and not body.stream:
        raise _invalid("stream_options", "The 'stream_options' parameter is only allowed when 'stream' is enabled.")
    for i, message in enumerate(body.messages):
        if isinstance(message, AssistantMessage) and message.content is None and message.refusal is None:
            param = f"messages[{i}].content"
            text = f"Invalid type for '{param}': expected a string or an array, but got null instead."
            raise ApiError(400, text, param=param, code="invalid_type")
    _check_images(body)
    if isinstance(body.response_format, JsonFormat) and not _speaks_of_json(body):
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise ApiError(400, message, param="messages")


def messages_of(body: ChatBody) -> list[dict[str, Any]]:
    """Return the messages as the engine takes them: `role`, and `content` of text and images only."""
    plain: list[dict[str, Any]] = []
    for message in body.messages:
        content: Any = message.content
        if isinstance(content, list):
            content = [_plain_part(part) for part in content]
        elif content is None and isinstance(message, AssistantMessage):
            content = message.refusal
        plain.append({"role": message.role, "content": content})
    return plain


def json_schema_of(body: ChatBody) -> dict[str, Any] | None:
    """Return the schema that the answer must fit; None where any text will do."""
    match body.response_format:
        case JsonFormat():
            return {"type": "object"}
        case JsonSchemaFormat(json_schema=asked):
            return {"type": "object"} if asked.schema_ is None else asked.schema_
        case _:
            return None


def _check_unserved(body: ChatBody) -> None:
    for name, harmless in _UNSERVED.items():
        value = getattr(body, name)
        if value is not None and value not in harmless:
            raise _unsupported(name, _WHY.get(name, "this server's models answer in text only"))
    for name, choice in (("tools", body.tool_choice), ("functions", body.function_call)):
        if getattr(body, name) and choice != "none":
            raise _unsupported(name, "this server's models call no tools")
    for name in ("tool_choice", "function_call"):
        if getattr(body, name) not in (None, "none", "auto"):
            raise _unsupported(name, "this server's models call no tools")


def _check_images(body: ChatBody) -> None:
    count = pixels = 0
    for i, message in enumerate(body.messages):
        for j, part in enumerate(message.content if isinstance(message.content, list) else []):
            if not isinstance(part, ImagePart):
                continue
            count += 1
            place, url = f"messages[{i}].content[{j}].image_url.url", part.image_url.url
            if not url.startswith(("data:image/", "https://")):
                text = f"Invalid '{place}': expected a data URL (data:image/png;base64,...) or an https URL."
                raise ApiError(400, text, param=place, code="invalid_image_url")
            if len(url) * 3 // 4 > MAX_IMAGE_BYTES + 100:
                text = f"Invalid '{place}': the image is larger than {MAX_IMAGE_BYTES >> 20} MB."
                raise ApiError(400, text, param=place, code="image_too_large")
            pixels += _pixels(url, place)
            if pixels > MAX_PIXELS:
                text = (
                    f"The images up to '{place}' have {pixels:,} pixels together, more than {MAX_PIXELS:,}. Send them "
                    "smaller (models look at far fewer) or in several requests."
                )
                raise ApiError(400, text, param=place, code="too_many_pixels")
    if count > MAX_IMAGES:
        message = f"Too many images in request. Maximum is {MAX_IMAGES}, but got {count}."
        raise ApiError(400, message, param="messages", code="too_many_images")


def _pixels(url: str, place: str) -> int:
    """Read an inlined image's size from its first bytes; 0 of one that is elsewhere.

    Raises:
        ApiError: these are not the bytes of an image, or of one that is too large.
    """
    if url.startswith("https://"):
        return 0
    try:
        # Of a JPEG with a preview or a colour profile in it, the size comes after these.
        found = images.header(base64.b64decode(url.partition(",")[2], validate=True))
    except ImageError as error:
        raise ApiError(400, f"an image cannot be used: {error}", param=place, code="invalid_image") from None
    except ValueError as error:
        text = f"Invalid '{place}': image_url.url holds invalid base64: {error}"
        raise ApiError(400, text, param=place, code="invalid_image_url") from None
    return found.width * found.height


def _speaks_of_json(body: ChatBody) -> bool:
    texts = [message["content"] for message in messages_of(body)]
    parts = [part.get("text", "") for text in texts if isinstance(text, list) for part in text]
    return any("json" in text.lower() for text in [*parts, *texts] if isinstance(text, str))


def _plain_part(part: TextPart | ImagePart | RefusalPart) -> dict[str, Any]:
    match part:
        case ImagePart():
            return {"type": "image_url", "image_url": {"url": part.image_url.url}}
        case RefusalPart():
            return {"type": "text", "text": part.refusal}
        case TextPart():
            return {"type": "text", "text": part.text}


def _invalid(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")


def _unsupported(param: str, why: str) -> ApiError:
    message = f"Unsupported parameter: '{param}' is not supported with this value: {why}."
    return ApiError(400, message, param=param, code="unsupported_parameter")
