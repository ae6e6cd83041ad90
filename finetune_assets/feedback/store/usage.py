"""How often what was asked in use had each value, by day: a few hundred numbers, whatever is asked."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sqlalchemy import and_, delete, func, insert, select, update

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.schema import usage

KEPT_DAYS = 400
_DAY_S = 86_400


def count(
    db: FeedbackDatabase,
    task: str,
    region: str,
    model: str,
    seen: Mapping[tuple[str, int], int],
    now: float | None = None,
) -> None:
    """Add to the counts of today, by feature and bin; those of long ago are forgotten.

    Raises:
        FeedbackDatabaseError: the database cannot be reached.
    """
    day = _day(now)
    whose = {"task": task, "region": region, "model": model, "day": day}
    today = and_(*(usage.c[name] == value for name, value in whose.items()))
    with db.writing() as connection:
        known = {(row.feature, row.bin) for row in connection.execute(select(usage).where(today))}
        for (feature, place), n in seen.items():
            if (feature, place) in known:
                at = and_(today, usage.c.feature == feature, usage.c.bin == place)
                connection.execute(update(usage).where(at).values(n=usage.c.n + n))
            else:
                connection.execute(insert(usage).values(**whose, feature=feature, bin=place, n=n))
        connection.execute(delete(usage).where(usage.c.day < day - KEPT_DAYS))


def counted(
    db: FeedbackDatabase, task: str, region: str, model: str, days: int, now: float | None = None
) -> dict[str, dict[int, int]]:
    """Return the counts of the last days, today among them, by feature and bin.

    Raises:
        FeedbackDatabaseError: the database cannot be reached.
    """
    since = _day(now) - days + 1
    whose = (usage.c.task == task, usage.c.region == region, usage.c.model == model, usage.c.day >= since)
    query = select(usage.c.feature, usage.c.bin, func.sum(usage.c.n)).where(*whose)
    found: dict[str, dict[int, int]] = {}
    with db.reading() as connection:
        for feature, place, n in connection.execute(query.group_by(usage.c.feature, usage.c.bin)):
            found.setdefault(feature, {})[place] = int(n)
    return found


def _day(now: float | None) -> int:
    return int((time.time() if now is None else now) // _DAY_S)
