"""/v1/fine_tuning/alpha/graders: try a grader before it trains a model."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse
from pydantic import ValidationError

from finetune_assets.server.api.chat import unless_gone
from finetune_assets.server.api.chat_completions import Completions
from finetune_assets.server.api.chat_messages import Text
from finetune_assets.server.api.chat_request import ChatBody
from finetune_assets.server.api.grader_format import GraderBody, described, usable
from finetune_assets.server.api.wire import ApiError, Asker, RequestBody, WireRoute
from finetune_assets.server.database.usage import Account
from finetune_assets.server.grading.graders import REPLY, USUAL_TOKENS, Graded, Grader, Question, Reply
from finetune_assets.server.grading.template import Values
from finetune_assets.server.services import Served

router = APIRouter(prefix="/v1/fine_tuning/alpha/graders", route_class=WireRoute)
_FLAGS = (
    "formula_parse_error", "sample_parse_error", "truncated_observation_error", "unresponsive_reward_error",
    "invalid_variable_error", "other_error", "python_grader_server_error", "python_grader_runtime_error",
    "model_grader_server_error", "model_grader_refusal_error", "model_grader_parse_error",
)  # fmt: skip
_DETAILS = ("python_grader_server_error_type", "python_grader_runtime_error_details")


class RunBody(RequestBody):
    """An answer to grade."""

    grader: GraderBody
    model_sample: Text
    """What a model said: `sample.output_text` of templates, and `sample.output_json` where it is JSON."""
    item: dict[str, Any] | None = None
    """What `item` of templates is."""


class ValidateBody(RequestBody):
    """A grader to look at."""

    grader: GraderBody


async def _of_app(request: Request) -> Completions:
    return request.app.state.completions


@router.post("/run")
async def run(
    completions: Annotated[Completions, Depends(_of_app)], served: Served, asker: Asker, request: Request, body: RunBody
) -> GraderRunResponse:
    """Grade one answer."""
    began = time.monotonic()
    grader = await asyncio.to_thread(usable, body.grader, served, "grader")
    values = Values(body.item or {}, body.model_sample)
    replies = [
        await unless_gone(request, _reply(completions, question, asker)) for question in grader.questions(values)
    ]
    graded = await asyncio.to_thread(grader.grade, values, iter(replies))
    return _as_answer(grader, graded, time.monotonic() - began)


@router.post("/validate", response_model=GraderValidateResponse)
def validate(served: Served, body: ValidateBody) -> JSONResponse:
    """Look at a grader as a job does, and grade nothing."""
    usable(body.grader, served, "grader")
    # Graders by name, as OpenAI's guide writes them, have no place in the type of its SDK.
    return JSONResponse({"grader": described(body.grader)})


async def _reply(completions: Completions, question: Question, asker: Account) -> Reply:
    """Ask a model. What is wrong with the question is told in the grade, as it depends on the answer and the item."""
    sampling = dict(question.sampling)
    tokens = sampling.pop("max_completions_tokens", USUAL_TOKENS)
    asked = {"model": question.model, "messages": question.messages, "max_completion_tokens": tokens} | sampling
    schema = {"name": "score", "schema": REPLY}
    try:
        body = ChatBody.model_validate(asked | {"response_format": {"type": "json_schema", "json_schema": schema}})
        completion = await completions.complete(body, asker)
    except ValidationError as error:
        return Reply("", error=str(error.errors(include_url=False, include_input=False)[0]["msg"]))
    except ApiError as error:
        if error.status_code not in (400, 404):
            raise
        return Reply("", error=error.body.message)
    used: Any = completion.usage
    cached = used.prompt_tokens_details.cached_tokens
    text = completion.choices[0].message.content or ""
    return Reply(text, used.prompt_tokens, used.completion_tokens, cached)


def _as_answer(grader: Grader, graded: Graded, seconds: float) -> GraderRunResponse:
    errors: dict[str, Any] = {flag: flag in graded.errors for flag in _FLAGS} | dict.fromkeys(_DETAILS)
    used: dict[str, dict[str, int]] = {}
    for model, reply in graded.asked:
        counts = used.setdefault(model, dict.fromkeys(("prompt_tokens", "completion_tokens", "cached_tokens"), 0))
        for name in counts:
            counts[name] += getattr(reply, name)
    usage = {model: n | {"total_tokens": n["prompt_tokens"] + n["completion_tokens"]} for model, n in used.items()}
    return GraderRunResponse.model_validate(
        {
            "reward": graded.reward,
            "metadata": {
                "name": grader.name,
                "type": grader.type,
                "errors": errors | {"model_grader_server_error_details": graded.details},
                "execution_time": seconds,
                "scores": {},
                "token_usage": sum(n["total_tokens"] for n in usage.values()) if usage else None,
                "sampled_model_name": next(iter(usage), None),
            },
            "sub_rewards": {name: part.reward for name, part in graded.parts.items()},
            "model_grader_token_usage_per_model": usage,
        }
    )
