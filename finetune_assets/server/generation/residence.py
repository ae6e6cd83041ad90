"""Which base models are in memory: as many as fit, and those that were asked last.

Before a model is loaded, those that answer nothing now make room, first the one that has not been used for the longest
time. One in use never goes: if there is no room beside those, they begin no further answers until the new one has come
in. A model that is larger than all the room is loaded alone.
"""

from __future__ import annotations

import gc
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Model = TypeVar("Model")


@dataclass(eq=False)
class Resident(Generic[Model]):
    """A model that may be in memory. Used under the lock of its `Residence`."""

    size: Callable[[], int]
    """Bytes that it will need, as far as that is known before."""
    needs: int = 0
    """Bytes that it had when it was last loaded."""
    model: Model | None = None
    bytes: int = 0
    """What it has, or is about to have; 0 where it is not in memory."""
    n_open: int = 0
    """Requests that it is answering."""
    used: float = 0.0
    """When it last began or ended an answer."""


class Residence(Generic[Model]):
    """The models of one engine. Any thread may use it.

    Args:
        limit: bytes that all models may have together.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._residents: list[Resident[Model]] = []
        self._wanting: deque[Resident[Model]] = deque()
        """Those that want to be loaded, in the order they came."""
        self._changed = threading.Condition()

    @property
    def loaded(self) -> tuple[int, int]:
        """How many models are in memory, and their bytes."""
        with self._changed:
            sizes = [resident.bytes for resident in self._residents if resident.bytes]
        return len(sizes), sum(sizes)

    @property
    def n_wanting(self) -> int:
        """How many models wait for room."""
        return len(self._wanting)

    def add(self, size: Callable[[], int]) -> Resident[Model]:
        """Make a model known."""
        with self._changed:
            self._residents.append(resident := Resident(size))
        return resident

    def enter(self, resident: Resident[Model], load: Callable[[], Model], measure: Callable[[Model], int]) -> Model:
        """The model, loaded if it is not there, and kept until `leave`; by one thread for each model at a time."""
        size = resident.needs or resident.size()
        with self._changed:
            self._changed.wait_for(lambda: not self._others_want(resident))
            if resident.model is not None:
                self._begin(resident)
                return resident.model
            self._wanting.append(resident)
            self._changed.wait_for(lambda: self._wanting[0] is resident and self._has_room(resident, size))
            self._wanting.popleft()
            resident.bytes = max(size, 1)
            self._begin(resident)
            self._changed.notify_all()
        try:
            model = load()
        except BaseException:
            with self._changed:
                resident.bytes = 0
            self.leave(resident)
            raise
        with self._changed:
            resident.model = model
            resident.bytes = resident.needs = measure(model)
        _settle()
        return model

    def leave(self, resident: Resident[Model]) -> None:
        """Note that an answer has ended, or is wanted no more."""
        with self._changed:
            resident.n_open -= 1
            resident.used = time.monotonic()
            self._changed.notify_all()

    def _begin(self, resident: Resident[Model]) -> None:
        resident.n_open += 1
        resident.used = time.monotonic()

    def _others_want(self, resident: Resident[Model]) -> bool:
        return any(other is not resident for other in self._wanting) and resident.model is not None

    def _has_room(self, resident: Resident[Model], size: int) -> bool:
        """Let go of models that rest until there is room, or nothing is left but those in use."""
        while True:
            others = [other for other in self._residents if other.bytes and other is not resident]
            if not others or sum(other.bytes for other in others) + size <= self.limit:
                return True
            idle = [other for other in others if not other.n_open and other.model is not None]
            if not idle:
                return False
            longest = min(idle, key=lambda other: other.used)
            longest.model, longest.bytes = None, 0


def _settle() -> None:
    """Collect what was let go of, and let later collections pass over the million objects of torch and the models.

    A full collection would walk over them, and stop every thread for 0.2 seconds.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
