"""What follows from the events is kept beside them, in the transaction that adds an event; and can be made anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, bindparam, delete, false, func, insert, null, select, update

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.event_rows import as_event, stored_events
from finetune_assets.feedback.store.judging import Event, Standing, standing
from finetune_assets.feedback.store.schema import decisions, events, guides, items, standings

AT_ONCE = 500
"""Rows that one statement names; databases bound how many values a statement may have."""

_SUMMARY = (
    update(items)
    .where(items.c.number == bindparam("item"))
    .values({name: bindparam(name) for name in ("n_judgements", "decided", "last_event")})
)


def refresh(connection: Connection, numbers: Sequence[int]) -> None:
    """Bring what follows from the events of these items (numbers of rows, at most AT_ONCE) up to date."""
    if not numbers:
        return
    columns = (items.c.number, items.c.content, items.c.kind, items.c.split, func.coalesce(guides.c.judgements, 1))
    query = select(*columns).outerjoin(guides, guides.c.task == items.c.task).where(items.c.number.in_(numbers))
    present = connection.execute(query).all()
    said = _events_of(connection, numbers)
    come_to = {item: standing(said[item], *how) for item, *how in present}
    for table, made in ((standings, _words), (decisions, _decisions)):
        connection.execute(delete(table).where(table.c.item.in_(numbers)))
        if rows := [row for item, result in come_to.items() for row in made(item, result)]:
            connection.execute(insert(table), rows)
    rows = [_summary(item, content, come_to[item], said[item]) for item, content, *_ in present]
    connection.execute(_SUMMARY, rows)


def rebuild(db: FeedbackDatabase) -> None:
    """Make everything that follows from the events anew, from the events alone."""
    with db.writing() as connection:
        connection.execute(delete(standings))
        connection.execute(delete(decisions))
        connection.execute(update(items).values(n_judgements=0, decided=false(), last_event=null()))
        judged = connection.scalars(select(events.c.item).distinct().order_by(events.c.item)).all()
        for numbers in in_parts(judged, AT_ONCE):
            refresh(connection, numbers)


def in_parts(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Cut what may be a stream into lists of at most `size`."""
    part = []
    for row in rows:
        part.append(row)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _events_of(connection: Connection, numbers: Sequence[int]) -> dict[int, list[Event]]:
    query = stored_events().add_columns(events.c.item).where(events.c.item.in_(numbers)).order_by(events.c.number)
    said: dict[int, list[Event]] = defaultdict(list)
    for row in connection.execute(query):
        said[row.item].append(as_event(row))
    return said


def _words(item: int, result: Standing) -> Iterator[dict[str, Any]]:
    for word in result.words.values():
        named = {"reviewer": word.reviewer, "event": word.number, "kind": word.kind, "answer": word.answer}
        yield {"item": item, **named}


def _decisions(item: int, result: Standing) -> Iterator[dict[str, Any]]:
    if result.decision is not None:
        row = {"item": item, **asdict(result.decision)}
        del row["example_id"]
        yield row


def _summary(item: int, content: str, result: Standing, said: Sequence[Event]) -> dict[str, Any]:
    return {
        "item": item,
        "n_judgements": result.n_judgements,
        "decided": result.decision is not None and result.decision.content == content,
        "last_event": said[-1].number if said else None,
    }
