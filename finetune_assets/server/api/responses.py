"""/v1/responses: chat completions in the words of OpenAI's later API. Nothing is kept, and nothing is streamed."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from finetune_assets.server.api.chat import unless_gone
from finetune_assets.server.api.chat_completions import Completions
from finetune_assets.server.api.responses_request import ResponseBody, as_chat, in_our_words
from finetune_assets.server.api.wire import ApiError, Asker, WireRoute
from finetune_assets.server.database.schema import new_id

router = APIRouter(prefix="/v1/responses", route_class=WireRoute)
_LOGPROB = ("token", "logprob", "bytes")


async def _of_app(request: Request) -> Completions:
    return request.app.state.completions


@router.post("", response_model=Response)
async def create(
    completions: Annotated[Completions, Depends(_of_app)], asker: Asker, request: Request, body: ResponseBody
) -> Response:
    """Answer a conversation, by something said or by calls of functions."""
    began = time.time()
    asked = as_chat(body)
    try:
        completion = await unless_gone(request, completions.complete(asked, asker))
    except ApiError as error:
        raise in_our_words(error) from error
    return as_response(body, completion, began)


def as_response(body: ResponseBody, completion: ChatCompletion, began: float) -> Response:
    """Put a completion into the words of this API."""
    answered = completion.to_dict()
    choice: Any = answered["choices"]
    cut = choice[0]["finish_reason"] == "length"
    said = body.model_dump(mode="json", by_alias=True, exclude_unset=True)
    shared = {name: said.get(name) for name in ("instructions", "max_output_tokens", "user", "safety_identifier")}
    tools = [{"parameters": None, "strict": None} | tool for tool in said.get("tools") or ()]
    return Response.model_validate(
        shared
        | {
            "id": new_id("resp_"),
            "object": "response",
            "created_at": float(int(began)),
            "completed_at": None if cut else float(int(time.time())),
            "status": "incomplete" if cut else "completed",
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "error": None,
            "model": body.model,
            "output": _output(choice[0], "incomplete" if cut else "completed"),
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "temperature": 1.0 if body.temperature is None else body.temperature,
            "top_p": 1.0 if body.top_p is None else body.top_p,
            "top_logprobs": body.top_logprobs or 0,
            "tool_choice": said.get("tool_choice") or "auto",
            "tools": tools,
            "text": {"format": {"type": "text"}} | (said.get("text") or {}),
            "reasoning": {"effort": body.reasoning.effort if body.reasoning else None, "summary": None},
            "metadata": body.metadata or {},
            "truncation": "disabled",
            "background": False,
            "store": False,
            "previous_response_id": None,
            "service_tier": "default",
            "usage": _usage(answered["usage"]),
        }
    )


def _output(choice: dict[str, Any], status: str) -> list[dict[str, Any]]:
    """What was thought, said and called, in this order."""
    message, items = choice["message"], []
    if thought := message.get("reasoning_content"):
        told = [{"type": "reasoning_text", "text": thought}]
        items.append({"id": new_id("rs_"), "type": "reasoning", "summary": [], "content": told})
    calls = message.get("tool_calls") or []
    if message["content"] or not calls:
        logprobs = [_logprob(token) for token in (choice["logprobs"] or {}).get("content") or ()]
        text = {"type": "output_text", "text": message["content"] or "", "annotations": [], "logprobs": logprobs}
        said = {"id": new_id("msg_"), "type": "message", "role": "assistant", "status": status, "content": [text]}
        items.append(said)
    for call in calls:
        made = {"id": new_id("fc_"), "type": "function_call", "call_id": call["id"], "status": status}
        items.append(made | call["function"])
    return items


def _logprob(token: dict[str, Any]) -> dict[str, Any]:
    top = [{name: other[name] for name in _LOGPROB} for other in token["top_logprobs"]]
    return {name: token[name] for name in _LOGPROB} | {"top_logprobs": top}


def _usage(used: Any) -> dict[str, Any]:
    cached = (used.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
    reasoning = (used.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
    return {
        "input_tokens": used["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": used["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": used["total_tokens"],
    }
