"""How far the asking is, in words."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from finetune_assets.provider.pace import Pace

SAY_EVERY_S = 10.0


@dataclass
class Progress:
    """Says from time to time how many questions are answered, how fast, and when the last one will be."""

    model: str
    pace: Pace
    total: int | None
    say: Callable[[str], None]
    answered: int = 0
    known: int = 0
    """Of those answered: found among earlier answers."""
    _began: float = field(default_factory=time.monotonic)
    _told: float = field(default_factory=time.monotonic)

    @property
    def due_s(self) -> float:
        """Seconds until something is to be said again."""
        return max(0.0, self._told + SAY_EVERY_S - time.monotonic())

    def show(self, answered: int, known: int) -> None:
        """Take the counts, and say them if it is time."""
        self.answered, self.known = answered, known
        if self.due_s == 0:
            self.tell()

    def tell(self) -> None:
        """Say how far it is."""
        self._told = time.monotonic()
        self.say(str(self))

    def __str__(self) -> str:
        total = "" if self.total is None else f" of {self.total:,}"
        parts = [f"{self.model} answered {self.answered:,}{total} questions"]
        if self.known:
            parts.append(f"{self.known:,} of them in an earlier run")
        new = self.answered - self.known
        if new and (rate := new / max(time.monotonic() - self._began, 1e-9)):
            parts.append(f"{rate:,.1f} a second")
            if self.total is not None and self.answered < self.total:
                parts.append(f"about {_duration((self.total - self.answered) / rate)} left")
        if pause := self.pace.pause_s:
            parts.append(f"the provider's rate limit holds all for {pause:.0f} s")
        elif self.pace.limit < self.pace.most:
            parts.append(f"{self.pace.limit} at once, as its rate limit allows")
        return ", ".join(parts)


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
