"""How many requests are worked on at once: of each key so many, and of large bodies what fits into memory together.

What one key sends beyond that is not read until something of its own is done, so it holds nobody else up.
"""

from __future__ import annotations

from typing import Literal

from finetune_assets.server.turns import Room

SMALL_BYTES = 1 << 20
"""Bodies up to this size do not count."""
BODIES_BYTES = 130 << 20
"""Of large bodies at once, two of the largest. A body becomes up to six times as much once it is parsed."""
Kind = Literal["asking", "looking", "changing"]
AT_ONCE: dict[Kind, int] = {"asking": 256, "looking": 64, "changing": 32}
"""Requests of one key: for completions, which the engine gives turns of its own, and those that read or change."""


class Places:
    """Lets requests in, and lines of batches. For one event loop."""

    def __init__(self) -> None:
        self.bodies = Room(BODIES_BYTES, each=BODIES_BYTES // 2)
        """Memory for large bodies, in bytes."""
        self._of_key: dict[tuple[str, Kind], Room] = {}

    def of(self, owner: str, kind: Kind) -> Room:
        """Places of a key, in requests."""
        return self._of_key.setdefault((owner, kind), Room(AT_ONCE[kind]))


def weight(size: int) -> int:
    """Return how much of `Places.bodies` a body of so many bytes takes."""
    return size if size > SMALL_BYTES else 0
