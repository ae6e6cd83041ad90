"""How the examples of a task are reviewed: what reviewers are told, and how many must agree."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, delete, insert, select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.derived import AT_ONCE, in_parts, refresh
from finetune_assets.feedback.store.schema import events, guides, items


@dataclass(frozen=True, kw_only=True)
class Guide:
    """A task's own; these are the values where it has none."""

    guidelines: str = ""
    judgements: int = 1
    """Reviewers who must agree about a training example."""
    show_model: tuple[str, ...] = ()
    """Queues that show the model's answer before the reviewer's."""
    gold: float = 0.0
    """Share of blind examples whose answer is known."""


def set_guide(db: FeedbackDatabase, task: str, guide: Guide) -> None:
    """Make this the task's guide; where it asks for more or fewer judgements, what is decided follows.

    Raises:
        FeedbackDatabaseError: the database cannot be reached.
    """
    with db.writing() as connection:
        before = guide_of(connection, task)
        connection.execute(delete(guides).where(guides.c.task == task))
        connection.execute(insert(guides).values(task=task, **asdict(guide) | {"show_model": list(guide.show_model)}))
        if before.judgements != guide.judgements:
            judged = select(events.c.item).join_from(events, items).where(items.c.task == task).distinct()
            for numbers in in_parts(connection.scalars(judged).all(), AT_ONCE):
                refresh(connection, numbers)


def guide_of(connection: Connection, task: str) -> Guide:
    """Return the task's guide."""
    columns = [column for column in guides.c if column is not guides.c.task]
    row = connection.execute(select(*columns).where(guides.c.task == task)).mappings().first()
    return Guide(**{**row, "show_model": tuple(row["show_model"])}) if row else Guide()
