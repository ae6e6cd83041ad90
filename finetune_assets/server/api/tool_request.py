"""What a request says of tools: which functions there are, which of them must or may be called, and what they said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from pydantic import Field, StringConstraints

from finetune_assets.server.api.chat_messages import AssistantMessage, Message, Text, ToolMessage
from finetune_assets.server.api.wire import ApiError, RequestBody

if TYPE_CHECKING:
    from finetune_assets.server.api.chat_request import ChatBody
    from finetune_assets.server.generation.answer_grammar import Calling

MAX_TOOLS = 128
_NO_ARGUMENTS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class FunctionDefinition(RequestBody):
    """A function that may be called."""

    name: Name
    description: Text | None = None
    parameters: dict[str, Any] | None = None
    """A JSON schema of its arguments; without one it takes none."""
    strict: bool | None = None
    """Refuse a schema that cannot be kept to. Arguments fit the schema in any case where it can."""


class FunctionTool(RequestBody):
    """A tool; only functions are served."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(RequestBody):
    """A function by its name."""

    name: Name


class NamedTool(RequestBody):
    """A tool by its name; as `tool_choice`, the one that must be called."""

    type: Literal["function"]
    function: NamedFunction


class AllowedTools(RequestBody):
    """Some of the tools."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Field(min_length=1, max_length=MAX_TOOLS)]


class AllowedToolsChoice(RequestBody):
    """As `tool_choice`: those of the tools that may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


ToolChoice = Annotated[NamedTool | AllowedToolsChoice, Field(discriminator="type")]


def check_tools(body: ChatBody) -> None:
    """Refuse what the schema cannot see.

    Raises:
        ApiError: naming the parameter.
    """
    names = [tool.function.name for tool in body.tools or ()]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise _invalid(f"tools[{place}].function.name", f"The function {name!r} is declared twice.")
    for name in _chosen(body):
        if name not in names:
            raise _invalid("tool_choice", f"'tool_choice' names the function {name!r}, which 'tools' does not declare.")
    if not names and body.tool_choice not in (None, "none", "auto"):
        raise _invalid("tool_choice", "'tool_choice' is only allowed when 'tools' are specified.")
    if body.functions or body.function_call not in (None, "none", "auto"):
        param = "functions" if body.functions else "function_call"
        message = f"Unsupported parameter: '{param}' is the older form of tools; send 'tools' and 'tool_choice'."
        raise ApiError(400, message, param=param, code="unsupported_parameter")
    _check_turns(body.messages)


def calling_of(body: ChatBody) -> Calling | None:
    """Say which functions may be called; None where there are none."""
    from finetune_assets.server.generation.answer_grammar import Calling, Function

    if not body.tools:
        return None
    functions = [
        Function(tool.function.name, tool.function.parameters or _NO_ARGUMENTS, bool(tool.function.strict))
        for tool in body.tools
    ]
    several = body.parallel_tool_calls is not False
    match body.tool_choice:
        case "none":
            return Calling()
        case NamedTool(function=only):
            return Calling(tuple(f for f in functions if f.name == only.name), must=True, several=False)
        case AllowedToolsChoice(allowed_tools=allowed):
            some = tuple(function for function in functions if function.name in _chosen(body))
            return Calling(some, must=allowed.mode == "required", several=several)
        case choice:
            return Calling(tuple(functions), must=choice == "required", several=several)


def declared_tools(body: ChatBody) -> list[dict[str, Any]] | None:
    """Return what the model is told of the tools."""
    from finetune_assets.server.model.tools import tools_of

    return tools_of({"tools": [tool.model_dump(exclude_none=True) for tool in body.tools or ()]})


def _chosen(body: ChatBody) -> list[str]:
    match body.tool_choice:
        case NamedTool(function=only):
            return [only.name]
        case AllowedToolsChoice(allowed_tools=allowed):
            return [tool.function.name for tool in allowed.tools]
        case _:
            return []


def _check_turns(messages: list[Message]) -> None:
    """See that every call has an answer before the talk goes on, and every answer of a tool its call."""
    pending: list[str] = []
    for i, message in enumerate(messages):
        if isinstance(message, ToolMessage):
            if message.tool_call_id not in pending:
                told = "A message with the role 'tool' must answer a call of the assistant's message before it"
                param = f"messages[{i}].tool_call_id"
                raise _invalid(param, f"{told}; no call that is left to answer has the id {message.tool_call_id!r}.")
            pending.remove(message.tool_call_id)
            continue
        _refuse_unanswered(pending)
        if isinstance(message, AssistantMessage):
            pending = [call.id for call in message.tool_calls or ()]
            _check_calls(message, i)
    _refuse_unanswered(pending)


def _check_calls(message: AssistantMessage, i: int) -> None:
    ids = [call.id for call in message.tool_calls or ()]
    if len(set(ids)) < len(ids):
        raise _invalid(f"messages[{i}].tool_calls", "Two calls have the same id; give each its own.")
    for j, call in enumerate(message.tool_calls or ()):
        try:
            given = orjson.loads(call.function.arguments)
        except orjson.JSONDecodeError:
            given = None
        if not isinstance(given, dict):
            param = f"messages[{i}].tool_calls[{j}].function.arguments"
            raise _invalid(param, f"Invalid '{param}': expected a JSON object, written as text.")


def _refuse_unanswered(pending: list[str]) -> None:
    if pending:
        told = "An assistant message with 'tool_calls' must be followed by tool messages responding to each"
        raise _invalid("messages", f"{told} 'tool_call_id'. These have none: {', '.join(pending)[:1000]}.")


def _invalid(param: str, message: str) -> ApiError:
    return ApiError(400, message, param=param, code="invalid_value")
