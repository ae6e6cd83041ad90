"""The name under which a task knows a region that the data spells in its own way."""

from __future__ import annotations

import re


def region_name(text: object) -> str:
    """`R2A` becomes `r2a`, `Left lung` becomes `left-lung`: lower case, other characters joined by hyphens.

    Empty where nothing of the text can be part of a name.
    """
    return re.sub(r"[^a-z0-9_.]+", "-", str(text).strip().lower()).strip("-_.")
