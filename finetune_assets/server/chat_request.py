"""The body of a chat completion request: what may stand in it, and what this server does not do yet."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from finetune_assets.server.wire import ApiError, RequestBody

NOT_SERVED: dict[str, tuple[Any, ...]] = {
    "stream": (False,),
    "stream_options": (),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "reasoning_effort": ("none",),
    "verbosity": (),
    "web_search_options": (),
    "moderation": (),
    "store": (False,),
}
"""Parameters of OpenAI's API that would change the answer, with the values besides null that ask for nothing."""
WITHOUT_EFFECT = (
    "metadata", "user", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
    "service_tier",
)  # fmt: skip
"""Parameters of OpenAI's API that do not change the answer."""


class ImageUrl(RequestBody):
    """Where an image is, and how closely to look."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class Part(RequestBody):
    """A piece of a message: text or an image."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class Message(RequestBody):
    """One turn. The fields below `name` are those of an answer sent back as it came; they must be empty."""

    role: Literal["developer", "system", "user", "assistant"]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None


class ChatBody(RequestBody):
    """Body of a request for a completion. Unknown parameters are collected, for `refuse_extras`."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(min_length=1, max_length=4)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None


def check(body: ChatBody) -> None:
    """Refuse what the schema cannot see.

    Raises:
        ApiError: naming the parameter.
    """
    refuse_extras(body.model_extra or {})
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError(400, "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs", code="invalid_value")
    if body.max_tokens is not None and body.max_completion_tokens is not None:
        message = "'max_tokens' (deprecated) and 'max_completion_tokens' cannot both be given."
        raise ApiError(400, message, param="max_tokens", code="invalid_value")
    for i, message in enumerate(body.messages):
        _check_message(message, f"messages[{i}]")


def refuse_extras(extras: dict[str, Any]) -> None:
    """Refuse parameters that are unknown, or known but not served with this value.

    Raises:
        ApiError: naming the parameter.
    """
    for name, value in extras.items():
        if name in NOT_SERVED:
            if value is not None and value not in NOT_SERVED[name]:
                message = f"Unsupported parameter: '{name}' is not supported by this server with this value."
                raise ApiError(400, message, param=name, code="unsupported_parameter")
        elif name not in WITHOUT_EFFECT:
            raise ApiError(400, f"Unknown parameter: '{name}'.", param=name, code="unknown_parameter")


def _check_message(message: Message, place: str) -> None:
    if message.content is None:
        if message.role != "assistant":
            raise _invalid_type(f"{place}.content", "a string or an array")
        return
    if isinstance(message.content, str):
        return
    for j, part in enumerate(message.content):
        where = f"{place}.content[{j}]"
        if getattr(part, part.type) is None:
            missing = f"{where}.{part.type}"
            raise ApiError(
                400, f"Missing required parameter: '{missing}'.", param=missing, code="missing_required_parameter"
            )
        if part.image_url is not None and message.role != "user":
            detail = f"Images are only allowed in messages of the role 'user', not '{message.role}'."
            raise ApiError(400, f"Invalid value: 'image_url'. {detail}", param=f"{where}.type", code="invalid_value")


def _invalid_type(param: str, expected: str) -> ApiError:
    message = f"Invalid type for '{param}': expected {expected}, but got null instead."
    return ApiError(400, message, param=param, code="invalid_type")
