"""What was asked in use is counted by day, and nothing else of it is kept."""

from __future__ import annotations

from finetune_assets.feedback.store import usage
from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets_tests.feedback.store.builders import NOON, REGION, TASK

DAY = 86_400


def test_counts_add_up_over_the_last_days_by_model(db: FeedbackDatabase) -> None:
    for days_ago, n in ((0, 3), (0, 4), (1, 10), (9, 100)):
        usage.count(db, TASK, REGION, "ft:m", {("score", 2): n, ("answer", 0): 1}, NOON - days_ago * DAY)
    usage.count(db, TASK, REGION, "ft:other", {("score", 2): 1000}, NOON)
    assert usage.counted(db, TASK, REGION, "ft:m", 2, NOON) == {"score": {2: 17}, "answer": {0: 3}}
    assert usage.counted(db, TASK, REGION, "ft:m", 30, NOON)["score"] == {2: 117}
    assert usage.counted(db, TASK, "poly", "ft:m", 30, NOON) == {}


def test_what_is_long_ago_is_forgotten(db: FeedbackDatabase) -> None:
    usage.count(db, TASK, REGION, "ft:m", {("score", 0): 1}, NOON - (usage.KEPT_DAYS + 1) * DAY)
    usage.count(db, TASK, REGION, "ft:m", {("score", 0): 2}, NOON)
    assert usage.counted(db, TASK, REGION, "ft:m", 10_000, NOON) == {"score": {0: 2}}
