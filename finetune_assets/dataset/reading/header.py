"""The columns of a table: which of them a task means, and what is said where one is not there."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from upath import UPath

from finetune_assets.errors import SourceError

_FULL = 0.6
"""Share of the cells that records usually fill which a header has at least: columns may be without a name."""
_UNSEEN = dict.fromkeys(map(ord, "\ufeff\u200b\u200c\u200d\u2060\u00ad"))


def plain(name: object) -> str:
    """Return a column's name as people see it: one spelling of each letter, single blanks, nothing invisible."""
    return " ".join(unicodedata.normalize("NFC", str(name)).translate(_UNSEEN).split())


def root(name: str, found: Collection[str]) -> str:
    """Return the table's own column in which `a.b` is looked for."""
    return name if name in found else name.split(".", 1)[0]


def as_asked(names: Iterable[object], asked: Iterable[str]) -> list[str]:
    """Return a table's columns by the names a task uses: as it spells them, where they look the same."""
    spelled = {plain(part): part for name in asked for part in (name.split(".", 1)[0], name)}
    return [spelled.get(name, name) for name in map(plain, names)]


def holds_all(found: Collection[str], needed: Iterable[str]) -> bool:
    """Return whether a table has all the columns."""
    return all(root(column, found) in found for column in needed)


def require(path: UPath, needed: Iterable[str], found: Sequence[str], advice: str = "") -> None:
    """Refuse a table that lacks a column, or has one twice.

    Raises:
        SourceError: so it is; the message names the columns that are there, and the nearest spelling.
    """
    named = [name for name in found if name]
    if missing := [column for column in needed if root(column, found) not in found]:
        near = ", ".join(map(repr, _nearest(missing, named)))
        meant = f" Did you mean {near}?" if near else ""
        remedy = advice or "Name those that are meant under `source` in the task's YAML file"
        lacks = f"the table lacks the columns {', '.join(missing)}; it has {_some(named)}."
        raise SourceError(f"{path}: {lacks}{meant} {remedy}")
    twice = [column for column in needed if found.count(root(column, found)) > 1]
    if twice:
        places = [str(place) for place, name in enumerate(found, 1) if name == root(twice[0], found)]
        raise SourceError(
            f"{path}: the columns {' and '.join(places)} are both called {twice[0]!r}; give each a name of its own"
        )


def _nearest(missing: Iterable[str], found: Iterable[str]) -> list[str]:
    """The names that look most like the missing ones, each once."""
    by_letters = {name.casefold(): name for name in found}
    near = (difflib.get_close_matches(name.casefold(), by_letters, 1, cutoff=0.6) for name in missing)
    return list(dict.fromkeys(by_letters[match] for matches in near for match in matches))


def _some(names: Sequence[str], most: int = 30) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}" if names else "none"


def first_full(n_filled: Sequence[int]) -> int:
    """Return which of a table's first rows is the header, by how many cells of each are filled, where nobody asks.

    A title, remarks and what was exported when stand above the header in few cells; the records below it fill most.
    """
    counts = sorted(filter(None, n_filled))
    usual = counts[len(counts) // 2] if counts else 0
    return next((at for at, n in enumerate(n_filled) if n and n >= _FULL * usual), 0)
