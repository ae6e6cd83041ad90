"""The body of a chat completion request: what may stand in it, what has no effect here, and what is refused."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from finetune_assets.server.api.chat_messages import (
    MAX_MESSAGES,
    MAX_PARTS,
    AssistantMessage,
    Message,
    Text,
    TextPart,
    images_of,
    plain_messages,
)
from finetune_assets.server.api.image_limits import check_images
from finetune_assets.server.api.tool_request import MAX_TOOLS, FunctionTool, ToolChoice, check_tools
from finetune_assets.server.api.wire import ApiError, Metadata, RequestBody

MAX_SCHEMA_CHARACTERS = 120_000
"""Of all names and texts in a schema together, as with OpenAI: longer ones take minutes to compile."""
MAX_TOKENS = 131_072
"""Tokens that all choices of a request may have together."""

_UNSERVED: dict[str, tuple[Any, ...]] = {
    "verbosity": ("medium",),
    "modalities": (["text"],),
    "audio": (),
    "web_search_options": (),
    "moderation": (),
}
"""Parameters that would change the answer, with the values besides null that ask for nothing."""

_WHY = {
    "verbosity": "this server's models are as long as they were taught to be",
}

Penalty = Annotated[float, Field(ge=-2, le=2)]
Stop = Annotated[str, StringConstraints(min_length=1)]
TokenId = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")]


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

    tools: Annotated[list[FunctionTool], Field(max_length=MAX_TOOLS)] | None = None
    """Functions that the model may call, where its chat template knows them."""
    tool_choice: Literal["none", "auto", "required"] | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[dict[str, Any]], Field(max_length=128)] | None = None
    function_call: Literal["none", "auto"] | dict[str, Any] | None = None
    modalities: Annotated[list[Literal["text", "audio"]], Field(min_length=1)] | None = None
    audio: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    moderation: dict[str, Any] | None = None
    store: bool | None = None
    """Keep the answer with its conversation for 30 days, for this key."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """How much the model thinks first, where its chat template knows that; by default as `models.yaml` says of it."""
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
        if isinstance(message, AssistantMessage) and not (
            message.tool_calls or message.content is not None or message.refusal is not None
        ):
            param = f"messages[{i}].content"
            text = f"Invalid type for '{param}': expected a string or an array, but got null instead."
            raise ApiError(400, text, param=param, code="invalid_type")
    check_tools(body)
    check_images(images_of(body.messages), "messages")
    schemas = [json_schema_of(body), *(tool.model_dump() for tool in body.tools or [])]
    if _characters(schemas) > MAX_SCHEMA_CHARACTERS:
        message = f"Names and texts of schemas have more than {MAX_SCHEMA_CHARACTERS:,} characters together."
        raise ApiError(400, message, param="response_format", code="invalid_json_schema")
    if isinstance(body.response_format, JsonFormat) and not _speaks_of_json(body):
        message = (
            "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
        )
        raise ApiError(400, message, param="messages")


def json_schema_of(body: ChatBody) -> dict[str, Any] | None:
    """Return the schema that the answer must fit; None where any text will do."""
    match body.response_format:
        case JsonFormat():
            return {"type": "object"}
        case JsonSchemaFormat(json_schema=asked):
            return {"type": "object"} if asked.schema_ is None else asked.schema_
        case _:
            return None


def _characters(value: Any) -> int:
    match value:
        case str():
            return len(value)
        case dict():
            return sum(len(name) + _characters(inner) for name, inner in value.items())
        case list():
            return sum(map(_characters, value))
        case _:
            return 0


def _check_unserved(body: ChatBody) -> None:
    for name, harmless in _UNSERVED.items():
        value = getattr(body, name)
        if value is not None and value not in harmless:
            raise _unsupported(name, _WHY.get(name, "this server's models answer in text only"))


def _speaks_of_json(body: ChatBody) -> bool:
    texts = [message["content"] for message in plain_messages(body.messages)]
    parts = [part.get("text", "") for text in texts if isinstance(text, list) for part in text]
    return any("json" in text.lower() for text in [*parts, *texts] if isinstance(text, str))


def _invalid(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")


def _unsupported(param: str, why: str) -> ApiError:
    message = f"Unsupported parameter: '{param}' is not supported with this value: {why}."
    return ApiError(400, message, param=param, code="unsupported_parameter")
