"""Which examples a reviewer is given next. A lease keeps an example from all others for a quarter of an hour.

A queue never holds what its reviewer has judged; what he skipped comes back when all else is done. Each has a purpose:
to *teach* (examples that train, whose labels one judgement may change), to *audit* (held-out examples, by which models
are judged: blind, and in an order of their own), to *adjudicate* (examples on which two judgements differ), to *answer*
(questions asked in use that the model left to people, with a few of its own answers to check). A held-out example and a
question asked in use are blind in every queue. What a reviewer is handed is kept, as it proves afterwards which
judgements were blind.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from statistics import median
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    Table,
    and_,
    delete,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)

from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.feedback.store import gold
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.event_rows import not_undone, stored_events
from finetune_assets.feedback.store.guides import guide_of
from finetune_assets.feedback.store.judging import BLIND_SPLITS, IN_USE, JUDGEMENTS, LABELS_HIDDEN
from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem, model_answer, review_item
from finetune_assets.feedback.store.schema import events, handed, items, leases, standings
from finetune_assets.task import HELD_OUT

Queue = Literal["doubtful", "uncertain", "disagreement", "audit", "contested", "second_opinion", "conflicts", "in_use"]
Purpose = Literal["teach", "audit", "adjudicate", "answer"]

LEASE_SECONDS = 900.0
HASTY_SECONDS, HASTY_EVENTS = 1.0, 10
"""Nobody sees an example in less; said of no fewer judgements."""
_PACE_EVENTS = 20
"""The pace is that of a reviewer's last judgements, at most this many."""
_HELD_OUT = items.c.split.in_(HELD_OUT)
_OPEN = not_(items.c.decided)


@dataclass(frozen=True)
class _Rule:
    """What is in a queue, for whoever has not judged it, and in which order."""

    purpose: Purpose
    condition: ColumnElement[bool]
    order: tuple[ColumnElement[Any], ...]


_RULES: dict[Queue, _Rule] = {
    "doubtful": _Rule("teach", and_(_OPEN, items.c.doubt.is_not(None)), (items.c.doubt, items.c.number)),
    "uncertain": _Rule(
        "teach", and_(_OPEN, not_(_HELD_OUT), items.c.certainty.is_not(None)), (items.c.certainty, items.c.number)
    ),
    "disagreement": _Rule(
        "teach",
        and_(_OPEN, not_(_HELD_OUT), items.c.disagreement.is_not(None)),
        (items.c.disagreement.desc(), items.c.number.desc()),
    ),
    "audit": _Rule("audit", and_(_OPEN, _HELD_OUT), (items.c.shuffle,)),
    "contested": _Rule("audit", and_(_OPEN, _HELD_OUT, items.c.disagreement.is_not(None)), (items.c.shuffle,)),
    "second_opinion": _Rule("audit", items.c.n_judgements == 1, (items.c.decided, items.c.shuffle)),
    "conflicts": _Rule("adjudicate", and_(_OPEN, items.c.n_judgements >= 2), (items.c.shuffle,)),
    "in_use": _Rule("answer", and_(_OPEN, items.c.split == IN_USE), (items.c.number,)),
}
PURPOSES: dict[Queue, Purpose] = {queue: rule.purpose for queue, rule in _RULES.items()}


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
    """Without label and doubt where it is blind."""
    model_answer: ModelAnswer | None
    """None where it is hidden until he has judged: where it is blind, and wherever the guide does not show it."""
    blind: bool
    queue: Queue | Literal["table"]
    until: float
    """Unix seconds at which it is free again."""
    judgements: tuple[Judgement, ...]
    """What the others say (conflicts); empty in all other queues."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a reviewer is."""

    left: int
    """Examples that the queue holds for him, whoever has them before him now; those he skipped among them."""
    done_today: int
    """His judgements in the region since midnight, local time of this machine."""
    per_hour: float | None
    """His pace over his last judgements, without pauses; None where none was timed."""
    too_fast: bool
    """Whether he looked at half of his last judgements for less than a second."""


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
        golden = gold.open_among(connection, own, reviewer)
        found = [number for number in own if number in still | golden][:n]
        if PURPOSES[queue] == "audit" and not golden and len(found) < n:
            share = guide_of(connection, task).gold
            found += [g for g in [gold.due(connection, task, region, reviewer, share)] if g and g not in found]
        for part in waiting:
            if len(found) < n:
                more = part.where(_free(reviewer, at), items.c.number.not_in(found)).limit(n - len(found))
                found += list(connection.scalars(more))
        _lease(connection, found, queue, reviewer, at)
        return _taken(connection, found, queue, reviewer, at)


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
        return _taken(connection, [number], queue, reviewer, at)[0]


def open_example(
    db: FeedbackDatabase, task: str, region: str, example_id: str, reviewer: str, now: float | None = None
) -> Taken | None:
    """Give a reviewer an example that he chose himself, whoever has it; None where it is not offered.

    What is said of a held-out one decides nothing: who chooses what to look at draws no sample.
    """
    place = (items.c.task == task, items.c.region == region, items.c.example_id == example_id, items.c.offered)
    with db.writing() as connection:
        number = connection.scalar(select(items.c.number).where(*place))
        return (
            _taken(connection, [number], "table", reviewer, time.time() if now is None else now)[0] if number else None
        )


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
    mine = _judged_by(reviewer, task, region)
    today = select(func.count()).select_from(mine.where(events.c.at >= midnight).subquery())
    timed = mine.with_only_columns(events.c.seconds).where(events.c.seconds > 0)
    timed = timed.order_by(events.c.at.desc(), events.c.number.desc()).limit(_PACE_EVENTS)
    with db.reading() as connection:
        seconds = connection.scalars(timed).all()
        return Progress(
            left=_count(connection, task, region, queue, reviewer),
            done_today=connection.scalar(today) or 0,
            per_hour=3600 * len(seconds) / sum(seconds) if seconds else None,
            too_fast=len(seconds) >= HASTY_EVENTS and median(seconds) < HASTY_SECONDS,
        )


def counts(db: FeedbackDatabase, task: str, region: str, reviewer: str) -> dict[Queue, int]:
    """Say how many examples each queue holds for a reviewer, whoever has them before him now."""
    with db.reading() as connection:
        return {queue: _count(connection, task, region, queue, reviewer) for queue in _RULES}


def _count(connection: Connection, task: str, region: str, queue: Queue, reviewer: str) -> int:
    parts = (part.order_by(None).subquery() for part in _waiting(task, region, queue, reviewer))
    return sum(connection.scalar(select(func.count()).select_from(part)) or 0 for part in parts)


def _waiting(task: str, region: str, queue: Queue, reviewer: str) -> tuple[Select[Any], Select[Any]]:
    """Select the numbers of the items that a queue holds for a reviewer.

    First those he has not seen; then those he has skipped, the longest ago first.
    """
    if queue not in _RULES:
        raise UnknownQueueError(f"queue must be one of {', '.join(_RULES)}, got {queue!r}")
    rule = _RULES[queue]
    place = and_(items.c.task == task, items.c.region == region, items.c.offered)
    held = select(items.c.number).where(place, rule.condition, _can_be_blind(reviewer))
    unseen = held.where(_none(standings, standings.c.reviewer == reviewer)).order_by(*rule.order)
    word = and_(standings.c.item == items.c.number, standings.c.reviewer == reviewer)
    seen = held.join(standings, word).order_by(standings.c.event)
    # As a list, which SQLite makes once; for a condition on `word` it would look up every item that is held.
    skipped = select(standings.c.item).where(standings.c.reviewer == reviewer, standings.c.kind == "skip")
    return unseen, seen.where(items.c.number.in_(skipped))


def _none(table: Table, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    """Say that an item has no such row."""
    rows = select(table.c.item).where(table.c.item == items.c.number, *conditions)
    return not_(rows.correlate(items).exists())


def _can_be_blind(reviewer: str) -> ColumnElement[bool]:
    """Say that a held-out item is not one of which the reviewer has seen what a model says."""
    seen = (handed.c.reviewer == reviewer, handed.c.content == items.c.content, handed.c.model)
    return or_(not_(_HELD_OUT), _none(handed, *seen))


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


def _taken(
    connection: Connection, numbers: Sequence[int], queue: Queue | Literal["table"], reviewer: str, at: float
) -> list[Taken]:
    rows = {row.number: row._mapping for row in connection.execute(select(items).where(items.c.number.in_(numbers)))}
    said = _judgements(connection, numbers) if queue == "conflicts" else {}
    shows = queue in guide_of(connection, rows[numbers[0]]["task"]).show_model if numbers else False
    taken = [_handed(rows[n], queue, shows, at, tuple(said.get(n, ()))) for n in numbers]
    for number, each in zip(numbers, taken, strict=True):
        hand(connection, number, each.item.content, reviewer, queue, each.model_answer is not None, at)
    return taken


def _handed(
    row: RowMapping, queue: Queue | Literal["table"], shows: bool, at: float, judgements: tuple[Judgement, ...]
) -> Taken:
    item = review_item(row)
    blind = queue in LABELS_HIDDEN or item.split in BLIND_SPLITS
    return Taken(
        item=replace(item, label=None, label_value=None, doubt=None) if blind else item,
        model_answer=model_answer(row) if shows and not blind else None,
        blind=blind,
        queue=queue,
        until=at + LEASE_SECONDS,
        judgements=judgements,
    )


def hand(connection: Connection, item: int, content: str, reviewer: str, queue: str, model: bool, at: float) -> None:
    """Keep what of an item is sent to a reviewer; what he has once seen stays seen."""
    row = {"item": item, "reviewer": reviewer, "content": content, "queue": queue}
    same = and_(*(handed.c[name] == value for name, value in row.items()))
    before = connection.execute(select(handed).where(same)).first()
    if before is None:
        connection.execute(insert(handed).values(**row, model=model, others=queue == "conflicts", at=at))
    elif model and not before.model:
        connection.execute(update(handed).where(same).values(model=True))


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
