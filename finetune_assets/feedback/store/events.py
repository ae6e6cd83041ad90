"""What reviewers do, in the order in which they did it. Events are only added: a mistake is undone by another one."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from finetune_assets.dataset.answer_reading import read_number
from finetune_assets.errors import FinetuneAssetsError
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.derived import refresh
from finetune_assets.feedback.store.event_rows import as_event, not_undone, read_events, stored_events
from finetune_assets.feedback.store.judging import JUDGEMENTS, LABELS_HIDDEN, Event, Kind, NewEvent
from finetune_assets.feedback.store.schema import events, gold, handed, items, leases, standings

__all__ = ["Event", "EventError", "Kind", "NewEvent", "history", "latest", "record"]

_ANSWERING = ("accept", "correct", "adjudicate")
_ENDS_A_LEASE = (*JUDGEMENTS, "skip", "adjudicate")


class EventError(FinetuneAssetsError, ValueError):
    """An event is refused; nothing of it is stored."""


class UnknownExampleError(EventError, LookupError):
    """The example was never offered to reviewers."""


class AnswerError(EventError):
    """The event's answer or comment is missing, superfluous, or none of the example's."""


class ContentChangedError(EventError):
    """The example is no longer what the reviewer was shown."""


class PartyError(EventError):
    """Who has judged an example does not decide what its reviewers disagree about."""


class UndoError(EventError):
    """There is no such event of this reviewer and example to be undone."""


class KeyUsedError(EventError):
    """The key is that of another event."""


def record(db: FeedbackDatabase, event: NewEvent, now: float | None = None) -> Event:
    """Store what a reviewer did, end his lease, and work out what follows: all of it or nothing.

    An event that is stored already, by its key, is returned as it was stored. One that comes late, when another
    reviewer has the example before him or has judged it, is one more judgement. Whether it was blind is looked up.

    Raises:
        UnknownExampleError: the example was never offered.
        AnswerError: the answer is none of the example's words, or no number, or there should be none.
        ContentChangedError: question or image have changed since they were shown.
        PartyError: he decides what he has judged himself.
        UndoError: the event that is to be undone is another reviewer's, or is undone already.
        KeyUsedError: the key is that of another event.
        FeedbackDatabaseError: the database cannot be reached; the same event may be sent again.
    """
    at = time.time() if now is None else now
    with db.writing() as connection:
        item = item_of(connection, event)
        stored = same_event(connection, event)
        if stored is None:
            if event.shown.get("content", item.content) != item.content:
                raise ContentChangedError(f"{_name(event)} has changed since it was shown: look at it again")
            _check_party(connection, item, event)
            shown = {**event.shown, **proven(connection, item, event)}
            stored = add(connection, item, replace(event, shown=shown), at, item.content)
            if event.kind in _ENDS_A_LEASE:
                own = (leases.c.item == item.number, leases.c.reviewer == event.reviewer)
                connection.execute(delete(leases).where(*own))
            refresh(connection, [item.number])
    return stored


def history(db: FeedbackDatabase, task: str, region: str, example_id: str) -> list[Event]:
    """List what was done to an example, the oldest first."""
    where = (items.c.task == task, items.c.region == region, items.c.example_id == example_id)
    with db.reading() as connection:
        return list(read_events(connection, stored_events().where(*where).order_by(events.c.number)))


def latest(db: FeedbackDatabase, reviewer: str, task: str | None = None, region: str | None = None) -> Event | None:
    """Return the reviewer's newest event that can still be undone, or None."""
    query = stored_events().where(events.c.reviewer == reviewer, events.c.kind != "undo", not_undone())
    if task is not None:
        query = query.where(items.c.task == task)
    if region is not None:
        query = query.where(items.c.region == region)
    with db.reading() as connection:
        row = connection.execute(query.order_by(events.c.at.desc(), events.c.number.desc()).limit(1)).first()
    return None if row is None else as_event(row)


def number_of(db: FeedbackDatabase, key: str) -> int:
    """Return the number of an event by its key.

    Raises:
        UndoError: there is none.
    """
    with db.reading() as connection:
        number = connection.scalar(select(events.c.number).where(events.c.key == key))
    if number is None:
        raise UndoError("what is to be undone was never recorded")
    return number


def add(connection: Connection, item: Row[Any], event: NewEvent, at: float, content: str) -> Event:
    """Check an event against its item and add its row; what follows from it is not worked out yet.

    Raises:
        AnswerError: its answer or comment does not fit.
        UndoError: what it undoes cannot be undone.
    """
    check_answer(item, event)
    _check_undo(connection, item.number, event)
    given = asdict(event)
    row = {column.name: given[column.name] for column in events.c if column.name in given}
    statement = insert(events).returning(events.c.number)
    number = connection.scalars(statement.values(**row, item=item.number, at=at, content=content)).one()
    return Event(**given, number=number, content=content, at=at)


def item_of(connection: Connection, event: NewEvent) -> Row[Any]:
    """Find the row of an event's example.

    Raises:
        UnknownExampleError: it was never offered.
    """
    place = (items.c.task == event.task, items.c.region == event.region, items.c.example_id == event.example_id)
    item = connection.execute(select(items).where(*place)).first()
    if item is None:
        raise UnknownExampleError(
            f"{_name(event)} was never offered to reviewers: the pipeline offers examples when it filters them"
        )
    return item


def same_event(connection: Connection, event: NewEvent) -> Event | None:
    """Find the event as it was stored before, by its key, or None.

    Raises:
        KeyUsedError: the key is that of another event.
    """
    row = connection.execute(stored_events().where(events.c.key == event.key)).first()
    if row is None:
        return None
    stored = as_event(row)
    if (_name(stored), stored.reviewer, stored.kind) != (_name(event), event.reviewer, event.kind):
        raise KeyUsedError(f"the key {event.key} is that of event {stored.number}: make a new UUID for every event")
    return stored


def proven(connection: Connection, item: Row[Any], event: NewEvent) -> dict[str, Any]:
    """Say whether an event is blind: its queue handed him the example, and nothing he was ever sent of it told more."""
    mine = (handed.c.item == item.number, handed.c.reviewer == event.reviewer, handed.c.content == item.content)
    rows = connection.execute(select(handed).where(*mine).order_by(handed.c.at)).all()
    seen = [row.model or (row.others and event.kind != "adjudicate") for row in rows]
    queue = event.shown.get("queue")
    if any(seen) or queue not in [row.queue for row in rows]:
        return {"blind": False}
    # What was asked as a gold question measures its reviewer; whoever had others before him decides as always.
    same = select(gold.c.item).where(gold.c.item == item.number, gold.c.content == item.content)
    is_gold = event.kind in JUDGEMENTS and queue in LABELS_HIDDEN and connection.scalar(same) is not None
    return {"blind": True} | ({"gold": True} if is_gold else {})


def check_answer(item: Row[Any], event: NewEvent) -> None:
    """Raise AnswerError where the answer or comment does not fit the example."""
    name = f"{event.kind} of {_name(event)}"
    if not event.reviewer.strip():
        raise AnswerError(f"{name}: reviewer must not be empty")
    if event.kind == "comment" and not (event.comment or "").strip():
        raise AnswerError(f"{name}: comment must not be empty")
    if event.kind not in _ANSWERING:
        if event.answer is not None:
            raise AnswerError(f"{name}: answer must be left out")
    elif event.answer is None:
        if event.kind != "adjudicate":
            raise AnswerError(f"{name}: answer must be given")
    elif item.options and event.answer not in item.options:
        raise AnswerError(f"{name}: answer must be one of {', '.join(item.options)}, got {event.answer!r}")
    elif item.kind == "number" and read_number(event.answer) is None:
        raise AnswerError(f"{name}: answer must be a number, got {event.answer!r}")
    elif not event.answer.strip():
        raise AnswerError(f"{name}: answer must not be empty")


def _check_party(connection: Connection, item: Row[Any], event: NewEvent) -> None:
    mine = (standings.c.item == item.number, standings.c.reviewer == event.reviewer, standings.c.kind.in_(JUDGEMENTS))
    if event.kind == "adjudicate" and connection.scalar(select(standings.c.kind).where(*mine)):
        raise PartyError(f"{event.reviewer} has judged {_name(event)}: another adjudicator decides, or an undo")


def _check_undo(connection: Connection, item: int, event: NewEvent) -> None:
    if event.kind != "undo":
        if event.undoes is not None:
            raise UndoError(f"{event.kind} of {_name(event)}: only an undo undoes an event")
        return
    undone = connection.execute(select(events).where(events.c.number == event.undoes)).first()
    if undone is None or undone.item != item or undone.kind == "undo":
        raise UndoError(f"{_name(event)} has no event {event.undoes} that could be undone")
    if undone.reviewer != event.reviewer:
        raise UndoError(f"event {event.undoes} is {undone.reviewer}'s: only he can undo it")
    if connection.scalar(select(events.c.number).where(events.c.undoes == event.undoes)) is not None:
        raise UndoError(f"event {event.undoes} is undone already")


def _name(event: NewEvent) -> str:
    return f"{event.task}/{event.region}/{event.example_id}"
