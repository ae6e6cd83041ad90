"""What the reviewers have decided: what the pipeline reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import orjson
from sqlalchemy import ColumnElement, func, not_, select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.judging import IN_USE, JUDGEMENTS, Decision
from finetune_assets.feedback.store.schema import decisions as decided
from finetune_assets.feedback.store.schema import items, standings
from finetune_assets.task import HELD_OUT

__all__ = ["Decision", "RegionFeedback", "decisions", "newest_event", "regions_with_feedback", "version", "waiting"]

_EXAMPLES = items.c.split != IN_USE


@dataclass(frozen=True)
class RegionFeedback:
    """How much reviewers have said about a region."""

    n_decisions: int
    newest_event: int
    """Number of the newest event, whatever it is."""


def decisions(db: FeedbackDatabase, task: str, region: str) -> list[Decision]:
    """List a region's decisions by the examples' ids, those of examples that are no longer offered among them.

    Questions asked in use are no examples of the region: `in_use` tells of those.

    A decision on a content that has changed since stays until somebody judges the new one: compare `content`.
    What candidates contest counts when all of it is decided: else those examined first would gain by it.
    """
    columns = [column for column in decided.c if column is not decided.c.item]
    query = select(items.c.example_id, *columns).join_from(decided, items)
    with db.reading() as connection:
        place = (items.c.task == task, items.c.region == region, _EXAMPLES)
        rows = connection.execute(query.where(*place)).mappings().all()
        open_contests = connection.scalar(select(func.count()).where(*_contested(task, region))) if rows else 0
    found = [Decision(**{**row, "reviewers": tuple(row["reviewers"])}) for row in rows]
    if open_contests:
        found = [decision for decision in found if not (decision.blind and decision.queue == "contested")]
    # Sorted here, because databases have their own ideas of the order of letters.
    return sorted(found, key=lambda decision: decision.example_id)


def _contested(task: str, region: str) -> tuple[ColumnElement[bool], ...]:
    """What is held out, denied by one candidate or another, and not decided yet."""
    place = (items.c.task == task, items.c.region == region, items.c.offered, items.c.split.in_(HELD_OUT))
    return (*place, items.c.disagreement.is_not(None), not_(items.c.decided))


def waiting(db: FeedbackDatabase, task: str, region: str) -> int:
    """Count the held-out examples about which something was said that changes nothing yet.

    They wait for a second blind judgement, or for an adjudicator.
    """
    judged = select(standings.c.item).where(standings.c.item == items.c.number, standings.c.kind.in_(JUDGEMENTS))
    place = (items.c.task == task, items.c.region == region, items.c.offered, items.c.split.in_(HELD_OUT))
    query = select(func.count()).where(*place, not_(items.c.decided), judged.correlate(items).exists())
    with db.reading() as connection:
        return connection.scalar(query) or 0


def version(decisions: Iterable[Decision]) -> str:
    """Return 16 hex digits that change when what is trained on would: example, content, verdict or answer."""
    told = sorted([d.example_id, d.content, d.verdict, d.answer or ""] for d in decisions)
    return hashlib.sha256(orjson.dumps(told)).hexdigest()[:16]


def newest_event(db: FeedbackDatabase, task: str, region: str) -> int:
    """Return the number of the newest event in a region; 0 where there is none."""
    place = (items.c.task == task, items.c.region == region, _EXAMPLES)
    query = select(func.max(items.c.last_event)).where(*place)
    with db.reading() as connection:
        return connection.scalar(query) or 0


def regions_with_feedback(db: FeedbackDatabase, task: str) -> dict[str, RegionFeedback]:
    """Say of every region that reviewers have worked in how far they are, in one query."""
    query = (
        select(items.c.region, func.count(decided.c.item), func.max(items.c.last_event))
        .join_from(items, decided, isouter=True)
        .where(items.c.task == task, items.c.last_event.is_not(None), _EXAMPLES)
        .group_by(items.c.region)
        .order_by(items.c.region)
    )
    with db.reading() as connection:
        return {region: RegionFeedback(n, newest) for region, n, newest in connection.execute(query)}
