"""Fills `{{name}}` in a text, and nothing more: of the template languages of others only what runs no code."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from finetune_assets.dataset.json_lines import kind
from finetune_assets.errors import CaseError

_NAME = re.compile(r"\{\{-?\s*([A-Za-z_]\w*(?:\.\w+)*)\s*-?\}\}")
_OTHER = re.compile(r"\{\{.{0,60}|\{[%#].{0,60}", re.DOTALL)


def names_in(template: str) -> list[str]:
    """List the names that a text has filled in, `item.label` for `{{ item.label }}`."""
    return _NAME.findall(template)


def fill(template: str, values: Mapping[str, Any]) -> str:
    """Put values in place of their names.

    Args:
        template: A text; `{{a.b}}` is the entry `b` of the object `a`.
        values: By name.

    Raises:
        CaseError: a name has no value or one that is no text, number or boolean, or the text has more than names.
    """
    if other := _OTHER.search(_NAME.sub("", template)):
        raise CaseError(f"has {other[0]!r}, and only names are filled in, as in {{{{name}}}}")
    return _NAME.sub(lambda match: plain(value_of(match[1], values), match[1]), template)


def value_of(name: str, values: Mapping[str, Any]) -> Any:
    """Look up `a.b`.

    Raises:
        CaseError: there is nothing under this name.
    """
    found: Any = values
    for part in name.split("."):
        if isinstance(found, list) and part.isdigit() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, Mapping) and found.get(part) is not None:
            found = found[part]
        else:
            raise CaseError(f"has nothing under {name}")
    return found


def plain(value: Any, name: str) -> str:
    """Write a value as templates do: `true`, and 3 for 3.0.

    Raises:
        CaseError: it is something else, such as an object or a list.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float) and math.isfinite(value):
        return str(int(value)) if value == int(value) else repr(value)
    if not isinstance(value, str):
        raise CaseError(f"{name} must be a text, a number or a boolean, found {kind(value)}")
    return value


def is_template(text: str) -> bool:
    """Whether something would be filled in."""
    return bool(_NAME.search(text) or _OTHER.search(text))
