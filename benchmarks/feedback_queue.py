"""How long a reviewer waits for the next examples where 100,000 events are stored, in every queue, on both databases.

    python benchmarks/feedback_queue.py --events 100000 --items 50000

All items are of one region, as is worst for a queue; five reviewers have judged, skipped and commented so far, half of
it by one of them, who then takes two examples at a time from every queue, answers them, and takes the next. A sixth has
judged every item, so that a queue is looked through to its end for him. `take` must take less than 300 ms.
PostgreSQL is a real one, started for this, that writes to disk before it answers.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import time
import uuid
from collections.abc import Callable
from statistics import median
from typing import Any, get_args

from _databases import postgresql, sqlite
from sqlalchemy import insert, select, text

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.derived import rebuild
from finetune_assets.feedback.store.events import Kind, NewEvent, record
from finetune_assets.feedback.store.offers import ModelAnswer, ReviewItem, offer, offer_answers
from finetune_assets.feedback.store.queues import Queue, counts, progress, release, take
from finetune_assets.feedback.store.schema import events, items

TARGET_MS = 300.0
TASK, REGION = "cells", "mono"
REVIEWERS = ("ann", "bob", "cy", "dee", "eve")
SHARES = (0.5, 0.2, 0.1, 0.1, 0.1)
DONE = "fay"
"""Has judged everything."""
KINDS: tuple[Kind, ...] = ("accept", "correct", "reject", "skip", "comment")


DATABASES: dict[str, Callable[[], contextlib.AbstractContextManager[str]]] = {
    "sqlite": sqlite,
    "postgresql": postgresql,
}


def fill(db: FeedbackDatabase, n_items: int, n_events: int) -> None:
    """Offer the items and store the events, these by rows, as one after the other would take minutes.

    One event an item is of who has judged them all.
    """
    drawn = random.Random(0)
    given: dict[str, Any] = {"task": TASK, "region": REGION, "split": "train", "question": "Is this cell defective?"}
    given |= {"kind": "binary", "options": ("Yes", "No")}
    doubts = (None, None, None, "experts differ", "label error")
    labels = [drawn.choice(("Yes", "No")) for _ in range(n_items)]
    offered = (
        ReviewItem(**given, example_id=f"e{k}", content=f"c{k}", label=labels[k], doubt=drawn.choice(doubts))
        for k in range(n_items)
    )
    offer(db, TASK, REGION, offered)
    answers = (
        ModelAnswer(example_id=f"e{k}", model="ft:m", answer=drawn.choice(("Yes", "No")), probability=drawn.random())
        for k in range(n_items)
    )
    offer_answers(db, TASK, REGION, answers)
    with db.writing() as connection:
        rows = connection.execute(select(items.c.number, items.c.content).order_by(items.c.number)).all()
        drawn_ones = [event_row(drawn, *drawn.choice(rows)) for _ in range(n_events - n_items)]
        all_items = [event_row(drawn, *row) | {"reviewer": DONE, "kind": "accept", "answer": "Yes"} for row in rows]
        connection.execute(insert(events), [*drawn_ones, *all_items])
    rebuild(db)
    with db.writing() as connection:
        connection.execute(text("ANALYZE"))  # a server does so by itself while events come in one by one


def event_row(drawn: random.Random, item: int, content: str) -> dict[str, Any]:
    """Make one event of some reviewer on an item."""
    (kind,) = drawn.choices(KINDS, (60, 25, 5, 8, 2))
    (reviewer,) = drawn.choices(REVIEWERS, SHARES)
    answer = drawn.choice(("Yes", "No")) if kind in ("accept", "correct") else None
    row = {"key": str(uuid.UUID(int=drawn.getrandbits(128))), "item": item, "content": content, "shown": {}}
    return row | {"reviewer": reviewer, "kind": kind, "answer": answer, "at": time.time() - 1e5, "seconds": 4.0}


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Milliseconds, and what the call returns."""
    began = time.perf_counter()
    result = call()
    return 1000 * (time.perf_counter() - began), result


def answer(db: FeedbackDatabase, example_id: str, kind: Kind) -> None:
    """Ann answers an example."""
    key = str(uuid.uuid4())
    said = None if kind == "reject" else "Yes"
    record(
        db, NewEvent(key=key, task=TASK, region=REGION, example_id=example_id, reviewer="ann", kind=kind, answer=said)
    )


def work(db: FeedbackDatabase, queue: Queue, rounds: int) -> tuple[list[float], list[float], float, int]:
    """Let Ann work in a queue: milliseconds of every `take`, of every `record` and of `progress`, and what is left."""
    release(db, "ann")
    takes, records = [], []
    for number in range(rounds):
        milliseconds, taken = timed(lambda: take(db, TASK, REGION, queue, "ann"))
        takes.append(milliseconds)
        if taken:
            example_id = taken[0].item.example_id
            kind: Kind = "adjudicate" if queue == "conflicts" else "accept" if number % 3 else "reject"
            records.append(timed(lambda n=example_id, k=kind: answer(db, n, k))[0])
    milliseconds, seen = timed(lambda: progress(db, TASK, REGION, queue, "ann"))
    return takes, records, milliseconds, seen.left


def main() -> int:
    """Run what the command line asks for; exit code 1 if the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=30, help="examples answered in each queue (default 30)")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    arguments = parser.parse_args()
    slowest = 0.0
    for name in arguments.databases:
        with DATABASES[name]() as url, FeedbackDatabase(url) as db:
            milliseconds, _ = timed(lambda: fill(db, arguments.items, arguments.events))
            print(f"{name}: {arguments.items:,} items, {arguments.events:,} events ({milliseconds / 1000:.0f} s)")
            milliseconds, _ = timed(lambda: counts(db, TASK, REGION, "ann"))
            print(f"counts of all queues: {milliseconds:.1f} ms")
            print(
                "queue              left  take, median  take, slowest  take, emptied  record, median  progress   (ms)"
            )
            for queue in get_args(Queue):
                takes, records, seen, left = work(db, queue, arguments.rounds)
                emptied, _ = timed(lambda q=queue: take(db, TASK, REGION, q, DONE))
                slowest = max(slowest, emptied, *takes)
                print(
                    f"{queue:15} {left:7,}  {median(takes):12.1f}  {max(takes):13.1f}  {emptied:13.1f}"
                    f"  {median(records or [0]):14.1f}  {seen:8.1f}",
                    flush=True,
                )
    return 0 if slowest < TARGET_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
