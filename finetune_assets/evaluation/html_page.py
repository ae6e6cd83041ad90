"""Pages that load nothing from elsewhere: a template with the colours that all of them share."""

from __future__ import annotations

from pathlib import Path
from string import Template


def fill(template: Path, **fields: str | int) -> str:
    """Fill a page's fields, which are HTML already, and its `$style`."""
    style = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
    return Template(template.read_text(encoding="utf-8")).substitute(fields, style=style)
