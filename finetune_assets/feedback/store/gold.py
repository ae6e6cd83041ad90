"""Gold questions: training examples whose answer is known, mixed among blind ones to see how good a reviewer is.

Nothing tells them from others, neither on the page nor in what the network brings. What is answered to one measures its
reviewer, and decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Select, and_, delete, func, insert, not_, select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import AnswerError, NewEvent, check_answer, item_of
from finetune_assets.feedback.store.judging import BLIND_SPLITS
from finetune_assets.feedback.store.schema import events, gold, items, standings


def set_gold(db: FeedbackDatabase, event: NewEvent) -> None:
    """Make an example a gold question with the event's answer, or an ordinary one again where that is None.

    Raises:
        UnknownExampleError: it was never offered.
        AnswerError: the answer is none of the example's, or the example is held out.
    """
    with db.writing() as connection:
        item = item_of(connection, event)
        if item.split in BLIND_SPLITS:
            why = "is held out or was asked in use, and cannot be a gold question: choose one that trains"
            raise AnswerError(f"{event.example_id} {why}")
        connection.execute(delete(gold).where(gold.c.item == item.number))
        if event.answer is not None:
            check_answer(item, event)
            made = {"content": item.content, "answer": event.answer, "reviewer": event.reviewer, "at": time.time()}
            connection.execute(insert(gold).values(item=item.number, **made))


def due(connection: Connection, task: str, region: str, reviewer: str, share: float) -> int | None:
    """Return the number of a gold question that comes next, after so many judgements of his as the share says."""
    if share <= 0:
        return None
    mine = select(func.count()).select_from(events).where(events.c.reviewer == reviewer)
    asked = connection.scalar(mine.join(gold, gold.c.item == events.c.item)) or 0
    judged = connection.scalar(mine) or 0
    if judged * share < asked + 0.5:
        return None
    place = (items.c.task == task, items.c.region == region, items.c.offered)
    return connection.scalar(_open(reviewer).where(*place).order_by(items.c.shuffle).limit(1))


def open_among(connection: Connection, numbers: Sequence[int], reviewer: str) -> set[int]:
    """Return which of these items are gold questions that the reviewer has not judged."""
    return set(connection.scalars(_open(reviewer).where(items.c.number.in_(numbers))))


def _open(reviewer: str) -> Select[Any]:
    seen = select(standings.c.item).where(standings.c.item == items.c.number, standings.c.reviewer == reviewer)
    query = select(items.c.number).join(gold, and_(gold.c.item == items.c.number, gold.c.content == items.c.content))
    return query.where(not_(seen.correlate(items).exists()))
