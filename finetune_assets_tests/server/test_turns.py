"""Turns: each owner's things in their order, and nobody behind all of another's."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_assets.server.turns import Room, TurnQueue, Turns


def turns(*waiting: str) -> Turns[str]:
    """`a1` is the first thing of the owner a."""
    made: Turns[str] = Turns()
    for item in waiting:
        made.add(item[0], item)
    return made


def drained(held: Turns[str]) -> list[str]:
    return [held.pop() for _ in range(len(held))]


def test_owners_are_served_in_turn() -> None:
    held = turns("a1", "a2", "a3", "b1", "c1", "b2")
    assert list(held) == drained(held) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    with pytest.raises(LookupError, match="nobody waits"):
        held.pop()


def test_whoever_was_served_comes_after_one_who_has_just_come() -> None:
    held = turns("a1", "a2", "a3")
    held.pop()
    held.add("b", "b1")
    assert drained(held) == ["a2", "b1", "a3"]


def test_what_was_begun_before_comes_before_the_rest_of_its_owner_only() -> None:
    held = turns("a1", "b1", "b2")
    held.add("b", "b0", first=True)
    assert drained(held) == ["a1", "b0", "b1", "b2"]


def test_several_are_taken_out_at_once_and_their_owners_go_to_the_end() -> None:
    held = turns("a1", "a2", "b1", "c1")
    held.take(["a1", "b1"])
    assert list(held) == ["c1", "a2"]
    held.keep(lambda item: item != "a2")
    assert list(held) == ["c1"]


def test_whoever_has_least_may_be_preferred() -> None:
    held = turns("a1", "b1", "c1")
    assert held.prefer(lambda owner: {"a": 2, "b": 1, "c": 1}[owner]) == "b"
    assert drained(held) == ["b1", "a1", "c1"]
    assert held.prefer(len) is None


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())))
def test_nothing_is_lost_and_no_owner_is_passed_over(steps: list[tuple[str, bool]]) -> None:
    held: Turns[str] = Turns()
    out: list[str] = []
    for number, (owner, take) in enumerate(steps):
        held.add(owner, f"{owner}{number}")
        if take:
            out.append(held.pop())
    rest = list(held)
    assert drained(held) == rest
    for owner in "abc":
        wanted = [f"{owner}{number}" for number, (other, _) in enumerate(steps) if other == owner]
        assert [item for item in out + rest if item[0] == owner] == wanted
    for place, item in enumerate(rest):
        others = {other[0] for other in rest[place:]}
        assert len(set(rest[place : place + len(others)])) == len({i[0] for i in rest[place : place + len(others)]}), (
            item
        )


def test_a_queue_between_threads_has_turns() -> None:
    waiting: TurnQueue[str] = TurnQueue(lambda item: item[0])
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.extend(waiting.get() for _ in range(4)))
    for item in ("a1", "a2", "a3", "b1"):
        waiting.put(item)
    assert waiting.qsize() == 4
    thread.start()
    thread.join()
    assert found == ["a1", "b1", "a2", "a3"]


def test_of_a_room_nobody_has_more_than_his_share_and_whoever_is_next_is_not_passed() -> None:
    async def play() -> list[str]:
        room, done = Room(4, each=3), []

        async def ask(name: str, size: int) -> None:
            async with room.taken(name[0], size):
                done.append(name)
                await asyncio.sleep(0.01)

        tasks = [asyncio.create_task(ask(*one)) for one in (("a1", 3), ("a2", 1), ("b1", 2), ("b2", 1), ("c1", 1))]
        await asyncio.sleep(0.005)
        assert done == ["a1"], "b1 is next and does not fit; what is smaller waits behind it"
        await asyncio.gather(*tasks)
        return done

    assert asyncio.run(play()) == ["a1", "a2", "b1", "c1", "b2"]


def test_whoever_stops_waiting_takes_nothing_along() -> None:
    async def play() -> None:
        room = Room(1)
        await room.take("a", 1)
        gone = asyncio.create_task(room.take("b", 1))
        await asyncio.sleep(0)
        late = asyncio.create_task(room.take("c", 1))
        await asyncio.sleep(0)
        gone.cancel()
        room.give_back("a", 1)
        late.cancel()  # in the same moment in which it was let in
        for task in (gone, late):
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.wait_for(room.take("d", 1), 1)

    asyncio.run(play())
