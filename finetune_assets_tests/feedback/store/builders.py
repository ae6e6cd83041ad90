"""Examples, answers and events as the tests need them: each names only what matters to it."""

from __future__ import annotations

import uuid
from typing import Any

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.events import Event, Kind, NewEvent, record
from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem, offer, offer_answers
from finetune_assets.feedback.store.queues import Queue, retake

TASK, REGION = "cells", "mono"
NOON = 1_800_000_000.0
"""A moment for tests in which time matters."""


def item(example_id: str = "a", **changes: Any) -> ReviewItem:
    """An example with a yes or no question, labelled Yes."""
    given: dict[str, Any] = {
        "task": TASK,
        "region": REGION,
        "example_id": example_id,
        "content": f"c-{example_id}",
        "split": "train",
        "question": f"Is {example_id} defective?",
        "label": "Yes",
        "label_value": 1.0,
        "kind": "binary",
        "options": ("Yes", "No"),
    }
    return ReviewItem(**given | changes)


def offer_items(db: FeedbackDatabase, *items: ReviewItem) -> int:
    """Offer these, which are of one region, and no others."""
    return offer(db, items[0].task, items[0].region, items)


def offer_names(db: FeedbackDatabase, names: str, **changes: Any) -> int:
    """Offer an example for each word."""
    return offer_items(db, *[item(name, **changes) for name in names.split()])


def answered(db: FeedbackDatabase, **probabilities: float) -> int:
    """The model says No, with so much certainty, about the examples of these names."""
    said = [ModelAnswer(example_id=n, model="ft:m", answer="No", probability=p) for n, p in probabilities.items()]
    return offer_answers(db, TASK, REGION, said)


def event(reviewer: str, kind: Kind, example_id: str = "a", answer: str | None = None, **changes: Any) -> NewEvent:
    """What a reviewer does."""
    given: dict[str, Any] = {"key": str(uuid.uuid4()), "task": TASK, "region": REGION}
    return NewEvent(
        **given | {"reviewer": reviewer, "kind": kind, "example_id": example_id, "answer": answer} | changes
    )


def judges_blind(
    db: FeedbackDatabase, reviewer: str, example_id: str = "a", answer: str | None = "Yes", queue: Queue = "audit"
) -> Event:
    """A reviewer is handed this example by a queue, and judges it."""
    assert retake(db, TASK, REGION, example_id, queue, reviewer) is not None
    return does(db, reviewer, "correct" if answer else "reject", example_id, answer, shown={"queue": queue})


def does(
    db: FeedbackDatabase,
    reviewer: str,
    kind: Kind,
    example_id: str = "a",
    answer: str | None = None,
    now: float | None = None,
    **changes: Any,
) -> Event:
    """A reviewer does it."""
    return record(db, event(reviewer, kind, example_id, answer, **changes), now)
