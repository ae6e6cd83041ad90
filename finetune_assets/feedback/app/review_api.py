"""What the page asks the server: JSON about examples, events that it records, and images.

    GET  /review/places   which regions there are, and who asks
    GET  /review/counts   how many examples each queue of a region has for this reviewer, and the task's guidelines
    POST /review/take     lend him the next examples of a queue
    POST /review/open     give him one that he chose in the table
    POST /review/events   record what he said, and lend him the next ones
    GET  /review/number   how a number that he writes is read
    GET  /review/image    an example's image, by the example's id; never by a path

The reviewer is always who is signed in, never what a request says; strangers' bodies are not read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from finetune_assets.dataset import images
from finetune_assets.dataset.answer_reading import read_number
from finetune_assets.dataset.shown import Shown, shown
from finetune_assets.errors import ImageError
from finetune_assets.feedback.app.bodies import Body, Open, Said, Take, fault
from finetune_assets.feedback.app.sign_in import SignIn
from finetune_assets.feedback.store import events, guides, queues
from finetune_assets.feedback.store.browse import find_item
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import Event, NewEvent
from finetune_assets.feedback.store.judging import BLIND_SPLITS
from finetune_assets.feedback.store.offers import ReviewItem, offered_regions
from finetune_assets.feedback.store.queues import PURPOSES, Taken
from finetune_assets.feedback.store.reviewers import Reviewer

AHEAD = 4
"""Examples lent at once: the one that is looked at, and those that the browser loads meanwhile."""
_log = logging.getLogger(__name__)
T = TypeVar("T", bound=Body)


class RequestError(Exception):
    """A request that is refused for good."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def asked(request: Request, *names: str) -> list[str]:
    """Return values of the query, which a request must have.

    Raises:
        RequestError: one is missing, or no text that is stored anywhere.
    """
    values = [request.query_params.get(name, "") for name in names]
    if missing := [name for name, value in zip(names, values, strict=True) if not value or "\0" in value]:
        raise RequestError(422, f"{missing[0]} must be given")
    return values


async def read(request: Request, kind: type[T]) -> T:
    """Read a body.

    Raises:
        RequestError: it is not what it should be.
    """
    try:
        return kind.model_validate_json(await request.body())
    except ValidationError as error:
        raise RequestError(422, fault(error)) from None


def route(path: str, sign_in: SignIn, answer: Callable[..., Any], body: type[Body] | None = None) -> Route:
    """Make a route for who is signed in: `answer` is called in a thread with the request or its body, and with him."""

    async def endpoint(request: Request) -> Response:
        reviewer = await sign_in.who(request)
        if reviewer is None:
            return JSONResponse({"message": "You are not signed in."}, 401)
        given = await read(request, body) if body else request
        found = await run_in_threadpool(answer, given, reviewer)
        return found if isinstance(found, Response) else JSONResponse(found)

    return Route(f"/review/{path}", endpoint, methods=["POST" if body else "GET"])


def routes(db: FeedbackDatabase, sign_in: SignIn) -> list[Route]:
    """Make the routes over a database."""
    return [
        route("places", sign_in, partial(_places, db)),
        route("counts", sign_in, partial(_counts, db)),
        route("take", sign_in, partial(_take, db), Take),
        route("open", sign_in, partial(_open, db), Open),
        route("events", sign_in, partial(_record, db), Said),
        route("number", sign_in, lambda request, _: {"value": read_number(asked(request, "text")[0])}),
        route("image", sign_in, partial(_image, db)),
    ]


def _places(db: FeedbackDatabase, _request: Request, reviewer: Reviewer) -> dict[str, Any]:
    return {"reviewer": asdict(reviewer), "places": [asdict(place) for place in offered_regions(db)]}


def _counts(db: FeedbackDatabase, request: Request, reviewer: Reviewer) -> dict[str, Any]:
    task, region = asked(request, "task", "region")
    counts = queues.counts(db, task, region, reviewer.name)
    if not reviewer.decides:
        counts.pop("conflicts")
    with db.reading() as connection:
        guide = guides.guide_of(connection, task)
    return {"counts": counts, "guidelines": guide.guidelines}


def _take(db: FeedbackDatabase, body: Take, reviewer: Reviewer) -> dict[str, Any]:
    if body.release:
        queues.release(db, reviewer.name)
    return _next(db, body.task, body.region, body.queue, reviewer)


def _open(db: FeedbackDatabase, body: Open, reviewer: Reviewer) -> dict[str, Any]:
    taken = queues.open_example(db, body.task, body.region, body.example_id, reviewer.name)
    if taken is None:
        raise RequestError(409, f"{body.example_id} is not offered to reviewers any more")
    return {"item": _shown(taken)}


def _record(db: FeedbackDatabase, body: Said, reviewer: Reviewer) -> dict[str, Any]:
    if body.kind == "adjudicate" and not reviewer.decides:
        raise RequestError(403, "Only an adjudicator decides what others disagree about.")
    said = body.model_dump(include={"task", "region", "example_id", "kind", "answer", "comment", "seconds"})
    shown = {"queue": body.queue} | ({"content": body.content} if body.content else {})
    undoes = events.number_of(db, str(body.undoes)) if body.undoes else None
    event = NewEvent(**said, key=str(body.key), reviewer=reviewer.name, undoes=undoes, shown=shown)
    stored = events.record(db, event)
    place = (body.task, body.region)
    if body.queue == "table":
        return {"stored": str(body.key), "last": _last(db, *place, reviewer)}
    if body.kind == "undo":
        queues.retake(db, *place, body.example_id, body.queue, reviewer.name)
    return {"stored": str(body.key), "model": _revealed(db, stored)} | _next(db, *place, body.queue, reviewer)


def _revealed(db: FeedbackDatabase, event: Event) -> str | None:
    """What the model says, once a training example is judged; of a held-out one it is not told."""
    item, said = find_item(db, event.task, event.region, event.example_id)
    hidden = event.kind not in ("accept", "correct", "reject") or item.split in BLIND_SPLITS or event.shown.get("gold")
    return None if hidden or said is None else said.answer


def _next(db: FeedbackDatabase, task: str, region: str, queue: queues.Queue, reviewer: Reviewer) -> dict[str, Any]:
    if PURPOSES[queue] == "adjudicate" and not reviewer.decides:
        raise RequestError(403, "Only an adjudicator decides what others disagree about.")
    taken = queues.take(db, task, region, queue, reviewer.name, n=AHEAD)
    return {
        "items": [_shown(one) for one in taken],
        "progress": asdict(queues.progress(db, task, region, queue, reviewer.name)),
        "last": _last(db, task, region, reviewer),
    }


def _last(db: FeedbackDatabase, task: str, region: str, reviewer: Reviewer) -> dict[str, Any] | None:
    last = events.latest(db, reviewer.name, task, region)
    told = ("key", "example_id", "kind", "answer")
    return last and {name: getattr(last, name) for name in told} | {"queue": last.shown.get("queue")}


def _shown(taken: Taken) -> dict[str, Any]:
    """What the browser is told of an example: of a blind one neither label nor model."""
    item, answer = taken.item, taken.model_answer
    said = answer.answer if answer else None
    return {
        "id": item.example_id,
        "content": item.content,
        "question": item.question,
        "image": image_url(item),
        "images": image_urls(item),
        "deep": item.original is not None,
        "kind": item.kind,
        "options": item.options,
        "blind": taken.blind,
        "label": item.label,
        "label_value": item.label_value,
        "doubt": item.doubt,
        "model": asdict(answer) if answer else None,
        "proposed": item.label if said is None else said,
        "judgements": [asdict(judgement) for judgement in taken.judgements],
    }


def image_url(item: ReviewItem, **asked: int) -> str | None:
    """Return the address of an item's image on our own host, at most `side` pixels long; None where it has none."""
    if item.image is None:
        return None
    place = {"task": item.task, "region": item.region, "example": item.example_id, "content": item.content}
    return "/review/image?" + urlencode(place | asked)


def image_urls(item: ReviewItem, **asked: int) -> list[dict[str, str | None]]:
    """List the addresses of an item's images in their order, each with what is said before it.

    The one in question has the same address as if it were alone.
    """
    urls = []
    for at, image in enumerate(_shown_of(item)):
        place = {} if image.image == item.image else {"at": at}
        urls.append({"url": image_url(item, **place, **asked), "label": image.label})
    return urls or ([{"url": image_url(item, **asked), "label": None}] if item.image else [])


def _shown_of(item: ReviewItem) -> list[Shown]:
    return shown({"pictures": item.pictures}) if item.pictures else []


def _path(item: ReviewItem, at: float | None) -> str:
    """Find where an item's image is read from: the one in question, or the one at a place."""
    if item.image is None:
        raise RequestError(404, "The example has no image.")
    if at is None:
        return item.image
    several = _shown_of(item)
    if at not in range(len(several)):
        raise RequestError(404, f"The example has no image {at:g}.")
    return several[int(at)].image


def _image(db: FeedbackDatabase, request: Request, _reviewer: Reviewer) -> Response:
    """Send an example's image; a small one, at most `side` pixels; or of a deep one its values from `low` to `high`."""
    task, region, example = asked(request, "task", "region", "example")
    item, _ = find_item(db, task, region, example)
    try:
        side, low, high, at = (_number(request, name) for name in ("side", "low", "high", "at"))
        if side is not None and not 16 <= side <= 512:
            raise RequestError(422, f"side must be from 16 to 512, got {side:g}")
        path = _path(item, at)
        if item.original and request.query_params.get("range"):
            return JSONResponse(images.value_range(images.read(item.original)))
        if item.original and low is not None and high is not None:
            data, mime = images.in_window(images.read(item.original), (low, high))
        else:
            data, mime = images.for_browser(images.read(path), int(side) if side else None)
    except ImageError as error:
        _log.warning("image of %s/%s/%s: %s", task, region, example, error)
        raise RequestError(404, f"The image cannot be shown ({error.reason}).") from error
    # The address names the content, so that what is behind it stays the same.
    return Response(data, media_type=mime, headers={"Cache-Control": "private, max-age=86400, immutable"})


def _number(request: Request, name: str) -> float | None:
    given = request.query_params.get(name)
    if given is None:
        return None
    try:
        value = float(given)
    except ValueError:
        value = float("nan")
    if not abs(value) < 1e12:
        raise RequestError(422, f"{name} must be a number, got {given[:40]!r}")
    return value
