"""/v1/systemone: the older form of decisions, with named questions about a state; for clients of TypeSafe's protocol.

A `noul` is a predicate, the criteria of a `choice` its options, those of a `score` its levels. Images come as assets,
in base64 or as parts of a form whose part `request` is the JSON, and stand where their placeholders do.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, ValidationError
from starlette.datastructures import UploadFile

from finetune_assets.server.api.body_shape import CHAT, DECISIONS, BodyShapeError, parse
from finetune_assets.server.api.chat import unless_gone
from finetune_assets.server.api.decision_answering import Answered
from finetune_assets.server.api.decision_request import MAX_CHOICES, MAX_LEVELS, MAX_QUESTIONS, DecisionBody
from finetune_assets.server.api.decisions import Maker
from finetune_assets.server.api.image_limits import MAX_IMAGES
from finetune_assets.server.api.request_errors import explain
from finetune_assets.server.api.wire import ApiError, Asker, RequestBody, WireRoute

router = APIRouter(prefix="/v1/systemone", route_class=WireRoute)

Content = str | dict[str, Any] | list[Any]
_FORM = "multipart/form-data"


class Described(RequestBody):
    """What counts as yes, and what as no."""

    true: Content | None = None
    false: Content | None = None


class Noul(RequestBody):
    """Asks whether a statement about the state is true."""

    type: Literal["noul"]
    instructions: Content | None = None
    criteria: Described | None = None


class Choice(RequestBody):
    """Asks which of the named options fits."""

    type: Literal["choice"]
    instructions: Content | None = None
    criteria: Annotated[dict[str, Content | None], Field(min_length=2, max_length=MAX_CHOICES)]


class Score(RequestBody):
    """Asks which of the ordered levels fits; the first one is 0."""

    type: Literal["score"]
    instructions: Content | None = None
    criteria: Annotated[list[Content], Field(min_length=2, max_length=MAX_LEVELS)]


class Asset(RequestBody):
    """An image."""

    type: Literal["image"] | None = None
    format: Literal["png", "jpg", "jpeg"] | None = None
    data_base64: Annotated[str, Field(max_length=CHAT.bytes)] | None = None
    part: str | None = None


class SystemOneBody(RequestBody):
    """Body of a request."""

    model: str
    state: Content
    questions: Annotated[
        dict[str, Annotated[Noul | Choice | Score, Field(discriminator="type")]],
        Field(min_length=1, max_length=MAX_QUESTIONS),
    ]
    assets: Annotated[dict[str, Asset], Field(min_length=1, max_length=MAX_IMAGES)] | None = None
    calibrate: bool = True
    """As for decisions."""


class SystemOneAnswer(BaseModel):
    """The answers by the names of their questions."""

    model: str
    answers: dict[str, dict[str, Any]]
    usage: dict[str, int]


@router.post("", response_model=SystemOneAnswer)
async def create(maker: Maker, asker: Asker, request: Request) -> SystemOneAnswer | JSONResponse:
    """Answer named questions about a state."""
    said, files = await _read(request)
    try:
        asked = SystemOneBody.model_validate(said)
        body = DecisionBody.model_validate(_as_decision(asked, _images(asked.assets or {}, files)))
    except ValidationError as invalid:
        return _refused([{**error, "loc": ("body", *error["loc"])} for error in invalid.errors()], said)
    made = await unless_gone(request, maker.decide(body, asker))
    answers = {
        name: _answer(question, answered)
        for (name, question), answered in zip(asked.questions.items(), made.answers, strict=True)
    }
    return SystemOneAnswer(
        model=asked.model, answers=answers, usage={"input_tokens": made.input_tokens, "output_tokens": 0}
    )


def _refused(found: list[dict[str, Any]], said: Any) -> JSONResponse:
    """Say what is wrong in both protocols' words: `detail` is this one's."""
    problem = explain(found, said)
    detail = [{"loc": error["loc"], "msg": error["msg"], "type": error["type"]} for error in found[:100]]
    error = ApiError(422, problem.message, param=problem.param, code=problem.code)
    return JSONResponse(error.content() | {"detail": detail}, 422)


async def _read(request: Request) -> tuple[Any, dict[str, bytes]]:
    """Return the JSON of a request, and the images that came beside it, by the names of their parts."""
    if not request.headers.get("content-type", "").startswith(_FORM):
        try:
            return await request.json(), {}
        except ValueError:
            raise ApiError(400, "We could not parse the JSON body of your request.") from None
    async with request.form(max_files=MAX_IMAGES, max_fields=1, max_part_size=CHAT.bytes) as form:
        files = {name: await part.read() for name, part in form.items() if isinstance(part, UploadFile)}
        said = form.get("request")
    said = files.pop("request", said)
    if isinstance(said, UploadFile) or said is None:
        raise ApiError(400, "The form has no part 'request' with the JSON of the request.", param="request")
    try:
        return parse(said.encode() if isinstance(said, str) else said, DECISIONS), files
    except BodyShapeError as error:
        raise ApiError(400, str(error), code=error.code) from None
    except ValueError:
        raise ApiError(400, "We could not parse the JSON of the part 'request'.", param="request") from None


def _images(assets: Mapping[str, Asset], files: dict[str, bytes]) -> dict[str, str]:
    """Return the data URL of each asset, by its placeholder."""
    urls = {}
    for name, asset in assets.items():
        place = f"assets.{name[:100]}"
        if not name:
            raise ApiError(400, "The placeholder of an asset is empty.", param="assets", code="invalid_value")
        if asset.part is not None:
            if asset.part not in files:
                raise ApiError(400, f"There is no part {asset.part[:100]!r}.", param=f"{place}.part")
            payload = base64.b64encode(files[asset.part]).decode()
        elif asset.data_base64 is not None:
            payload = asset.data_base64
        else:
            raise ApiError(400, f"'{place}' has neither 'data_base64' nor 'part'.", param=place)
        urls[name] = f"data:image/{asset.format or 'png'};base64,{payload}"
    return urls


def _as_decision(asked: SystemOneBody, urls: dict[str, str]) -> dict[str, Any]:
    """Say the same as a request for decisions."""
    questions = [_question(name, question, urls) for name, question in asked.questions.items()]
    said = {"role": "user", "content": _parts(asked.state, urls)}
    return {"model": asked.model, "input": [said], "questions": questions, "calibrate": asked.calibrate}


def _question(name: str, question: Noul | Choice | Score, urls: dict[str, str]) -> dict[str, Any]:
    asked = [] if question.instructions is None else _parts(question.instructions, urls)
    match question:
        case Noul():
            described = question.criteria or Described()
            for word, told in (("Yes", described.true), ("No", described.false)):
                asked += [] if told is None else [_text(f"\n{word} means: "), *_parts(told, urls)]
            if not asked:
                message = f"The question {name[:100]!r} needs instructions, or criteria that describe an outcome."
                raise ApiError(400, message, param=f"questions.{name[:100]}", code="missing_required_parameter")
            return {"type": "predicate", "instructions": asked}
        case Choice():
            options = [
                {"value": option, **({} if told is None else {"description": _words(told)})}
                for option, told in question.criteria.items()
            ]
            return {"type": "choice", "instructions": asked or "Which option fits best?", "choices": options}
        case Score():
            levels = [{"label": _words(level)} for level in question.criteria]
            return {"type": "score", "instructions": asked or "Which level fits best?", "levels": levels}


def _answer(question: Noul | Choice | Score, answered: Answered) -> dict[str, Any]:
    p = answered.probabilities
    said: dict[str, Any] = {"type": question.type, "calibrated": answered.calibrated}
    match question:
        case Noul():
            return said | {"noul": p[0]}
        case Choice():
            best = max(range(len(p)), key=p.__getitem__)
            shares = dict(zip(question.criteria, p, strict=True))
            return said | {"choice": list(question.criteria)[best], "confidence": p[best], "probabilities": shares}
        case Score():
            shares = {str(level): share for level, share in enumerate(p)}
            legend = {str(level): told for level, told in enumerate(question.criteria)}
            expected = sum(level * share for level, share in enumerate(p))
            return said | {"score": expected, "legend": legend, "confidence": max(p), "probabilities": shares}


def _parts(content: Content, urls: dict[str, str]) -> list[dict[str, Any]]:
    """Cut a content at the placeholders of images."""
    text = _words(content)
    if not urls:
        return [_text(text)]
    longest_first = sorted(urls, key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, longest_first))})", text)
    return [
        {"type": "input_image", "image_url": urls[piece]} if number % 2 else _text(piece)
        for number, piece in enumerate(pieces)
        if piece
    ]


def _words(content: Content) -> str:
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def _text(text: str) -> dict[str, Any]:
    return {"type": "input_text", "text": text}
