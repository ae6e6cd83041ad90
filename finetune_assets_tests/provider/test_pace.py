"""How many questions are asked at once."""

from __future__ import annotations

import asyncio
import time

from finetune_assets.provider.pace import Pace


def test_many_refusals_at_once_halve_the_limit_once() -> None:
    pace = Pace(64)
    began = time.monotonic()
    for _ in range(64):
        pace.refused(began, 0)
    assert (pace.limit, pace.refusals) == (32, 1)


def test_a_refusal_of_what_was_sent_since_halves_it_again() -> None:
    pace = Pace(64)
    pace.refused(time.monotonic(), 0)
    pace.refused(time.monotonic(), 0)
    assert (pace.limit, pace.refusals) == (16, 2)


def test_one_at_a_time_is_always_allowed() -> None:
    pace = Pace(2)
    for _ in range(9):
        pace.refused(time.monotonic(), 0)
    assert pace.limit == 1


def test_a_round_of_answers_allows_one_more_up_to_the_most() -> None:
    # 4 + 1/4 + 1/4.25 + 1/4.49 + 1/4.71 = 4.92; one more answer makes it 5.12.
    pace = Pace(8)
    pace.refused(time.monotonic(), 0)
    for limit in (4, 4, 4, 4, 5):
        pace.answered()
        assert pace.limit == limit
    for _ in range(100):
        pace.answered()
    assert (pace.limit, pace.refusals) == (8, 0)


def test_the_longest_pause_holds_all() -> None:
    pace = Pace(8)
    pace.refused(time.monotonic(), 5)
    pace.refused(time.monotonic(), 1)
    assert 1 < pace.pause_s <= 5


def test_no_more_turns_are_given_than_the_limit_allows() -> None:
    pace = Pace(4)
    pace.refused(time.monotonic(), 0)
    running, most = 0, 0

    async def work() -> None:
        nonlocal running, most
        async with pace.turn():
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.001)
            running -= 1

    async def all_of_it() -> None:
        await asyncio.gather(*(work() for _ in range(20)))

    asyncio.run(all_of_it())
    assert most == 2
