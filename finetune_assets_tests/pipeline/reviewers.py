"""Reviewers for the tests of the pipeline: they judge what it has offered, in a real database."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import Event, Kind, NewEvent, latest, record
from finetune_assets.feedback.store.queues import Queue, retake


def judge(
    ids: Iterable[str],
    answer: str | None,
    *,
    region: str = "mono",
    reviewer: str = "anna",
    task: str = "cells",
    queue: Queue | None = None,
) -> list[Event]:
    """Give the true answer of examples, or reject them; returns what was stored. Held-out ones want `agree`."""
    kind: Kind = "reject" if answer is None else "correct"
    with FeedbackDatabase() as db:
        return [
            record(
                db,
                NewEvent(
                    key=str(uuid.uuid4()),
                    task=task,
                    region=region,
                    example_id=example_id,
                    reviewer=reviewer,
                    kind=kind,
                    answer=answer,
                    shown={"queue": queue} if queue else {},
                ),
            )
            for example_id in ids
        ]


def agree(
    ids: Iterable[str], answer: str | None, *, region: str = "mono", task: str = "cells", queue: Queue = "audit"
) -> None:
    """Two reviewers are handed these examples blind, and say the same: what changes a held-out label."""
    with FeedbackDatabase() as db:
        for example_id in ids:
            for reviewer in ("anna", "ben"):
                assert retake(db, task, region, example_id, queue, reviewer) is not None
                judge([example_id], answer, region=region, reviewer=reviewer, task=task, queue=queue)


def undo(n: int, *, region: str = "mono", reviewer: str = "anna", task: str = "cells") -> None:
    """Take a reviewer's newest n judgements back."""
    with FeedbackDatabase() as db:
        for _ in range(n):
            last = latest(db, reviewer, task, region)
            assert last is not None
            event = NewEvent(
                key=str(uuid.uuid4()),
                task=task,
                region=region,
                example_id=last.example_id,
                reviewer=reviewer,
                kind="undo",
                undoes=last.number,
            )
            record(db, event)
