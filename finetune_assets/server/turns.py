"""Turns: of several who wait, nobody waits for all that another one has asked for."""

from __future__ import annotations

import asyncio
import queue
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """A queue in which owners are served in turn, and what one owner has put in, in its order."""

    def __init__(self) -> None:
        self._queues: OrderedDict[str, deque[Item]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[Item]:
        """Go through the items as they would be served."""
        rest = [iter(held) for held in self._queues.values()]
        while rest:
            going = []
            for items in rest:
                for item in items:
                    yield item
                    going.append(items)
                    break
            rest = going

    def add(self, owner: str, item: Item, *, first: bool = False) -> None:
        """Queue an item; `first` before all others of its owner."""
        held = self._queues.setdefault(owner, deque())
        held.appendleft(item) if first else held.append(item)

    def pop(self) -> Item:
        """Take the next item.

        Raises:
            LookupError: there is none.
        """
        for owner, held in self._queues.items():
            item = held.popleft()
            self._queues.move_to_end(owner)
            if not held:
                del self._queues[owner]
            return item
        raise LookupError("nobody waits")

    def take(self, chosen: Collection[Item]) -> None:
        """Take these items out; their owners are served again after all others."""
        for owner, held in list(self._queues.items()):
            left = deque(item for item in held if item not in chosen)
            if len(left) < len(held):
                self._queues.move_to_end(owner)
            self._put_back(owner, left)

    def prefer(self, cost: Callable[[str], int]) -> str | None:
        """Let the owner of the least cost be next, and return who that is; None if nobody waits."""
        if not self._queues:
            return None
        owner = min(self._queues, key=cost)
        self._queues.move_to_end(owner, last=False)
        return owner

    def keep(self, wanted: Callable[[Item], bool]) -> None:
        """Forget all other items."""
        for owner, held in list(self._queues.items()):
            self._put_back(owner, deque(filter(wanted, held)))

    def _put_back(self, owner: str, held: deque[Item]) -> None:
        if held:
            self._queues[owner] = held
        else:
            del self._queues[owner]


class TurnQueue(queue.Queue[Item], Generic[Item]):
    """`Turns` between threads."""

    def __init__(self, owner_of: Callable[[Item], str]) -> None:
        self._owner_of = owner_of
        super().__init__()

    def _init(self, maxsize: int) -> None:
        del maxsize
        self._turns: Turns[Item] = Turns()

    def _qsize(self) -> int:
        return len(self._turns)

    def _put(self, item: Item) -> None:
        self._turns.add(self._owner_of(item), item)

    def _get(self) -> Item:
        return self._turns.pop()


class Room:
    """Something of which there is so much, handed out in turn. For one event loop.

    Args:
        size: how much there is.
        each: how much one owner may have of it; less than all, there is always some for another one.
    """

    def __init__(self, size: int, each: int | None = None) -> None:
        self._left, self._each = size, size if each is None else each
        self._held: Counter[str] = Counter()
        self._waiting: Turns[tuple[str, int, asyncio.Future[None]]] = Turns()

    @asynccontextmanager
    async def taken(self, owner: str, size: int) -> AsyncIterator[None]:
        """Hold some of it for a while; wait for it if need be. `size` is at most what one owner may have."""
        await self.take(owner, size)
        try:
            yield
        finally:
            self.give_back(owner, size)

    async def take(self, owner: str, size: int) -> None:
        """Wait for some of it, and hold it until `give_back`."""
        granted = asyncio.get_running_loop().create_future()
        waiting = (owner, size, granted)
        self._waiting.add(owner, waiting)
        self._grant()
        try:
            await granted
        except asyncio.CancelledError:
            if granted.cancelled():
                self._waiting.keep(lambda other: other is not waiting)
                self._grant()
            else:
                self.give_back(owner, size)
            raise

    def give_back(self, owner: str, size: int) -> None:
        """Let others have it."""
        self._left += size
        self._held[owner] -= size
        if not self._held[owner]:
            del self._held[owner]
        self._grant()

    def _grant(self) -> None:
        for owner, size, granted in list(self._waiting):
            if granted.done() or self._held[owner] + size > self._each:
                continue
            if size > self._left:
                return  # whoever is next waits for it, lest smaller ones always come before
            self._left -= size
            self._held[owner] += size
            granted.set_result(None)
            self._waiting.take([(owner, size, granted)])
