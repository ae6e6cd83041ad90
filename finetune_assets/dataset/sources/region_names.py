"""The name under which a task knows a region that the data spells in its own way."""

from __future__ import annotations

import re
from functools import lru_cache


def region_name(text: object) -> str:
    """`R2A` becomes `r2a`, `Left lung` becomes `left-lung`: lower case, other characters joined by hyphens.

    At most 64 characters. Empty where nothing of the text can be part of a name.
    """
    return "" if text is None else _region_name(str(text))


@lru_cache(1024)
def _region_name(text: str) -> str:
    name = re.sub(r"[^a-z0-9_.]+", "-", text.strip().lower())
    return name.strip("-_.")[:64].rstrip("-_.")


def region_matched(pattern: str, text: str) -> str:
    """Name the region by the first group of the pattern that takes part in its first match; "" without a match."""
    match = re.search(pattern, text)
    return region_name(matched(match)) if match else ""


def matched(match: re.Match[str]) -> str:
    """Return the first group that took part in a match; "" where none did."""
    return next((group for group in match.groups() if group is not None), "")
