"""All that follows from the events, as it is stored."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.derived import rebuild
from finetune_assets.feedback.store.schema import decisions, items, standings


def derived_rows(db: FeedbackDatabase) -> list[list[tuple[Any, ...]]]:
    """Standings, decisions, and the columns of items."""
    columns = (items.c.number, items.c.n_judgements, items.c.decided, items.c.last_event)
    queries = (select(standings), select(decisions), select(*columns))
    with db.reading() as connection:
        return [sorted(map(tuple, connection.execute(query)), key=repr) for query in queries]


def assert_rebuilt_equal(db: FeedbackDatabase) -> None:
    """What was kept from event to event is what follows from all events at once."""
    kept = derived_rows(db)
    rebuild(db)
    assert derived_rows(db) == kept
