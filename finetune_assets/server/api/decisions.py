"""/v1/decisions: typed questions about an input, answered by the probability of each option, with no text."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from openai.types import Decision

from finetune_assets.server.api.chat import unless_gone
from finetune_assets.server.api.decision_answering import Answered, Answers, DecisionMaker
from finetune_assets.server.api.decision_request import Choice, DecisionBody, Predicate, Question, Score
from finetune_assets.server.api.wire import Asker, WireRoute

router = APIRouter(prefix="/v1/decisions", route_class=WireRoute)


async def maker_of(request: Request) -> DecisionMaker:
    """Return what answers requests for decisions in this app."""
    return request.app.state.decisions


Maker = Annotated[DecisionMaker, Depends(maker_of)]


@router.post("")
async def create(maker: Maker, asker: Asker, request: Request, body: DecisionBody) -> Decision:
    """Answer typed questions about an input."""
    made = await unless_gone(request, maker.decide(body, asker))
    return await asyncio.to_thread(as_decision, body, made)


def as_decision(body: DecisionBody, made: Answers) -> Decision:
    """Put all answers to a request into one object."""
    return Decision.model_validate(
        {
            "answers": [_as_answer(*pair) for pair in zip(body.questions, made.answers, strict=True)],
            "model": body.model,
            "usage": {
                "input_tokens": made.input_tokens,
                "input_tokens_details": {
                    "cached_tokens": made.cached_tokens,
                    "cache_write_tokens": made.kept_tokens,
                },
                "output_tokens": 0,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": made.input_tokens,
            },
        }
    )


def _as_answer(question: Question, answered: Answered) -> dict[str, Any]:
    """Word an answer; whether it is `calibrated` is this server's own word."""
    if answered.refused:
        return {"type": "refusal", "name": question.name}
    p = answered.probabilities
    said: dict[str, Any] = {"type": question.type, "name": question.name, "calibrated": answered.calibrated}
    match question:
        case Predicate():
            return said | {"probability": p[0]}
        case Choice():
            values = [option.value for option in question.choices]
            shares = [{"value": value, "probability": share} for value, share in zip(values, p, strict=True)]
            best = max(range(len(p)), key=p.__getitem__)
            return said | {"choice": values[best], "confidence": p[best], "probabilities": shares}
        case Score():
            levels = enumerate(zip(question.levels, p, strict=True))
            shares = [{"value": n, "label": level.label, "probability": share} for n, (level, share) in levels]
            expected = sum(value * share for value, share in enumerate(p))
            return said | {"score": expected, "confidence": max(p), "probabilities": shares}
