"""The body of a request to /v1/responses, and the chat completion that it asks for in other words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, StringConstraints, Tag, ValidationError

from finetune_assets.server.api.body_shape import CHAT
from finetune_assets.server.api.chat_messages import MAX_MESSAGES, MAX_PARTS, RefusalPart, Text
from finetune_assets.server.api.chat_request import ChatBody, JsonFormat, PlainFormat
from finetune_assets.server.api.tool_request import MAX_TOOLS, Name
from finetune_assets.server.api.wire import ApiError, Metadata, RequestBody

LOGPROBS = "message.output_text.logprobs"
_UNSERVED: dict[str, tuple[Any, str]] = {
    "stream": (False, "this server streams chat completions"),
    "store": (
        False,
        "this server keeps chat completions, and no responses; send all items of a conversation each time",
    ),
    "background": (False, "this server has batches of chat completions"),
    "previous_response_id": (None, "this server keeps no responses; send all items of the conversation"),
    "conversation": (None, "this server keeps no conversations; send all items"),
    "prompt": (None, "this server keeps no prompts; send the text"),
    "truncation": ("disabled", "nothing of a conversation is left out; send less"),
}
"""What is not served, with the value besides null that asks for nothing, and why."""
_CHAT_NAMES = {
    "messages": "input", "response_format": "text.format", "max_completion_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort", "n": "max_output_tokens", "tools": "tools",
}  # fmt: skip
"""What the fields of a chat completion are called here."""
Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Status = Literal["in_progress", "completed", "incomplete"]


class InputText(RequestBody):
    """A piece of text."""

    type: Literal["input_text"]
    text: Text


class InputImage(RequestBody):
    """An image."""

    type: Literal["input_image"]
    image_url: Annotated[str, StringConstraints(max_length=CHAT.bytes)]
    """A data URL or, where the server was started with --fetch-images, an https URL."""
    detail: Literal["auto", "low", "high"] | None = None
    """Without effect: every image is looked at in the size its model was made for."""


class OutputText(RequestBody):
    """A piece of an earlier answer, which may be sent back as it came."""

    type: Literal["output_text"]
    text: Text
    annotations: Annotated[list[Any], Field(max_length=MAX_PARTS)] | None = None
    logprobs: Annotated[list[Any], Field(max_length=MAX_PARTS)] | None = None


Part = Annotated[InputText | InputImage | OutputText | RefusalPart, Field(discriminator="type")]


class Message(RequestBody):
    """What somebody says or shows, or an earlier answer."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Text | Annotated[list[Part], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
    id: Id | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(RequestBody):
    """A call that the assistant made."""

    type: Literal["function_call"]
    call_id: Id
    name: Name
    arguments: Text
    id: Id | None = None
    status: Status | None = None


class FunctionCallOutput(RequestBody):
    """What a function says to a call."""

    type: Literal["function_call_output"]
    call_id: Id
    output: Text | Annotated[list[InputText], Field(min_length=1, max_length=MAX_PARTS, fail_fast=True)]
    id: Id | None = None
    status: Status | None = None


class ReasoningText(RequestBody):
    """A piece of a thought."""

    type: Literal["reasoning_text"]
    text: Text


class ReasoningItem(RequestBody):
    """What was thought before; most models are not shown it again."""

    type: Literal["reasoning"]
    id: Id | None = None
    summary: Annotated[list[Any], Field(max_length=0)] | None = None
    content: Annotated[list[ReasoningText], Field(max_length=MAX_PARTS)] | None = None
    status: Status | None = None


def type_(item: Any) -> str:
    """Tell the kind of an item; one without a type is a message."""
    found = item.get("type", "message") if isinstance(item, dict) else getattr(item, "type", "")
    return found if isinstance(found, str) else ""


Item = Annotated[
    Annotated[Message, Tag("message")]
    | Annotated[FunctionCall, Tag("function_call")]
    | Annotated[FunctionCallOutput, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(type_),
]


class SchemaFormat(RequestBody):
    """JSON that fits a schema."""

    type: Literal["json_schema"]
    name: Name
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    description: str | None = None
    strict: bool | None = None
    """Without effect: the schema is always kept to."""


class TextConfig(RequestBody):
    """What the answer is to look like."""

    format: Annotated[PlainFormat | JsonFormat | SchemaFormat, Field(discriminator="type")] | None = None
    verbosity: Literal["medium"] | None = None


class Function(RequestBody):
    """A function that may be called."""

    type: Literal["function"]
    name: Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class ChosenFunction(RequestBody):
    """A function by its name."""

    type: Literal["function"]
    name: Name


class AllowedFunctions(RequestBody):
    """Those of the functions that may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[ChosenFunction], Field(min_length=1, max_length=MAX_TOOLS)]


Choice = Annotated[ChosenFunction | AllowedFunctions, Field(discriminator="type")]


class Reasoning(RequestBody):
    """How much the model thinks first."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: None = None
    """Only null: thoughts come as they are."""


class ResponseBody(RequestBody):
    """Body of a request for a response."""

    model: str
    input: Text | Annotated[list[Item], Field(min_length=1, max_length=MAX_MESSAGES, fail_fast=True)]
    instructions: Text | None = None
    """What is said first, above all other items."""
    text: TextConfig | None = None
    tools: Annotated[list[Function], Field(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    include: Annotated[list[Literal["message.output_text.logprobs"]], Field(max_length=8)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    metadata: Metadata | None = None
    stream: bool | None = None
    store: bool | None = None
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | None = None

    # Without effect on the answers of these models.
    user: str | None = None
    safety_identifier: Annotated[str, Field(max_length=64)] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority", "fast"] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None


def as_chat(body: ResponseBody) -> ChatBody:
    """Say the same as a request for a chat completion.

    Raises:
        ApiError: naming what is not served, or does not fit together.
    """
    for name, (harmless, why) in _UNSERVED.items():
        if (value := getattr(body, name)) is not None and value != harmless:
            message = f"Unsupported parameter: '{name}' is not supported with this value: {why}."
            raise ApiError(400, message, param=name, code="unsupported_parameter")
    shown = LOGPROBS in (body.include or ())
    if body.top_logprobs and not shown:
        message = f"'top_logprobs' needs 'include' to hold '{LOGPROBS}'."
        raise ApiError(400, message, param="top_logprobs", code="invalid_value")
    told: dict[str, Any] = {
        "messages": _messages(body), "response_format": _format(body), "tools": _tools(body),
        "tool_choice": _choice(body), "max_completion_tokens": body.max_output_tokens,
        "reasoning_effort": body.reasoning.effort if body.reasoning else None, "logprobs": shown or None,
    }  # fmt: skip
    same = ("model", "parallel_tool_calls", "temperature", "top_p", "top_logprobs", "metadata", "user", "service_tier")
    told |= {name: getattr(body, name) for name in same}
    try:
        return ChatBody.model_validate({name: value for name, value in told.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        param = _CHAT_NAMES.get(str(first["loc"][0]), str(first["loc"][0]))
        raise ApiError(400, f"Invalid '{param}': {first['msg']}.", param=param, code="invalid_value") from None


def in_our_words(error: ApiError) -> ApiError:
    """Name the fields of a refusal as they are called here."""
    refused = error.body
    named = str(refused.param or "").partition("[")[0].partition(".")[0]
    param = _CHAT_NAMES.get(named, refused.param)
    told = {"param": param, "code": refused.code, "kind": refused.type, "headers": dict(error.headers or {})}
    return ApiError(error.status_code, refused.message, **told)


def _messages(body: ResponseBody) -> list[dict[str, Any]]:
    """The items as messages: what the assistant thinks, says and calls in a row is one of them."""
    told: list[dict[str, Any]] = [] if body.instructions is None else [{"role": "system", "content": body.instructions}]
    if isinstance(body.input, str):
        return [*told, {"role": "user", "content": body.input}]
    thought = ""
    for place, item in enumerate(body.input):
        match item:
            case ReasoningItem():
                thought += "".join(part.text for part in item.content or ())
                continue
            case FunctionCallOutput():
                _must_not_wait(thought, place)
                said = item.output if isinstance(item.output, str) else "".join(part.text for part in item.output)
                told.append({"role": "tool", "tool_call_id": item.call_id, "content": said})
            case FunctionCall():
                if not told or told[-1]["role"] != "assistant" or thought:
                    told.append({"role": "assistant", "content": None})
                function = {"name": item.name, "arguments": item.arguments}
                calls = told[-1].setdefault("tool_calls", [])
                calls.append({"id": item.call_id, "type": "function", "function": function})
            case Message():
                _must_not_wait(thought if item.role != "assistant" else "", place)
                told.append({"role": item.role, "content": _content(item, place)})
        if thought and told[-1]["role"] == "assistant":
            told[-1]["reasoning_content"], thought = thought, ""
    _must_not_wait(thought, len(body.input))
    return told


def _must_not_wait(thought: str, place: int) -> None:
    if thought:
        message = "A reasoning item must be followed by what the assistant said or called."
        raise ApiError(400, message, param=f"input[{place - 1}]", code="invalid_value")


def _content(message: Message, place: int) -> str | list[dict[str, Any]]:
    if isinstance(message.content, str):
        return message.content
    known = {"user": (InputText, InputImage), "assistant": (OutputText, RefusalPart)}.get(message.role, (InputText,))
    parts: list[dict[str, Any]] = []
    for number, part in enumerate(message.content):
        if not isinstance(part, known):
            param = f"input[{place}].content[{number}]"
            told = f"Invalid '{param}': messages of the role '{message.role}' hold no '{part.type}'."
            raise ApiError(400, told, param=param, code="invalid_value")
        match part:
            case InputImage():
                parts.append({"type": "image_url", "image_url": {"url": part.image_url}})
            case RefusalPart():
                parts.append({"type": "refusal", "refusal": part.refusal})
            case _:
                parts.append({"type": "text", "text": part.text})
    return parts


def _format(body: ResponseBody) -> dict[str, Any] | None:
    match body.text.format if body.text else None:
        case SchemaFormat() as asked:
            schema = asked.model_dump(by_alias=True, exclude={"type"}, exclude_none=True)
            return {"type": "json_schema", "json_schema": schema}
        case None:
            return None
        case other:
            return {"type": other.type}


def _tools(body: ResponseBody) -> list[dict[str, Any]] | None:
    if body.tools is None:
        return None
    return [{"type": "function", "function": tool.model_dump(exclude={"type"})} for tool in body.tools]


def _choice(body: ResponseBody) -> Any:
    match body.tool_choice:
        case ChosenFunction(name=name):
            return _named(name)
        case AllowedFunctions(mode=mode, tools=tools):
            allowed = {"mode": mode, "tools": [_named(tool.name) for tool in tools]}
            return {"type": "allowed_tools", "allowed_tools": allowed}
        case word:
            return word


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}
