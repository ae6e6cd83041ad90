"""Which model answers for a region, as the asset `champion` left it."""

from __future__ import annotations

import orjson

from finetune_assets.evaluation.promotion import Standing
from finetune_assets.results.region import Region


def standing(region: Region) -> Standing:
    """Return the region's champions until now; none before its first model was evaluated."""
    path = region.path("champion", ".json")
    return Standing.from_dict(orjson.loads(path.read_bytes())) if path.exists() else Standing()
