"""Which examples a reviewer is given next. A lease keeps an example from all others for a quarter of an hour.

A queue never holds what its reviewer has judged; what he skipped comes back when all else is done. Only conflicts are
also given to those who took part in them, after the others': a team of two could end none otherwise.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Select, Table, and_, delete, func, insert, not_, select

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.event_rows import not_undone, stored_events
from finetune_assets.feedback.store.judging import JUDGEMENTS
from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem, model_answer, review_item
from finetune_assets.feedback.store.schema import events, items, leases, standings

Queue = Literal["doubtful", "uncertain", "disagreement", "audit", "second_opinion", "conflicts"]

LEASE_SECONDS = 900.0
_PACE_EVENTS = 20
"""The pace is that of a reviewer's last judgements, at most this many."""
_QUEUES: dict[Queue, tuple[ColumnElement[bool], tuple[ColumnElement[Any], ...]]] = {
    "doubtful": (and_(not_(items.c.decided), items.c.doubt.is_not(None)), (items.c.doubt, items.c.number)),
    "uncertain": (and_(not_(items.c.decided), items.c.certainty.is_not(None)), (items.c.certainty, items.c.number)),
    "disagreement": (
        and_(not_(items.c.decided), items.c.disagreement.is_not(None)),
        (items.c.disagreement.desc(), items.c.number.desc()),
    ),
    "audit": (items.c.shuffle.is_not(None), (items.c.shuffle,)),
    "second_opinion": (items.c.n_judgements == 1, (items.c.decided, items.c.shuffle)),
    "conflicts": (and_(not_(items.c.decided), items.c.n_judgements >= 2), (items.c.shuffle,)),
}
"""What is in a queue, for whoever has not judged it, and in which order."""


class UnknownQueueError(FinetuneAssetsError, ValueError):
    """There is no queue of this name."""


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one reviewer says about an example."""

    reviewer: str
    answer: str | None
    """In the task's words; None rejects the example."""
    comment: str | None
    at: float
    """Unix seconds."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """An example that its reviewer alone has before him."""

    item: ReviewItem
    model_answer: ModelAnswer | None
    queue: Queue
    until: float
    """Unix seconds at which it is free again."""
    judgements: tuple[Judgement, ...]
    """What the others say (conflicts); empty in all other queues, which are blind."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a reviewer is."""

    left: int
    """Examples that the queue holds for him, whoever has them before him now; those he skipped among them."""
    done_today: int
    """His judgements in the region since midnight, local time of this machine."""
    done_by_all: int
    """Examples of the region that anybody has judged."""
    per_hour: float | None
    """His pace over his last judgements, without pauses; None where none was timed."""


def take(
    db: FeedbackDatabase, task: str, region: str, queue: Queue, reviewer: str, n: int = 2, now: float | None = None
) -> list[Taken]:
    """Give a reviewer up to `n` examples of a queue: those he has already, in the same order, then the next ones.

    Raises:
        UnknownQueueError: there is no such queue.
        FeedbackDatabaseError: the database cannot be reached.
    """
    at = time.time() if now is None else now
    with db.writing() as connection:
        waiting = _waiting(task, region, queue, reviewer)
        own = _leased(connection, queue, reviewer)
        still = {n for part in waiting for n in connection.scalars(part.where(items.c.number.in_(own)))}
        found = [number for number in own if number in still][:n]
        for part in waiting:
            if len(found) < n:
                more = part.where(_free(reviewer, at), items.c.number.not_in(found)).limit(n - len(found))
                found += list(connection.scalars(more))
        _lease(connection, found, queue, reviewer, at)
        return _taken(connection, found, queue, at)


def retake(
    db: FeedbackDatabase,
    task: str,
    region: str,
    example_id: str,
    queue: Queue,
    reviewer: str,
    now: float | None = None,
) -> Taken | None:
    """Give a reviewer this very example, such as the one whose judgement he has undone; None where another has it."""
    at = time.time() if now is None else now
    place = and_(items.c.task == task, items.c.region == region, items.c.example_id == example_id)
    with db.writing() as connection:
        number = connection.scalar(select(items.c.number).where(place, _free(reviewer, at)))
        if number is None:
            return None
        others = [other for other in _leased(connection, queue, reviewer) if other != number]
        _lease(connection, [number, *others], queue, reviewer, at)
        return _taken(connection, [number], queue, at)[0]


def release(db: FeedbackDatabase, reviewer: str) -> None:
    """Give back all that the reviewer has before him."""
    with db.writing() as connection:
        connection.execute(delete(leases).where(leases.c.reviewer == reviewer))


def progress(
    db: FeedbackDatabase, task: str, region: str, queue: Queue, reviewer: str, now: float | None = None
) -> Progress:
    """Say how far a reviewer is in a queue.

    Raises:
        UnknownQueueError: there is no such queue.
        FeedbackDatabaseError: the database cannot be reached.
    """
    at = datetime.now() if now is None else datetime.fromtimestamp(now)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
    judged = and_(items.c.task == task, items.c.region == region, items.c.n_judgements > 0)
    mine = _judged_by(reviewer, task, region)
    today = select(func.count()).select_from(mine.where(events.c.at >= midnight).subquery())
    timed = (
        mine.where(events.c.seconds > 0)
        .order_by(events.c.at.desc(), events.c.number.desc())
        .limit(_PACE_EVENTS)
        .subquery()
    )
    with db.reading() as connection:
        seconds = connection.scalar(select(func.avg(timed.c.seconds)))
        return Progress(
            left=_count(connection, task, region, queue, reviewer),
            done_today=connection.scalar(today) or 0,
            done_by_all=connection.scalar(select(func.count()).where(judged)) or 0,
            per_hour=3600 / seconds if seconds else None,
        )


def counts(db: FeedbackDatabase, task: str, region: str, reviewer: str) -> dict[Queue, int]:
    """Say how many examples each queue holds for a reviewer, whoever has them before him now."""
    with db.reading() as connection:
        return {queue: _count(connection, task, region, queue, reviewer) for queue in _QUEUES}


def _count(connection: Connection, task: str, region: str, queue: Queue, reviewer: str) -> int:
    parts = (part.order_by(None).subquery() for part in _waiting(task, region, queue, reviewer))
    return sum(connection.scalar(select(func.count()).select_from(part)) or 0 for part in parts)


def _waiting(task: str, region: str, queue: Queue, reviewer: str) -> tuple[Select[Any], Select[Any]]:
    """Select the numbers of the items that a queue holds for a reviewer.

    First those he has not seen; then those he has skipped (or, of conflicts, judged), the longest ago first.
    """
    if queue not in _QUEUES:
        raise UnknownQueueError(f"queue must be one of {', '.join(_QUEUES)}, got {queue!r}")
    condition, order = _QUEUES[queue]
    held = select(items.c.number).where(items.c.task == task, items.c.region == region, items.c.offered, condition)
    unseen = held.where(_none(standings, standings.c.reviewer == reviewer)).order_by(*order)
    word = and_(standings.c.item == items.c.number, standings.c.reviewer == reviewer)
    seen = held.join(standings, word).order_by(standings.c.event)
    # As a list, which SQLite makes once; for a condition on `word` it would look up every item that is held.
    skipped = select(standings.c.item).where(standings.c.reviewer == reviewer, standings.c.kind == "skip")
    return unseen, seen if queue == "conflicts" else seen.where(items.c.number.in_(skipped))


def _none(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Say that an item has no such row."""
    rows = select(table.c.item).where(table.c.item == items.c.number, *conditions)
    return not_(rows.correlate(items).exists())


def _free(reviewer: str, at: float) -> ColumnElement[bool]:
    return _none(leases, leases.c.reviewer != reviewer, leases.c.until > at)


def _leased(connection: Connection, queue: Queue, reviewer: str) -> list[int]:
    """What the reviewer has before him, in the order in which he got it."""
    query = select(leases.c.item).where(leases.c.reviewer == reviewer, leases.c.queue == queue)
    return list(connection.scalars(query.order_by(leases.c.place)))


def _lease(connection: Connection, numbers: Sequence[int], queue: Queue, reviewer: str, at: float) -> None:
    connection.execute(delete(leases).where(leases.c.item.in_(numbers)))
    lease = {"queue": queue, "reviewer": reviewer, "until": at + LEASE_SECONDS}
    if rows := [{"item": number, "place": place, **lease} for place, number in enumerate(numbers)]:
        connection.execute(insert(leases), rows)


def _taken(connection: Connection, numbers: Sequence[int], queue: Queue, at: float) -> list[Taken]:
    rows = {row.number: row._mapping for row in connection.execute(select(items).where(items.c.number.in_(numbers)))}
    said = _judgements(connection, numbers) if queue == "conflicts" else {}
    return [
        Taken(
            item=review_item(rows[n]),
            model_answer=model_answer(rows[n]),
            queue=queue,
            until=at + LEASE_SECONDS,
            judgements=tuple(said.get(n, ())),
        )
        for n in numbers
    ]


def _judgements(connection: Connection, numbers: Sequence[int]) -> dict[int, list[Judgement]]:
    columns = (standings.c.item, events.c.reviewer, events.c.answer, events.c.comment, events.c.at)
    query = select(*columns).join(events, events.c.number == standings.c.event).order_by(standings.c.event)
    said: dict[int, list[Judgement]] = defaultdict(list)
    where = (standings.c.item.in_(numbers), standings.c.kind.in_(JUDGEMENTS))
    for item, reviewer, answer, comment, at in connection.execute(query.where(*where)):
        said[item].append(Judgement(reviewer=reviewer, answer=answer, comment=comment, at=at))
    return said


def _judged_by(reviewer: str, task: str, region: str) -> Select[Any]:
    kinds = (*JUDGEMENTS, "adjudicate")
    mine = stored_events().where(events.c.reviewer == reviewer, events.c.kind.in_(kinds), not_undone())
    return mine.where(items.c.task == task, items.c.region == region)
