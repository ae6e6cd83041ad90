"""How many questions a provider takes at once, learned from what it refuses.

The rule is TCP's: each round of answers allows one more at a time, each refusal only half as many. What a provider asks
one request to wait (`Retry-After`) holds all of them: they share its limit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Pace:
    """Gives turns to at most `most` requests at once, within one event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._limit = float(most)
        self._running = 0
        self._resume_at = self._slowed_at = -1.0
        self._freed = asyncio.Condition()
        self.refusals = 0
        """Slow-downs since the last answer."""

    @property
    def limit(self) -> int:
        """How many may run at once now."""
        return int(self._limit)

    @property
    def pause_s(self) -> float:
        """Seconds until the next request may be sent."""
        return max(0.0, self._resume_at - time.monotonic())

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Wait for a turn, and give the moment at which it began."""
        async with self._freed:
            await self._freed.wait_for(lambda: self._running < self.limit)
            self._running += 1
        try:
            while (pause := self.pause_s) > 0:
                await asyncio.sleep(pause)
            yield time.monotonic()
        finally:
            self._running -= 1
            async with self._freed:
                self._freed.notify(max(0, self.limit - self._running))

    def answered(self) -> None:
        """Note that a request was answered."""
        self.refusals = 0
        self._limit = min(float(self.most), self._limit + 1 / self._limit)

    def refused(self, began: float, pause_s: float) -> None:
        """Note that a request of the turn that began then was one too many; all wait for `pause_s` seconds.

        Those that were under way when the last one was refused are refused for the same reason: they count as one.
        """
        now = time.monotonic()
        self._resume_at = max(self._resume_at, now + pause_s)
        if began > self._slowed_at:
            self._slowed_at = now
            self._limit = max(1.0, self._limit / 2)
            self.refusals += 1
