"""Many reviewers at once: nothing is lost, nothing is doubled, and nobody gets another's example.

`FEEDBACK_EVENTS=10000` stores as many events, by 16 writers in 2 processes, instead of the first few, and
`FEEDBACK_KILLS=30` kills a writer as often.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest
from sqlalchemy import select

from finetune_assets.feedback.store.database import FeedbackDatabase
from finetune_assets.feedback.store.decisions import newest_event
from finetune_assets.feedback.store.events import record
from finetune_assets.feedback.store.queues import take
from finetune_assets.feedback.store.schema import events
from finetune_assets_tests.feedback.store.builders import REGION, TASK, event, offer_names
from finetune_assets_tests.feedback.store.derived_rows import assert_rebuilt_equal

EVENTS = int(os.environ.get("FEEDBACK_EVENTS", "160"))
KILLS = int(os.environ.get("FEEDBACK_KILLS", "2"))
PROCESSES, THREADS = 2, 8
NAMES = [f"e{k}" for k in range(100)]
SPAWN = multiprocessing.get_context("spawn")


def by_all_writers(work: Callable[[FeedbackDatabase, int], list[str]], address: str) -> list[list[str]]:
    """Let 16 writers work at once, 8 in each process; what each says."""
    with ProcessPoolExecutor(PROCESSES, SPAWN) as pool:
        results = pool.map(in_threads, [work] * PROCESSES, [address] * PROCESSES, range(PROCESSES))
        return [said for process in results for said in process]


def in_threads(work: Callable[[FeedbackDatabase, int], list[str]], address: str, process: int) -> list[list[str]]:
    with FeedbackDatabase(address) as db, ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, [db] * THREADS, range(process * THREADS, (process + 1) * THREADS)))


def write(db: FeedbackDatabase, writer: int) -> list[str]:
    """Store events of a writer's own, every tenth of which is sent twice; their keys."""
    drawn, keys = random.Random(writer), []
    for number in range(EVENTS // (PROCESSES * THREADS)):
        said = event(f"w{writer}", "correct", drawn.choice(NAMES), drawn.choice(("Yes", "No")))
        for _ in range(1 + (number % 10 == 0)):
            keys.append(record(db, said).key)
    return sorted(set(keys))


def take_all(db: FeedbackDatabase, taker: int) -> list[str]:
    """Take until nothing is left, without giving anything back; what was taken."""
    taken: list[str] = []
    while len(found := take(db, TASK, REGION, "audit", f"t{taker}", n=len(taken) + 2)) > len(taken):
        taken = [each.item.example_id for each in found]
    return taken


def write_on(address: str, acknowledged: Connection) -> None:
    """Store events for ever, and tell the key of each as soon as it is stored."""
    with FeedbackDatabase(address) as db:
        while True:
            acknowledged.send(record(db, event("w", "accept", random.choice(NAMES), "Yes")).key)


@pytest.fixture
def address_with_items(address: str) -> str:
    with FeedbackDatabase(address) as db:
        offer_names(db, " ".join(NAMES), split="test")
    return address


def stored_keys(db: FeedbackDatabase) -> list[str]:
    with db.reading() as connection:
        return sorted(connection.scalars(select(events.c.key)))


def test_sixteen_writers_lose_nothing_and_double_nothing(address_with_items: str) -> None:
    keys = by_all_writers(write, address_with_items)
    with FeedbackDatabase(address_with_items) as db:
        assert stored_keys(db) == sorted(key for of_writer in keys for key in of_writer)
        assert sum(map(len, keys)) == EVENTS // 16 * 16
        assert newest_event(db, TASK, REGION) == EVENTS // 16 * 16, "numbers have no gaps"
        assert_rebuilt_equal(db)


def test_sixteen_takers_never_have_the_same_example(address_with_items: str) -> None:
    taken = Counter(name for of_taker in by_all_writers(take_all, address_with_items) for name in of_taker)
    assert taken == Counter(NAMES)


def test_a_writer_that_is_killed_loses_nothing_that_was_acknowledged(address_with_items: str) -> None:
    acknowledged: list[str] = []
    for _ in range(KILLS):
        here, there = SPAWN.Pipe(duplex=False)
        writer = SPAWN.Process(target=write_on, args=(address_with_items, there))
        writer.start()
        there.close()
        acknowledged.append(here.recv())
        time.sleep(random.uniform(0, 0.3))
        writer.kill()
        try:
            while True:
                acknowledged.append(here.recv())
        except EOFError:
            writer.join()
    with FeedbackDatabase(address_with_items) as db:
        stored = stored_keys(db)
        assert len(set(stored)) == len(stored)
        assert set(acknowledged) <= set(stored)
        assert len(stored) <= len(acknowledged) + KILLS, "but for the one under way at each kill"
        assert_rebuilt_equal(db)
        assert record(db, event("ann", "accept", NAMES[0], "Yes", key=str(uuid.uuid4())))
