"""What the page for reviewing asks the server: JSON about examples, events that it records, and images.

    GET  /review/counts   how many examples each queue of a region has for this reviewer
    POST /review/take     lend him the next examples of a queue
    POST /review/events   record what he said, and lend him the next ones
    GET  /review/image    an example's image, by the example's id; never by a path

Plain routes beside Gradio's own events, as these would take a queue, a stream and two requests for each key that is
pressed. They stand behind the same sign-in. The reviewer is always who is signed in, never what a request says.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, HTTPException, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from finetune_assets.dataset import images
from finetune_assets.errors import ImageError
from finetune_assets.feedback.store import events, queues
from finetune_assets.feedback.store.browse import find_item
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import Event, NewEvent
from finetune_assets.feedback.store.offers import ReviewItem
from finetune_assets.feedback.store.queues import Queue, Taken

AHEAD = 4
"""Examples lent at once: the one that is looked at, and those that the browser loads meanwhile."""
_Text = Annotated[str, Field(max_length=20_000)]
_log = logging.getLogger(__name__)
router = APIRouter(prefix="/review")
"""Needs the app's state: `db`, and `signed_in(request)`, which names the reviewer, or None."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Shown(_Body):
    """What was on the screen when the reviewer answered."""

    queue: Queue
    label: str | None = None
    model: str | None = None
    model_answer: str | None = None
    probability: float | None = None
    content: str | None = None


class Take(_Body):
    """Which queue of which region."""

    task: str
    region: str
    queue: Queue
    release: bool = False
    """Whether the examples that were lent to him in other queues go back first."""


class Said(_Body):
    """What a reviewer did with an example, and the queue he is in."""

    key: UUID
    task: str
    region: str
    queue: Queue
    example_id: str
    kind: Literal["accept", "correct", "reject", "skip", "comment", "undo", "adjudicate"]
    answer: _Text | None = None
    comment: _Text | None = None
    undoes: int | None = None
    seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    shown: Shown


def _database(request: Request) -> FeedbackDatabase:
    return request.app.state.db


def _reviewer(request: Request) -> str:
    if (name := request.app.state.signed_in(request)) is None:
        raise HTTPException(HTTPStatus.UNAUTHORIZED, "You are not signed in.")
    return name


Database = Annotated[FeedbackDatabase, Depends(_database)]
Reviewer = Annotated[str, Depends(_reviewer)]


@router.get("/counts")
def count(task: str, region: str, db: Database, reviewer: Reviewer) -> dict[str, Any]:
    """Count what waits for this reviewer, by queue."""
    return {"reviewer": reviewer, "counts": queues.counts(db, task, region, reviewer)}


@router.post("/take")
def take(body: Take, db: Database, reviewer: Reviewer) -> dict[str, Any]:
    """Lend the next examples."""
    if body.release:
        queues.release(db, reviewer)
    return _next(db, body, reviewer)


@router.post("/events")
def record(body: Said, db: Database, reviewer: Reviewer) -> dict[str, Any]:
    """Record an event, and lend the next examples; after an undo the undone one first."""
    said = body.model_dump(exclude={"queue", "key"}, exclude_unset=True)
    events.record(db, NewEvent(**said, key=str(body.key), reviewer=reviewer))
    if body.kind == "undo" and body.shown.queue == body.queue:
        queues.retake(db, body.task, body.region, body.example_id, body.queue, reviewer)
    return _next(db, body, reviewer)


@router.get("/image", dependencies=[Depends(_reviewer)])
def image(
    task: str, region: str, example: str, db: Database, side: Annotated[int | None, Query(ge=16, le=512)] = None
) -> Response:
    """Send an example's image, or a small one of at most `side` pixels."""
    item = find_item(db, task, region, example)
    if item.image is None:
        raise HTTPException(HTTPStatus.NOT_FOUND, "The example has no image.")
    try:
        data, mime = images.for_browser(images.read(item.image), side)
    except ImageError as error:
        _log.warning("image of %s/%s/%s: %s", task, region, example, error)
        raise HTTPException(HTTPStatus.NOT_FOUND, f"The image cannot be shown ({error.reason}).") from error
    # The address names the content, so that what is behind it stays the same.
    return Response(data, media_type=mime, headers={"Cache-Control": "private, max-age=86400, immutable"})


def image_url(item: ReviewItem, side: int | None = None) -> str | None:
    """Return the address of an item's image on our own host; None where it has none."""
    if item.image is None:
        return None
    asked = {"task": item.task, "region": item.region, "example": item.example_id, "content": item.content}
    return "/review/image?" + urlencode(asked | ({"side": side} if side else {}))


def _next(db: FeedbackDatabase, where: Take | Said, reviewer: str) -> dict[str, Any]:
    place = (where.task, where.region)
    taken = queues.take(db, *place, where.queue, reviewer, n=AHEAD)
    last = events.latest(db, reviewer, *place)
    return {
        "items": [_shown(one) for one in taken],
        "progress": asdict(queues.progress(db, *place, where.queue, reviewer)),
        "last": last and _event(last),
    }


def _shown(taken: Taken) -> dict[str, Any]:
    """What the browser is told of an example: of a blind one neither label nor model."""
    item, answer, label = taken.item, taken.model_answer, taken.item.label
    said = answer.answer if answer else None
    return {
        "id": item.example_id,
        "content": item.content,
        "question": item.question,
        "image": image_url(item),
        "kind": item.kind,
        "options": item.options,
        "blind": taken.blind,
        "label": label,
        "label_value": item.label_value,
        "doubt": item.doubt,
        "model": answer.model if answer else None,
        "answer": said,
        "probability": answer.probability if answer else None,
        "base_answer": answer.base_answer if answer else None,
        "proposed": label if said is None else said,
        "judgements": [asdict(judgement) for judgement in taken.judgements],
    }


def _event(event: Event) -> dict[str, Any]:
    told = ("number", "example_id", "kind", "answer")
    return {name: getattr(event, name) for name in told} | {"queue": event.shown.get("queue")}
