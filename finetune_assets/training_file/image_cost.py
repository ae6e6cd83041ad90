"""How many tokens an image costs, by the model that looks at it.

Source: OpenAI's guide "Images and vision", section "Calculating costs" (developers.openai.com/api/docs/guides/
images-vision, read 2026-11-21), and for detail `low` in training the vision fine-tuning guide (read 2026-06-27).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LOW_DETAIL_TOKENS = 85
"""An image at detail low in training, on every model that counts tiles."""
_MAX_PATCHES = 1536


@dataclass(frozen=True, slots=True)
class Tiles:
    """The image is fitted into 2048 x 2048, then its shorter side into 768; each 512 px tile adds to a base."""

    base: int
    each: int

    def tokens(self, detail: str, width: int, height: int) -> int:
        """Tokens of an image of `width` x `height` pixels; `auto` counts as `high`."""
        if detail == "low":
            return LOW_DETAIL_TOKENS
        scale = min(1, 2048 / max(width, height))
        scale *= min(1, 768 / (min(width, height) * scale))
        # A side that comes out as 512.0000001 is still one tile.
        across, down = (max(1, math.ceil(side * scale / 512 - 1e-9)) for side in (width, height))
        return self.base + self.each * across * down


@dataclass(frozen=True, slots=True)
class Patches:
    """Patches of 32 px, at most 1536, times a factor, whatever the detail."""

    factor: float

    def tokens(self, _detail: str, width: int, height: int) -> int:
        """Tokens of an image of `width` x `height` pixels."""
        return math.ceil(min(math.ceil(width / 32) * math.ceil(height / 32), _MAX_PATCHES) * self.factor)


_COSTS: dict[str, Tiles | Patches] = {  # by how a model's name begins, the longest first
    "gpt-4.1-mini": Patches(1.62),
    "gpt-4.1-nano": Patches(2.46),
    "gpt-4o-mini": Tiles(2833, 5667),
    "o4-mini": Patches(1.72),
    "gpt-5": Tiles(70, 140),
    "o1": Tiles(75, 150),
    "o3": Tiles(75, 150),
}
_OTHERWISE = Tiles(85, 170)
"""gpt-4o and gpt-4.1; unknown models count as these."""


def image_cost(model: str) -> Tiles | Patches:
    """How a model counts images."""
    return next((cost for begin, cost in _COSTS.items() if model.startswith(begin)), _OTHERWISE)
