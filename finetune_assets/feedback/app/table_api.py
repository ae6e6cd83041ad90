"""What the tables ask the server: who says what about which example, and how good reviewers are.

GET  /review/table    examples of a region, page by page
GET  /review/quality  agreement of the reviewers, and how good each is
POST /review/gold     make an example a gold question (admins)
"""

from __future__ import annotations

import uuid
from dataclasses import asdict
from functools import partial
from typing import Any, get_args

from starlette.requests import Request
from starlette.routing import Route

from finetune_assets.feedback.app.bodies import Gold
from finetune_assets.feedback.app.review_api import RequestError, asked, image_urls, route
from finetune_assets.feedback.app.sign_in import SignIn
from finetune_assets.feedback.store import gold
from finetune_assets.feedback.store.agreement import Agreement, agreement
from finetune_assets.feedback.store.browse import Row, Wanted, browse
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.judging import NewEvent
from finetune_assets.feedback.store.quality import quality
from finetune_assets.feedback.store.reviewers import Reviewer

ROWS = 25
_THUMBNAIL = 144
"""Side in pixels, twice what it takes on the page, for screens with finer pixels."""
_MAX_OFFSET = 10_000_000


def routes(db: FeedbackDatabase, sign_in: SignIn) -> list[Route]:
    """Make the routes over a database."""
    return [
        route("table", sign_in, partial(_table, db)),
        route("quality", sign_in, partial(_quality, db)),
        route("gold", sign_in, partial(_gold, db), Gold),
    ]


def _table(db: FeedbackDatabase, request: Request, reviewer: Reviewer) -> dict[str, Any]:
    task, region, wanted = asked(request, "task", "region", "wanted")
    if wanted not in get_args(Wanted):
        raise RequestError(422, f"wanted must be one of {', '.join(get_args(Wanted))}, got {wanted[:40]!r}")
    text = request.query_params.get("text", "").replace("\0", "")[:1000].strip()
    offset = request.query_params.get("offset", "0")
    start = min(int(offset), _MAX_OFFSET) if offset.isdecimal() and len(offset) < 12 else 0
    found = browse(db, task, region, wanted, text, start, ROWS, reader=reviewer)  # pyright: ignore[reportArgumentType]
    return {"rows": [_row(row) for row in found.rows], "total": found.total, "offset": start}


def _row(row: Row) -> dict[str, Any]:
    item = row.item
    return {
        "id": item.example_id,
        "split": item.split,
        "question": item.question,
        "images": image_urls(item, side=_THUMBNAIL),
        "label": item.label,
        "doubt": item.doubt,
        "options": item.options,
        "model": row.model_answer and asdict(row.model_answer),
        "verdict": row.verdict,
        "answer": row.answer,
        "reviewers": row.reviewers,
        "content": item.content,
    }


def _quality(db: FeedbackDatabase, request: Request, _reviewer: Reviewer) -> dict[str, Any]:
    task, region = asked(request, "task", "region")
    return {
        "region": _agreement(agreement(db, task, region)),
        "task": _agreement(agreement(db, task)),
        "reviewers": [asdict(one) for one in quality(db, task)],
    }


def _agreement(found: Agreement) -> dict[str, Any]:
    return {"n": found.n, "alpha": found.alpha and asdict(found.alpha), "pairs": [asdict(pair) for pair in found.pairs]}


def _gold(db: FeedbackDatabase, body: Gold, reviewer: Reviewer) -> dict[str, Any]:
    if reviewer.role != "admin":
        raise RequestError(403, "Only an admin sets gold questions.")
    said = body.model_dump(include={"task", "region", "example_id", "answer"})
    gold.set_gold(db, NewEvent(**said, key=str(uuid.uuid4()), reviewer=reviewer.name, kind="correct"))
    return {"gold": body.answer}
