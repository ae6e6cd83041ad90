"""Events as they are read from their rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, select

from finetune_assets.feedback.store.judging import Event
from finetune_assets.feedback.store.schema import events, items

_STORED = [column for column in events.c if column is not events.c.item]


def stored_events() -> Select[Any]:
    """Select events together with the names of their examples; narrow it down as needed, then `as_event` each row."""
    return select(items.c.task, items.c.region, items.c.example_id, *_STORED).join_from(events, items)


def not_undone() -> ColumnElement[bool]:
    """Say of an event that no other one undoes it."""
    undoing = events.alias("undoing")
    return ~select(undoing.c.number).where(undoing.c.undoes == events.c.number).correlate(events).exists()


def as_event(row: Row[Any]) -> Event:
    """Make an event of a row of `stored_events`; further columns are passed over."""
    return Event(**{name: row._mapping[name] for name in Event.__dataclass_fields__})


def read_events(connection: Connection, query: Select[Any]) -> Iterator[Event]:
    """Read the events of a query, one at a time."""
    return map(as_event, connection.execute(query.execution_options(yield_per=1000)))
