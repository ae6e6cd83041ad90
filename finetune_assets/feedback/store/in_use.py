"""Questions that were asked in use: those a model left to people, and some of its own answers, for people to check.

They are items of the split `in_use`: no run of the pipeline offers or withdraws them, and none learns from them. Which
of both an item is, its reviewer is not told, as little as what the model says.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass

from sqlalchemy import Connection, and_, func, insert, not_, select

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.judging import IN_USE, Decision
from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem, shuffled
from finetune_assets.feedback.store.schema import asked, decisions, items

MAX_OPEN = 10_000
"""Questions of a region that wait at once; nobody answers more, and their images are kept."""


class TooManyWaitError(FinetuneAssetsError, RuntimeError):
    """So many questions of a region wait for people that one more would be forgotten."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An answer that a model gave by itself, and the one that people found true without knowing it."""

    said: str
    truth: str


def item_id(content: str) -> str:
    """Name the item of a question by its content: who asks the same again finds the same."""
    return f"{IN_USE}/{content[:32]}"


def lay_before_people(
    db: FeedbackDatabase, item: ReviewItem, said: ModelAnswer, *, given: bool, now: float | None = None
) -> None:
    """Have people answer a question; what was asked before stays as it is.

    Args:
        db: the database.
        item: the question, of the split `in_use`, named by `item_id`.
        said: what the model says about it.
        given: whether that was given as an answer, and is to be checked.
        now: Unix seconds.

    Raises:
        TooManyWaitError: the region's queue is full.
        FeedbackDatabaseError: the database cannot be reached.
    """
    place = and_(items.c.task == item.task, items.c.region == item.region, items.c.split == IN_USE)
    with db.writing() as connection:
        if connection.scalar(select(items.c.number).where(place, items.c.example_id == item.example_id)):
            return
        waiting = connection.scalar(select(func.count()).where(place, not_(items.c.decided))) or 0
        if waiting >= MAX_OPEN:
            raise TooManyWaitError(
                f"{waiting:,} questions of {item.task}/{item.region} wait for people already: answer them "
                "(`finetune-assets feedback`, queue Asked), or set in_use.review to false"
            )
        _add(connection, item, said, given, time.time() if now is None else now)


def decision_on(db: FeedbackDatabase, task: str, region: str, content: str) -> Decision | None:
    """Return what people decided about a question that was asked before; None where they have not."""
    columns = [column for column in decisions.c if column is not decisions.c.item]
    query = select(items.c.example_id, *columns).join_from(decisions, items)
    place = (items.c.task == task, items.c.region == region, items.c.example_id == item_id(content))
    with db.reading() as connection:
        row = connection.execute(query.where(*place)).mappings().first()
    return Decision(**{**row, "reviewers": tuple(row["reviewers"])}) if row else None


def checked(db: FeedbackDatabase, task: str, region: str, model: str) -> list[Checked]:
    """List the answers that a model gave by itself and people judged blind; rejected questions have no truth."""
    query = select(items.c.model_answer, decisions.c.answer).join_from(items, asked).join(decisions)
    place = (items.c.task == task, items.c.region == region, items.c.split == IN_USE, items.c.model == model)
    told = (asked.c.given, decisions.c.blind, decisions.c.answer.is_not(None), items.c.model_answer.is_not(None))
    with db.reading() as connection:
        return [Checked(*row) for row in connection.execute(query.where(*place, *told).order_by(items.c.number))]


def _add(connection: Connection, item: ReviewItem, said: ModelAnswer, given: bool, at: float) -> None:
    row = {
        **asdict(item),
        "offer": IN_USE,
        "offered": True,
        "shuffle": shuffled(item.example_id),
        "model": said.model,
        "model_answer": said.answer,
        "probability": said.probability,
    }
    number = connection.scalars(insert(items).values(row).returning(items.c.number)).one()
    connection.execute(insert(asked).values(item=number, given=given, at=at))
