"""What base model, fine-tuned model, label and people say about a region's examples, page by page."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, and_, func, not_, or_, select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import UnknownExampleError
from finetune_assets.feedback.store.judging import BLIND_SPLITS, JUDGEMENTS
from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem, model_answer, review_item
from finetune_assets.feedback.store.queues import hand
from finetune_assets.feedback.store.reviewers import Reviewer
from finetune_assets.feedback.store.schema import decisions, items, standings
from finetune_assets.task import HELD_OUT

Wanted = Literal["all", "model_wrong", "disagreement", "reviewed", "undecided"]
Verdict = Literal["answer", "reject", "conflict", "waits"]

_DECIDED = and_(decisions.c.item == items.c.number, decisions.c.content == items.c.content)
_OTHER_THAN_PEOPLE = or_(items.c.model_answer.is_(None), items.c.model_answer != decisions.c.answer)
_OTHER_THAN_LABEL = or_(
    items.c.disagreement.is_not(None), and_(items.c.model_answer.is_(None), items.c.label.is_not(None))
)
_BLIND = items.c.split.in_(BLIND_SPLITS)
_JUDGED = (
    select(standings.c.item)
    .where(standings.c.item == items.c.number, standings.c.kind.in_(JUDGEMENTS))
    .correlate(items)
    .exists()
)
_WANTED: dict[Wanted, ColumnElement[bool]] = {
    "all": items.c.offered,
    # What people say counts; where they have decided nothing, what the label says. A rejected example has no truth.
    "model_wrong": and_(
        items.c.model.is_not(None),
        or_(
            and_(decisions.c.answer.is_not(None), _OTHER_THAN_PEOPLE),
            and_(decisions.c.item.is_(None), _OTHER_THAN_LABEL),
        ),
    ),
    "disagreement": or_(items.c.disagreement.is_not(None), items.c.base_answer != items.c.model_answer),
    "reviewed": or_(_JUDGED, items.c.decided),
    "undecided": and_(
        not_(items.c.decided), or_(items.c.doubt.is_not(None), items.c.n_judgements > 1, and_(_BLIND, _JUDGED))
    ),
}
_SEARCHED = (
    items.c.example_id, items.c.question, items.c.label, items.c.model_answer, items.c.base_answer, decisions.c.answer,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Row:
    """What everybody says about an example."""

    item: ReviewItem
    model_answer: ModelAnswer | None
    verdict: Verdict | None
    """What its reviewers have decided; None where nobody has judged it. `waits`: for a second blind judgement."""
    answer: str | None
    """The answer that they have decided on."""
    reviewers: tuple[str, ...]
    """Who has judged it, the first one first."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some of the examples that were asked for."""

    rows: tuple[Row, ...]
    total: int
    """How many they are on all pages."""


def find_item(db: FeedbackDatabase, task: str, region: str, example_id: str) -> tuple[ReviewItem, ModelAnswer | None]:
    """Return an example that is or was offered, and what the model says about it.

    Raises:
        UnknownExampleError: it never was.
    """
    place = (items.c.task == task, items.c.region == region, items.c.example_id == example_id)
    with db.reading() as connection:
        if (row := connection.execute(select(items).where(*place)).first()) is None:
            raise UnknownExampleError(f"{task}/{region}/{example_id} was never offered to reviewers")
    return review_item(row._mapping), model_answer(row._mapping)


def browse(
    db: FeedbackDatabase,
    task: str,
    region: str,
    wanted: Wanted = "all",
    text: str = "",
    offset: int = 0,
    limit: int = 25,
    *,
    reader: Reviewer | None = None,
) -> Page:
    """List examples by their ids.

    A reviewer who may still judge a held-out example blind is told neither its label nor what models say about it; of
    others it is kept that they have seen it.

    Args:
        db: the database.
        task: the task.
        region: the region.
        wanted: all; those whose model is wrong by what people say, else by the label; those about which the model
            disagrees with its base or the label; those that were judged; those that wait for a decision.
        text: part of an id, a question or an answer, in whatever case.
        offset: how many to leave out.
        limit: how many to return at most.
        reader: who reads the list; None is no person.
    """
    where = [items.c.task == task, items.c.region == region, items.c.offered, _WANTED[wanted]]
    hides = reader is not None and not reader.decides
    if hides and wanted in ("model_wrong", "disagreement"):
        where.append(not_(_BLIND))
    searched = _SEARCHED[:2] if hides else _SEARCHED
    if text:
        where.append(or_(*(column.icontains(text, autoescape=True) for column in searched)))
    joined = items.outerjoin(decisions, _DECIDED)
    said = (decisions.c.verdict, decisions.c.answer.label("decided_answer"))
    page = select(items, *said).select_from(joined).where(*where).order_by(items.c.example_id)
    with db.writing() if reader and reader.decides else db.reading() as connection:
        total = connection.scalar(select(func.count()).select_from(joined).where(*where)) or 0
        found = connection.execute(page.offset(offset).limit(limit)).mappings().all()
        judged = _reviewers(connection, [row["number"] for row in found])
        if reader and reader.decides:
            for row in found:
                if row["split"] in BLIND_SPLITS and row["model"] is not None:
                    hand(connection, row["number"], row["content"], reader.name, "table", True, time.time())
    return Page(rows=tuple(_row(row, judged[row["number"]], hides) for row in found), total=total)


def _row(row: Any, reviewers: Sequence[str], hides: bool) -> Row:
    unsettled: Verdict = "waits" if row["split"] in HELD_OUT and row["n_judgements"] < 2 else "conflict"
    item, hidden = review_item(row), hides and row["split"] in BLIND_SPLITS
    return Row(
        item=replace(item, label=None, label_value=None, doubt=None) if hidden else item,
        model_answer=None if hidden else model_answer(row),
        verdict=row["verdict"] or (unsettled if reviewers else None),
        answer=row["decided_answer"],
        reviewers=tuple(reviewers),
    )


def _reviewers(connection: Connection, numbers: Sequence[int]) -> dict[int, list[str]]:
    query = select(standings.c.item, standings.c.reviewer).order_by(standings.c.event)
    judged: dict[int, list[str]] = defaultdict(list)
    for item, reviewer in connection.execute(
        query.where(standings.c.item.in_(numbers), standings.c.kind.in_(JUDGEMENTS))
    ):
        judged[item].append(reviewer)
    return judged
